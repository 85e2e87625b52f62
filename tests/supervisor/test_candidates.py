"""What the remotes stand for, and in which order it is tried."""

import ipaddress
import itertools
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tap2tap.demo.lab import Lab
from tap2tap.endpoint import Endpoint
from tap2tap.supervisor.candidates import in_order, interleave, is_own
from tap2tap.supervisor.remote import Literal
from tap2tap.udp_socket import open_socket

SOME = [Endpoint(ipaddress.ip_address(f"{net}{number}"), 1234) for net in ("192.0.2.", "fd00::") for number in range(7)]
found = st.lists(st.sampled_from(SOME), max_size=9, unique=True)
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


@given(st.permutations(SOME), st.lists(st.integers(0, 4), max_size=4), st.integers(1, 20))
def test_the_preferred_remote_comes_first_and_each_has_a_share(some: list[Endpoint], cut: list[int], most: int) -> None:
    rest = iter(some)
    remotes = [list(itertools.islice(rest, number)) for number in cut]
    ordered = in_order(remotes, most)
    assert len(ordered) <= most
    assert ordered == sorted(ordered, key=lambda each: [each in remote for remote in remotes], reverse=True)
    if len(remotes) <= most:
        assert all(interleave(remote)[0] in ordered for remote in remotes if remote)
    assert in_order([*remotes, *remotes], 2 * most)[: len(ordered)] == ordered


def test_an_interface_that_is_not_there_is_waited_for() -> None:
    assert Literal(LINK_LOCAL, "nowhere0").known == ()
    assert Literal(LINK_LOCAL, "lo").known == (LINK_LOCAL._replace(scope=1),)
    assert Literal(LINK_LOCAL, "7").known == (LINK_LOCAL._replace(scope=7),)


def test_an_address_of_this_host_and_our_port_are_ourselves(lab: Lab) -> None:
    def at(host: str, port: int = 1234) -> Endpoint:
        return Endpoint(ipaddress.ip_address(host), port)

    ours, theirs = [at(lab.left.ipv4), at("127.0.0.1"), at("127.0.0.7")], [at(lab.right.ipv4), at("192.0.2.1")]
    with lab.left.inside():
        with open_socket(None, 1234) as sock:
            assert [each for each in ours + theirs if is_own(sock, each)] == ours
            assert not is_own(sock, at(lab.left.ipv4, 1235))
            Path("/proc/sys/net/ipv4/ip_nonlocal_bind").write_text("1")
            assert not is_own(sock, theirs[0])
        with open_socket(lab.left.ipv4, 1234) as sock:
            assert [each for each in ours + theirs if is_own(sock, each)] == ours[:1]
