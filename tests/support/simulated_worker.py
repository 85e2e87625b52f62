"""What the workers of a simulated host keep of a session, and how they seal, open and cut."""

from collections.abc import Collection, Iterator

from tap2tap.protocols.secure import limits, wire
from tap2tap.protocols.secure.actions import OpenReceive, Received, UseForSending
from tap2tap.protocols.secure.limits import CONTROL_COUNTERS
from tap2tap.protocols.secure.link import Link
from tap2tap.protocols.secure.sealing import aead
from tap2tap.protocols.secure.sessions import ROOM
from tap2tap.protocols.secure.states import SessionState

MAX_SESSIONS = limits.ROOM_ANSWERED + limits.ROOM_ANSWERED_FRESH + limits.ROOM_STARTED + limits.ROOM_PROVED


class Inbound:
    """What an inbound worker keeps of one session."""

    def __init__(self, action: OpenReceive) -> None:
        self.index, self.cipher, self.until = action.index, action.cipher, action.until
        self.aead = aead(action.cipher, action.key)
        self.counters: set[int] = set()  # that were accepted
        self.newest = -1
        self.looked = CONTROL_COUNTERS - 1  # the newest at the last look
        self.accepted = self.late = 0  # from CONTROL_COUNTERS on
        self.proved = False
        self.unfinished: dict[int, dict[int, bytes]] = {}  # parts of frames: by the counter of the first, by number

    def fresh(self, counter: int) -> bool:
        return counter > self.newest - 64 and counter not in self.counters

    def accept(self, counter: int) -> None:
        self.counters.add(counter)
        if counter >= CONTROL_COUNTERS:
            self.accepted += 1
            self.late += counter < self.newest
        self.newest = max(self.newest, counter)

    def finish(self, counter: int, text: bytes) -> bytes:
        """Take a part; returns the frame, if this was the last that was missing, or nothing."""
        number, count, length = text[0] & 0x7F, text[1], int.from_bytes(text[2:4], "little")
        pieces = self.unfinished.setdefault(counter - number, {})
        pieces[number] = text[4:]
        if len(pieces) < count:
            return b""
        frame = b"".join(piece for _, piece in sorted(self.unfinished.pop(counter - number).items()))
        assert len(frame) == length
        return frame


def arriving(sessions: dict[int, Inbound], before: Received | None) -> Received | None:
    """What came in on the session on which something came since the last look, or on the one of before."""
    index = before.index if before else 0
    for each in sessions.values():
        if each.newest > each.looked:
            index, each.looked = each.index, each.newest
    one = sessions.get(index)
    return Received(index, one.newest + 1, one.accepted, one.late) if one else None


class Outbound:
    """The session that an outbound worker seals with."""

    def __init__(self, action: UseForSending) -> None:
        self.index, self.cipher, self.until, self.parts = action.index, action.cipher, action.until, action.parts
        self.key, self.aead = action.key, aead(action.cipher, action.key)
        self.counter = CONTROL_COUNTERS

    def seal(self, kind: int, text: bytes) -> bytes:
        header = wire.header(kind, self.index, self.counter)
        sealed = self.aead.encrypt(wire.nonce(self.cipher, self.counter), text, header)
        self.counter += 1
        return header + sealed

    def texts(self, kind: int, frame: bytes, payload: int) -> Iterator[tuple[int, bytes]]:
        """Give (type, text) of every datagram for a frame, when a datagram has so much room; 0: there is no limit."""
        if not self.parts or not payload or len(frame) + wire.OVERHEAD <= payload:
            yield kind, frame
            return
        vouched = wire.PART_VOUCHED if kind == wire.TYPE_DATA_VOUCHED else 0
        count = -(-len(frame) // (payload - wire.OVERHEAD - wire.PART_HEADER_LENGTH))
        size = -(-len(frame) // count)
        for number in range(count):
            front = bytes([number | vouched, count]) + len(frame).to_bytes(2, "little")
            yield wire.TYPE_PART, front + frame[number * size : (number + 1) * size]


def check_sessions(
    link: Link, inbound: dict[int, Inbound], outbound: Outbound | None, inherited: Collection[int]
) -> None:
    """See that the link's sessions are those that it has told of, but for those of a predecessor."""
    open_ = list(link._sessions)
    assert {session.index for session in open_} == set(inbound) - set(inherited)
    for state, room in ROOM.items():
        assert sum(session.state is state for session in open_) <= room + (state is SessionState.PROVED)
    sealing = [session.keys.send for session in open_ if session.state is SessionState.CURRENT]
    assert sealing == ([outbound.key] if outbound else []) or (inherited and not sealing)
