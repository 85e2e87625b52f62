"""Bounded memories."""

from tap2tap.protocols.secure.recent import Seen, Sparingly


def test_what_is_remembered_is_bounded() -> None:
    seen = Seen(10)
    for number in range(1000):
        assert seen.add(bytes([number % 256, number // 256]))
    assert sum(bytes([number % 256, number // 256]) in seen for number in range(1000)) == 10
    assert not seen.add(bytes([999 % 256, 999 // 256]))
    assert seen.add(bytes([0, 0]))


def test_a_kind_of_line_is_let_through_once_in_an_interval() -> None:
    limiter = Sparingly(interval=10.0)
    assert [limiter.allows(now, "one") for now in (5.0, 14.9, 15.0, 15.1)] == [True, False, True, False]
    assert limiter.allows(5.1, "other")
