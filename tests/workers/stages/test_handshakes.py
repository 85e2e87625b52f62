"""What the inbound worker does with datagrams of the handshake: only what the peer made reaches the link, once."""

import os

import pytest

from tap2tap.protocols.secure.limits import WAITING
from tap2tap.protocols.secure.mac import MAC_LENGTH
from tap2tap.protocols.secure.mailbox import Handshake, Order, Task
from tests.support.pair import THERE, Pair, challenge, initiation, numbered, pair, response

OTHER_KEY = bytes(32)


def passed(both: Pair) -> list[bytes]:
    """What has reached the link."""
    found: list[bytes] = []
    while notices := both.notices():
        found += [each.datagram for each in notices if isinstance(each, Handshake)]
    return found


def flipped(datagram: bytes, bit: int) -> bytes:
    """The datagram with one bit changed."""
    number = int.from_bytes(datagram, "little") ^ 1 << bit
    return number.to_bytes(len(datagram), "little")


@pytest.mark.parametrize("make", [initiation, response])
def test_what_has_the_peers_mac_passes_and_nothing_that_differs_in_a_bit(make: type) -> None:
    with pair(7) as both:
        genuine = make(1)
        bits = range(0, 8 * len(genuine), 7)
        for bit in bits:
            both.opened([flipped(genuine, bit)], THERE)
        assert passed(both) == []
        both.opened([genuine], THERE)
        assert passed(both) == [genuine]


def test_forged_ones_cost_no_message_and_leave_the_channel_to_genuine_ones() -> None:
    with pair(7) as both:
        for number in range(200):
            both.opened([b"\1\0\0\0" + os.urandom(96) for _ in range(20)], THERE)
            both.opened([initiation(number, OTHER_KEY), response(number, OTHER_KEY)], THERE)
        both.opened([initiation(1)], THERE)
        assert passed(both) == [initiation(1)]
        assert both.drops == {"AUTHENTICATION": 200 * 22}
        frames = numbered(80)
        assert both.opened(both.sealed(frames)) == frames


def test_a_recording_that_is_played_again_is_passed_on_once() -> None:
    with pair(7) as both:
        both.opened([initiation(1), response(1)], THERE)
        for _ in range(50):
            both.opened([initiation(1), response(1)], THERE)
        assert passed(both) == [initiation(1), response(1)]
        assert both.drops == {"REPLAY": 100}


def test_where_the_channel_is_full_the_rest_is_dropped_and_may_come_again() -> None:
    with pair(7) as both:
        many = [initiation(number) for number in range(1000)]
        both.opened(many, THERE)
        first = passed(both)
        assert 0 < len(first) < len(many)
        assert first == many[: len(first)]
        assert both.drops == {"NO_BUFFERS": len(many) - len(first)}
        again = many[len(first) :][:10]
        both.opened(again, THERE)
        assert passed(both) == again


def test_a_challenge_passes_only_for_one_of_our_last_initiations() -> None:
    with pair(7) as both:
        macs = [initiation(number, OTHER_KEY)[-MAC_LENGTH:] for number in range(WAITING + 1)]
        both.opened([challenge(macs[0])], THERE)
        for each in macs:
            both.into.order(Order(Task.EXPECT, data=each))
        both.opened([challenge(each) for each in macs], THERE)
        assert passed(both) == [challenge(each) for each in macs[1:]]
        both.opened([challenge(macs[-1], OTHER_KEY), challenge(macs[-1])[:-1] + b"?"], THERE)
        assert passed(both) == []
        assert both.drops == {"AUTHENTICATION": 4}


def test_a_successor_checks_as_its_predecessor_did() -> None:
    with pair(7) as both:
        both.replace()
        both.opened([initiation(1), initiation(1, OTHER_KEY)], THERE)
        assert passed(both) == [initiation(1)]


def test_what_is_wrong_is_said_once_in_words_that_help(capfd: pytest.CaptureFixture[str]) -> None:
    with pair(7) as both:
        both.into.order(Order(Task.OWN_MAC, data=OTHER_KEY))
        both.opened([initiation(1, OTHER_KEY)], THERE)
        for number in range(20):
            both.opened([initiation(number, OTHER_KEY)], THERE)
        said = capfd.readouterr().err
        assert said.count("\n") == 1
        assert "do both ends use the same key file, or does --remote lead back here?" in said
        assert "198.51.100.7:4321" in said
    with pair(7) as both:
        both.into.order(Order(Task.OWN_MAC, data=OTHER_KEY))
        both.opened([response(1, b"?" * 32)], THERE)
        assert "is the other key file of this cable there?" in capfd.readouterr().err
