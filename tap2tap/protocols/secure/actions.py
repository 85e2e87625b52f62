"""What the link asks the link process to do, and what that tells the link.

The link process carries out the actions of one call in their order, and lets each take effect before the next: above
all OpenReceive must have reached the inbound worker before a later Send goes out, for that is what makes the peer use
the session; then a rekey under load loses nothing.

All times are seconds of one clock, the link's, which never goes back and does not stand still while the machine is
suspended (CLOCK_BOOTTIME): the life of a key is to end then, too.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure.wire import Cipher


@dataclass(frozen=True, slots=True)
class Send:
    """Send this datagram, which is complete, from the socket that the workers use."""

    datagram: bytes
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class OpenReceive:
    """The inbound worker is to accept data datagrams with this index, beside those it accepts already.

    From `until` on, seconds of the link's clock, it accepts none, whether it hears of the link process or not.
    """

    index: int
    cipher: Cipher
    key: bytes = field(repr=False)
    until: float = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class CloseReceive:
    """The inbound worker is to forget this index and its key."""

    index: int


@dataclass(frozen=True, slots=True)
class UseForSending:
    """The outbound worker is to seal with this key from now on, and to forget the one before.

    `index` is the peer's, for the header; the worker's counters begin at CONTROL_COUNTERS. From `until` on, seconds of
    the link's clock, it seals nothing, whether it hears of the link process or not.
    """

    index: int
    cipher: Cipher
    key: bytes = field(repr=False)
    until: float = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class StopSending:
    """The outbound worker is to forget its key: there is no session to send on."""


@dataclass(frozen=True, slots=True)
class SendKeepalive:
    """The outbound worker is to send one empty data datagram."""


@dataclass(frozen=True, slots=True)
class PeerUp:
    """The peer is there: plug in the carrier, run the hook."""

    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class PeerDown:
    """The peer is gone: pull the carrier, run the hook."""

    reason: str


@dataclass(frozen=True, slots=True)
class PeerMoved:
    """Authentic datagrams come from here now, and ours go there."""

    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the log: a constant message and facts. Rate-limited already."""

    message: str
    facts: dict[str, object] = field(default_factory=dict)


Action: TypeAlias = (
    Send
    | OpenReceive
    | CloseReceive
    | UseForSending
    | StopSending
    | SendKeepalive
    | PeerUp
    | PeerDown
    | PeerMoved
    | Note
)

NEVER = float("-inf")  # times
FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the workers have done; times of the link's clock, NEVER for what has not happened.

    Only authentic, fresh datagrams count as heard. A frame is a datagram that is not a keepalive. A time may also be
    that of the look at a counter that found it grown, but no later than that of the `tick` it is told in.
    """

    last_sent: float = NEVER
    last_heard: float = NEVER
    last_frame_sent: float = NEVER
    last_frame_heard: float = NEVER
    next_counter: int = 0  # of the session that is used for sending; the worker itself stops at REJECT_AFTER_MESSAGES
    endpoint: Endpoint | None = None  # where the newest datagram of the newest session came from


@dataclass(frozen=True, slots=True)
class Status:
    """The link as `tap2tap stats` shows it."""

    state: str  # "down": nothing to do but wait; "handshake": trying; "up"
    endpoint: Endpoint | None
    cipher: Cipher | None
    last_handshake: float | None  # when the session in use was proved
    rekeys: int  # sessions that took the place of a living one
