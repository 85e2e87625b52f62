"""Control messages: the sealed texts of datagrams of type 7 (docs/protocol.md, 2.7), packed and taken apart.

    kind              bytes  from byte 4 on (byte 0 is the kind, byte 1 the reason of a goodbye, the rest zeros)
    1 probe           4      zeros up to the size under test
    2 answer          8      byte 2: bytes of UDP payload that came (2); counter of the probe (4)
    3 report          28     from byte 1 on: index by which its sender receives what it is about (3), newest counter
                             (4), accepted from 16 on (4), of these behind the newest when they came (4), own stamp (4),
                             stamp echoed (4), held for (4)
    4 goodbye         4
    5 path check      12     token (8)
    6 path answer     12     token (8)

Stamps are microseconds since the session began at their sender, modulo 2^32; a stamp echoed of 0 is none.
"""

import struct
from enum import IntEnum
from typing import Final, NamedTuple, TypeAlias

TOKEN_LENGTH: Final = 8
LONGEST: Final = 28  # bytes of a text, but for the zeros of a probe

_PLAIN: Final = struct.Struct("<BB2x")  # kind, reason
_ANSWER: Final = struct.Struct("<BxHI")  # kind, size, counter
_REPORT: Final = struct.Struct("<7I")  # kind and index as in a header
_TOKEN: Final = struct.Struct("<B3x8s")


class Kind(IntEnum):
    """The first byte."""

    PROBE = 1
    ANSWER = 2
    REPORT = 3
    GOODBYE = 4
    PATH_CHECK = 5
    PATH_ANSWER = 6


class Probe(NamedTuple):
    """Tell what size this came in. Its own size is that of its datagram."""


class Answer(NamedTuple):
    """A probe came: `size` bytes of UDP payload, under `counter`."""

    size: int
    counter: int


class Report(NamedTuple):
    """What came in on a session. Counts from CONTROL_COUNTERS on; stamps and `held` in microseconds."""

    about: int  # the index by which the reporter receives on it
    newest: int  # counter
    accepted: int
    late: int  # of those accepted: came behind a newer one
    stamp: int
    echo: int  # the last stamp that came in, 0 is none
    held: int  # how long ago that was


class Goodbye(NamedTuple):
    """The sender stops, and forgets the session."""

    reason: int = 0


class PathCheck(NamedTuple):
    """Send this token back."""

    token: bytes


class PathAnswer(NamedTuple):
    """The token of a path check."""

    token: bytes


Message: TypeAlias = Probe | Answer | Report | Goodbye | PathCheck | PathAnswer


def pack(message: Message) -> bytes:
    """Write a text; that of a probe without its zeros at the end."""
    match message:
        case Probe():
            return _PLAIN.pack(Kind.PROBE, 0)
        case Answer():
            return _ANSWER.pack(Kind.ANSWER, *message)
        case Report():
            return _REPORT.pack(Kind.REPORT | message.about << 8, *message[1:])
        case Goodbye(reason):
            return _PLAIN.pack(Kind.GOODBYE, reason)
        case PathCheck(token):
            return _TOKEN.pack(Kind.PATH_CHECK, token)
        case PathAnswer(token):
            return _TOKEN.pack(Kind.PATH_ANSWER, token)


def unpack(text: bytes) -> Message | None:
    """Read a text, of which the first LONGEST bytes suffice; None for one that says nothing to us.

    What follows a message that is complete is ignored: room for later.
    """
    kind, size = text[:1], len(text)
    if kind == bytes([Kind.PROBE]) and size >= _PLAIN.size:
        return Probe()
    if kind == bytes([Kind.ANSWER]) and size >= _ANSWER.size:
        return Answer(*_ANSWER.unpack_from(text)[1:])
    if kind == bytes([Kind.REPORT]) and size >= _REPORT.size:
        front, *numbers = _REPORT.unpack_from(text)
        return Report(front >> 8, *numbers)
    if kind == bytes([Kind.GOODBYE]) and size >= _PLAIN.size:
        return Goodbye(text[1])
    if kind == bytes([Kind.PATH_CHECK]) and size >= _TOKEN.size:
        return PathCheck(_TOKEN.unpack_from(text)[1])
    if kind == bytes([Kind.PATH_ANSWER]) and size >= _TOKEN.size:
        return PathAnswer(_TOKEN.unpack_from(text)[1])
    return None
