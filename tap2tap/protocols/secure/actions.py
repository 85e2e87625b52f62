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
    parts: bool = field(default=False, kw_only=True)  # the peer takes frames in parts, and control datagrams


@dataclass(frozen=True, slots=True)
class StopSending:
    """The outbound worker is to forget its key: there is no session to send on."""


@dataclass(frozen=True, slots=True)
class SendKeepalive:
    """The outbound worker is to send one empty data datagram."""


@dataclass(frozen=True, slots=True)
class SendControl:
    """The outbound worker is to send a control datagram with this text, of `size` bytes in all; 0: no longer than it.

    A longer one has zeros behind the text.
    """

    text: bytes
    size: int = 0


@dataclass(frozen=True, slots=True)
class PeerAt:
    """The outbound worker is to send to this endpoint from now on, but `limit` bytes at the most; None: no limit."""

    endpoint: Endpoint
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class PathMtu:
    """So many bytes of UDP payload reach the peer in one datagram: longer frames go in parts, MSS is lowered to it.

    `told`: that is news for people, as a search has ended, and not the floor that one begins with.
    """

    payload: int
    told: bool


@dataclass(frozen=True, slots=True)
class SendTrains:
    """Whether the outbound worker may send trains, or has to send datagram by datagram."""

    on: bool


@dataclass(frozen=True, slots=True)
class Remember:
    """Where to call the peer after a restart; None: nowhere, as it said goodbye."""

    endpoint: Endpoint | None


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
    | SendControl
    | PeerAt
    | PathMtu
    | SendTrains
    | Remember
    | PeerUp
    | PeerDown
    | PeerMoved
    | Note
)

NEVER = float("-inf")  # times
FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Received:
    """What came in on a session, from CONTROL_COUNTERS on."""

    index: int  # ours
    next_counter: int  # behind the newest
    accepted: int
    late: int


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
    in_trains: int = 0  # datagrams that went out in trains of several, ever
    bytes: int = 0  # of frames, out and in, ever
    received: Received | None = None  # on the session on which frames arrive: the last on which anything did


@dataclass(frozen=True, slots=True)
class Status:
    """The link as `tap2tap stats` shows it."""

    state: str  # "down": nothing to do but wait; "handshake": trying; "up"
    endpoint: Endpoint | None
    cipher: Cipher | None
    last_handshake: float | None  # when the session in use was proved
    rekeys: int  # sessions that took the place of a living one
    peer_mtu: int = 0  # of the far tap; 0: not known
    round_trip: float = 0.0  # seconds; 0: not known
    jitter: float = 0.0  # seconds
    loss_out: float = 0.0  # of the datagrams to the peer, lately: 0 to 1
    loss_in: float = 0.0
