"""What the remotes stand for, and in which order it is tried."""

import ipaddress
import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tap2tap.endpoint import Endpoint
from tap2tap.supervisor.candidates import Literal, in_order, interleave
from tests.support.endpoints import endpoints

found = st.lists(endpoints(local=False), max_size=12, unique=True)
LINK_LOCAL = Endpoint(ipaddress.ip_address("fe80::1"), 1234)


@given(found)
def test_versions_come_by_turns_and_nothing_else_changes(before: list[Endpoint]) -> None:
    after = interleave(before)
    assert Counter(after) == Counter(before)
    assert after[:1] == before[:1]
    of = [[each for each in before if each.address.version == version] for version in (4, 6)]
    for version, kind in zip((4, 6), of, strict=True):
        assert [each for each in after if each.address.version == version] == kind
    pairs = itertools.pairwise(after[: 2 * min(map(len, of))])
    assert all(one.address.version != two.address.version for one, two in pairs)


@given(st.lists(found, max_size=5), st.integers(1, 20))
def test_the_preferred_remote_comes_first_and_each_has_a_share(remotes: list[list[Endpoint]], most: int) -> None:
    ordered = in_order(remotes, most)
    assert len(ordered) <= most
    assert len({*ordered}) == len(ordered)
    assert [*ordered] == sorted(ordered, key=lambda each: next(n for n, some in enumerate(remotes) if each in some))
    if len(remotes) <= most:
        assert all(interleave(some)[0] in ordered for some in remotes if some)


def test_an_interface_that_is_not_there_is_waited_for() -> None:
    assert Literal(LINK_LOCAL, "nowhere0").known == ()
    assert Literal(LINK_LOCAL, "lo").known == (LINK_LOCAL._replace(scope=1),)
    assert Literal(LINK_LOCAL, "7").known == (LINK_LOCAL._replace(scope=7),)
