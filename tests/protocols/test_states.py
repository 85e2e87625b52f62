"""The tables of states: the link goes by them alone, and no row of them is for nothing."""

import os
from collections.abc import Callable

import pytest

from tap2tap.endpoint import Endpoint
from tap2tap.keys import CableKeys
from tap2tap.protocols.secure import control, mailbox, presence, sessions, states, wire
from tap2tap.protocols.secure.actions import (
    Action,
    OpenReceive,
    PeerAt,
    PeerDown,
    PeerMoved,
    Remember,
    Send,
    SendControl,
    Traffic,
)
from tap2tap.protocols.secure.control import Goodbye
from tap2tap.protocols.secure.handshake import FEATURE_CONTROL, NO_COOKIE, Answer, Identity, Received
from tap2tap.protocols.secure.limits import Timers
from tap2tap.protocols.secure.link import Link
from tap2tap.protocols.secure.states import SessionState
from tap2tap.protocols.secure.wire import Cipher
from tests.support.simulated_cable import Cable, both
from tests.support.simulated_ends import ELSEWHERE, HOME, VPS, make_keys, recordings
from tests.support.simulated_network import DELAY, Policy


class Table(dict):  # type: ignore[type-arg]
    """A table that remembers which of its rows were looked up."""

    def __init__(self, rows: dict[tuple[object, object], object]) -> None:
        super().__init__(rows)
        self.unused = set(rows)

    def __getitem__(self, row: tuple[object, object]) -> object:
        self.unused.discard(row)
        return super().__getitem__(row)


class Answering:
    """A link without a simulation, which is told of the peer's initiations one by one."""

    def __init__(self) -> None:
        self.home, vps = make_keys()
        self.link = Link(vps, client=False, candidates=(), keepalive=0, hardware_aes=True, random=os.urandom, mtu=1500)
        self.now = 100.0

    def initiation(self, cookie: bytes = NO_COOKIE) -> list[bytes | int]:
        """Take one more; returns the index that was opened for it, or the challenge."""
        (datagram,) = recordings(self.home, 1, cookie)
        self.now += 0.01
        actions = self.link.received(self.now, datagram, HOME)
        return [action.index for action in actions if isinstance(action, OpenReceive)] or [
            action.datagram for action in actions if isinstance(action, Send)
        ]

    def cookie(self) -> bytes:
        """Ask until there is a challenge."""
        while True:
            (answer,) = self.initiation()
            if isinstance(answer, bytes):
                return answer[4:20]

    def proved(self, index: bytes | int, *, newest: bool = True, source: Endpoint = HOME) -> list[Action]:
        assert isinstance(index, int)
        self.now += 0.01
        return self.link.proved(self.now, index, source, newest=newest)

    def says(self, index: bytes | int, text: bytes) -> list[Action]:
        """Take a control datagram."""
        assert isinstance(index, int)
        return self.link.control(self.now, mailbox.Received(index, 20, wire.OVERHEAD + len(text), text))


def without(*types: int) -> Policy:
    """A network that loses datagrams of these types."""
    return lambda datagram, source, destination: (
        [] if datagram[0] in types else [(DELAY, datagram, source, destination)]
    )


def a_long_life() -> None:
    cable = Cable()
    cable.network.run(400)


def many_rekeys() -> None:
    cable = Cable(**both(timers=Timers(rekey_after=1.0)))
    cable.network.run(40)


def an_outage() -> None:
    """Longer than a session; the end that was told no address forgets the other at last."""
    cable = Cable(home={"keepalive": 0})
    cable.network.run(1)
    cable.network.policy = without(*range(256))
    cable.network.run(400)


def a_move_in_an_outage() -> None:
    cable = Cable(**both(keepalive=2))
    cable.network.run(10)
    cable.network.policy = without(*range(256))
    cable.network.run(50)
    cable.network.policy = without(*wire.HANDSHAKE_TYPES)
    cable.home.address = ELSEWHERE
    cable.network.run(5)
    cable.home.address = HOME
    cable.network.run(5)
    cable.network.policy = without()
    cable.network.run(2)
    assert cable.works()


def handshakes_are_lost_and_frames_are_not() -> None:
    cable = Cable()
    cable.network.run(1)
    cable.network.policy = without(*wire.HANDSHAKE_TYPES)
    cable.network.every(1, 180, cable.home.send_frame)
    cable.network.every(1, 180, cable.vps.send_frame)
    cable.network.run(180)


def proofs_are_lost() -> None:
    cable = Cable(home={"timers": Timers(answer_wait=0.1)})
    cable.network.policy = without(wire.TYPE_DATA)
    cable.network.run(60)


def nobody_is_there_and_the_address_goes_away() -> None:
    cable = Cable()
    cable.network.policy = without(*range(256))
    cable.network.run(100)
    cable.home.act(cable.home.link.move(cable.network.now, ()))
    cable.network.run(10)
    assert cable.home.link.next_deadline() == float("inf")


def fresh_initiations_come_in_numbers() -> None:
    end = Answering()
    cookie = end.cookie()
    *_, older, newer = [end.initiation(cookie)[0] for _ in range(5)]
    end.proved(newer)
    end.proved(older)
    end.link.tick(end.now + 20, Traffic())
    assert len(end.link._sessions) == 2


def an_older_session_is_proved_late() -> None:
    end = Answering()
    (first,), (second,) = end.initiation(), end.initiation()
    end.proved(second)
    end.proved(first)


def nothing_tells_where_the_peer_is() -> None:
    end = Answering()
    (index,) = end.initiation()
    end.proved(index, newest=False)
    end.link.tick(end.now + 1, Traffic(last_heard=end.now + 1))
    assert end.link.status().endpoint is None
    assert end.link.status().state != "up"
    end.says(index, control.pack(Goodbye()))
    assert len(end.link._sessions) == 0


def a_new_address_does_not_answer() -> None:
    end = Answering()
    (index,) = end.initiation()
    (check,) = (action for action in end.proved(index) if isinstance(action, SendControl) and action.text[0] == 5)
    end.says(index, b"\6" + check.text[1:])
    for up in (True, False):
        moved = PeerMoved(ELSEWHERE) in end.proved(index, source=ELSEWHERE)
        for _ in range(5):
            end.now += 0.5
            actions = end.link.tick(end.now, Traffic())
            if end.link.status().endpoint == HOME:
                break
        assert (PeerAt(HOME) in actions, PeerMoved(HOME) in actions, moved) == (True, up, up)
        later = [action for second in range(70) for action in end.link.tick(end.now + second, Traffic())]
        end.now += 70
        assert (PeerDown("nothing was heard from it") in later) == up
    assert Remember(None) in end.says(index, control.pack(Goodbye()))


def a_goodbye_ends_whatever_is_older() -> None:
    home, vps = make_keys()
    link = Link(home, client=True, candidates=(VPS,), keepalive=0, hardware_aes=True, random=os.urandom, mtu=1500)
    (send,) = link.start(100.0)
    link.received(101.0, response_to(send, vps), VPS)
    end = Answering()
    end.home, end.link, end.now = vps, link, 102.0
    (first,), cookie = end.initiation(), end.cookie()
    (_,), (last,) = end.initiation(cookie), end.initiation(cookie)
    end.proved(first)
    end.proved(last)
    assert {session.state for session in link._sessions} == set(SessionState) - {SessionState.NEW, SessionState.CLOSED}
    end.says(last, control.pack(Goodbye()))
    assert len(link._sessions) == 0


def response_to(action: Action, vps: CableKeys) -> bytes:
    assert isinstance(action, Send)
    received = Received(Identity(vps), action.datagram)
    response, _ = received.respond(Answer(5, Cipher.AES_256_GCM, 0, 1500, FEATURE_CONTROL), ephemeral=os.urandom(32))
    return response


def our_own_session_is_proved_late() -> None:
    home, vps = make_keys()
    link = Link(home, client=True, candidates=(VPS,), keepalive=0, hardware_aes=True, random=os.urandom, mtu=1500)
    (send,) = link.start(100.0)
    response = response_to(send, vps)
    (theirs,) = recordings(vps, 1)
    own, answered = (
        next(action.index for action in link.received(when, datagram, VPS) if isinstance(action, OpenReceive))
        for when, datagram in ((101.0, response), (102.0, theirs))
    )
    link.proved(103.0, answered, VPS, newest=True)
    link.proved(104.0, own, VPS, newest=True)


def a_link_takes_over() -> None:
    """Until the session of its predecessor is over, the peer stays up, and 40 seconds are for a new one."""
    link = Link(
        make_keys()[0], client=True, candidates=(VPS,), keepalive=0, hardware_aes=True, random=os.urandom, mtu=1500
    )
    link.resume(VPS, heard=95.0, until=105.0)
    link.start(100.0)
    assert link.status().state == "up"
    for now in range(101, 140):
        assert PeerDown not in {type(action) for action in link.tick(now, Traffic())}
    assert link.status().state == "up"
    assert PeerDown("the session is over and no new one was to be had") in link.tick(140.0, Traffic())


SCENARIOS: tuple[Callable[[], None], ...] = (
    a_long_life,
    many_rekeys,
    an_outage,
    a_move_in_an_outage,
    handshakes_are_lost_and_frames_are_not,
    proofs_are_lost,
    nobody_is_there_and_the_address_goes_away,
    fresh_initiations_come_in_numbers,
    an_older_session_is_proved_late,
    nothing_tells_where_the_peer_is,
    our_own_session_is_proved_late,
    a_link_takes_over,
    a_new_address_does_not_answer,
    a_goodbye_ends_whatever_is_older,
)


def test_every_row_of_the_tables_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    session, peer = Table(states.SESSION), Table(states.PEER)  # type: ignore[arg-type]
    monkeypatch.setattr(sessions, "SESSION", session)
    monkeypatch.setattr(presence, "PEER", peer)
    for scenario in SCENARIOS:
        scenario()
    assert session.unused == set()
    assert peer.unused == set()


def test_every_state_and_event_is_in_a_table() -> None:
    for table, state, event in (
        (states.SESSION, states.SessionState, states.SessionEvent),
        (states.PEER, states.PeerState, states.PeerEvent),
    ):
        assert {before for before, _ in table} | set(table.values()) == set(state)
        assert {what for _, what in table} == set(event)
