"""The turns of a plain client against a server with several addresses, where some work in one direction only."""

import ipaddress
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from tap2tap.endpoint import ENDPOINT_SLOTS, Endpoint, load
from tap2tap.supervisor.turns import FOLLOWED, LONGEST, PATIENCE, UNANSWERED, Turns
from tap2tap.workers.stages.peer import SILENCE, PeerFilter
from tests.support.ends import slots

STEP = 0.125  # seconds
HEARD = ENDPOINT_SLOTS
SERVER = [Endpoint(ipaddress.ip_address(f"192.0.2.{number}"), 1234) for number in range(1, 5)]
CLIENT = [Endpoint(ipaddress.ip_address(f"198.51.100.{number}"), 1234) for number in range(1, 5)]
Way = tuple[int, bool]  # to which of the server's addresses, and whether it is the way back


class Wires:
    """The server as its rules have it, which answers each frame with one, and the client's turns. There is no delay.

    `ours` is the client's address on the way to each of the server's; `lost` counts datagrams that a way may still
    lose, infinity: it is dead.
    """

    def __init__(self, candidates: int, *, same: bool, frames: bool) -> None:
        self.now = 1000.0
        self.candidates = SERVER[:candidates]
        self.ours = [CLIENT[0]] * candidates if same else CLIENT[:candidates]
        self.lost: dict[Way, float] = {}
        self.frames = 0
        self.echoes = 0
        self._busy = frames
        self._heard = 0.0
        self._slots = slots()
        self._server = PeerFilter(
            self._slots, 0, HEARD, 2, Endpoint(ipaddress.ip_address("0.0.0.0"), 1234), fixed=False
        )
        self.turns = Turns(0)

    def run(self, seconds: float) -> bool:
        """Let time pass until the client has heard an answer; whether it has."""
        end, echoes = self.now + seconds, self.echoes
        while self.now < end and self.echoes == echoes:
            self.now += STEP
            asks = self.turns.look(self.now, self.candidates, self._heard, self.frames)
            if asks:
                self._send(frame=False)
            if self._busy:
                self.frames += 1
                self._send(frame=True)
        return self.echoes > echoes

    def _send(self, *, frame: bool) -> None:
        assert self.turns.present
        at, now = self.candidates.index(self.turns.present), int(self.now * 1e9)
        source = self.ours[at]._replace(local=self.turns.present.address)
        if self._loses((at, False)) or not self._server.admits(source.raw(2), now):
            return
        peer = load(self._slots, 0)
        assert peer
        if frame or self._server.answers(now):
            back = next(number for number, each in enumerate(self.candidates) if each.address == peer.local)
            if not self._loses((back, True)) and back == at:
                self._heard = self.now + STEP / 2
                self.echoes += frame or not self._busy

    def _loses(self, way: Way) -> bool:
        left = self.lost.get(way, 0)
        self.lost[way] = max(0, left - 1)
        return left > 0


def bound(candidates: int) -> float:
    """Seconds within which one that works both ways is found."""
    return UNANSWERED + 2 * PATIENCE + candidates * (PATIENCE + 2 * PATIENCE + LONGEST + FOLLOWED + 1)


@settings(max_examples=100)
@given(st.integers(2, 4), st.booleans(), st.booleans(), st.booleans(), st.data())
def test_the_address_that_works_both_ways_is_found(
    number: int, same: bool, frames: bool, before: bool, data: st.DataObject
) -> None:
    """From the start, or, where there are frames, when others have worked `before`."""
    assert SILENCE / 1e9 < FOLLOWED
    wires = Wires(number, same=same, frames=frames)
    if before and frames:
        assert wires.run(1)
    good = data.draw(st.integers(0, number - 1))
    ways = [(at, back) for at in range(number) if at != good for back in (False, True)]
    wires.lost = dict.fromkeys(data.draw(st.sets(st.sampled_from(ways))), math.inf)
    assert wires.run(bound(number))
    if frames:
        for _ in range(20):
            assert wires.run(1)


@given(st.integers(2, 4), st.booleans())
def test_one_lost_answer_costs_less_than_a_turn(number: int, back: bool) -> None:
    wires = Wires(number, same=False, frames=False)
    wires.lost = {(0, back): 1}
    assert wires.run(PATIENCE)
    assert wires.turns.present == SERVER[0]
