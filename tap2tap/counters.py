"""What the processes of a tunnel count and show: the layout of the counter block (tap2tap.counter_block).

It is an array of aligned 64-bit slots in the byte order of the host: a header, then one group for each of the
supervisor's three children: outbound worker, inbound worker, link process (all zeros without a key).
"""

import struct
from enum import IntEnum, StrEnum, auto

MAGIC = int.from_bytes(b"TAP2TAP\0", "little")
VERSION = 5

HEADER_SLOTS = 64
SHOWN = 64  # slots of a child
SLOTS = HEADER_SLOTS + 3 * SHOWN


class Role(StrEnum):
    """The children of a supervisor that it replaces when they die, in the order of their groups."""

    OUTBOUND = "outbound"
    INBOUND = "inbound"
    LINK = "link"


class Slot:
    """Slots of the header. The supervisor writes them, unless said otherwise."""

    MAGIC = 0
    VERSION = 1
    PID = 2
    STARTED = 3  # CLOCK_BOOTTIME, ns
    STATE = 4  # a State
    NETNS_DEVICE = 5
    NETNS_INODE = 6
    MTU = 7
    INTERFACE = 8  # 16 bytes
    LOCAL = 10  # an endpoint of 6 slots
    PEER = 16  # an endpoint of 6 slots; the link process writes it, or else the inbound worker, and in client mode the
    # supervisor when there is another remote to try
    PEER_HEARD = 22  # CLOCK_BOOTTIME, ns; 0 is never; the inbound worker writes it
    LINK = 23  # a Link; this and what follows to REKEYS the link process writes
    CIPHER = 24  # of the session in use; 0 is none
    HANDSHAKE = 25  # CLOCK_BOOTTIME, ns, of the session in use; 0 is never
    REKEYS = 26
    PUBLISHED = 27  # CLOCK_BOOTTIME, ns: when this copy was made
    DATA_PLANE = 28  # a DataPlane
    PATH = 29  # bytes of UDP payload that reach the peer in one datagram; 0: not known (plain: the supervisor's)
    PEER_MTU = 30  # of the far tap; 0: not known. This and what follows the link process writes
    ROUND_TRIP = 31  # ns; 0: not known
    JITTER = 32  # ns
    LOSS_OUT = 33  # datagrams in a million that did not reach the peer, lately
    LOSS_IN = 34  # the same from the peer


class State(IntEnum):
    """What the supervisor is doing."""

    STARTING = 0
    UP = auto()
    STOPPING = auto()


class DataPlane(IntEnum):
    """How the workers' loops run."""

    INTERPRETED = 0  # as Python source
    COMPILED = auto()  # when the package was built


INTERPRETED = "interpreted (no compiler at install)"  # for people to read


class Link(IntEnum):
    """The session with the peer, in the secure protocol."""

    NONE = 0  # the plain protocol has no sessions
    DOWN = auto()
    HANDSHAKE = auto()
    UP = auto()


class Count:
    """Slots of a child's group. The supervisor writes the first ones, the child the others; the link has no more."""

    PID = 0
    CPU = 1  # the CPU number plus one; 0 is not pinned
    RESTARTS = 2
    BEAT = 3  # goes up whenever the child comes round its loop and has nothing to do
    FRAMES = 4  # Ethernet frames as they crossed the tap
    BYTES = 5  # of those frames
    DATAGRAMS = 6  # that crossed the socket, keepalives and dropped ones included
    TRAINS = 7  # that crossed the socket
    SUPER_FRAMES = 8  # split by the outbound worker, joined by the inbound one
    SUPER_FRAME_FRAMES = 9  # frames that those stood for
    FALLBACKS = 10  # trains and super-frames that had to go piece by piece
    KEEPALIVES = 11  # sent by the outbound worker, received by the inbound one
    CONTROL = 12  # control datagrams of the secure protocol
    PARTS = 13  # frames that went, or came, in parts; in the plain protocol: that went in IP fragments
    LONG = 14  # outbound: frames longer than the far tap's MTU and two VLAN tags
    CLAMPED = 15  # TCP SYN segments whose MSS was lowered
    DROPPED = 16  # the first of one slot for each Drop, in its order


class Drop(IntEnum):
    """Why a frame or a datagram went no further."""

    NO_PEER = 0  # outbound: server mode, and nobody has called yet
    UNREACHABLE = auto()  # no route, or the network is down
    REFUSED = auto()  # nobody listens at the peer
    NOT_PERMITTED = auto()  # a firewall of this host
    NO_BUFFERS = auto()  # the kernel has no room
    TOO_LONG = auto()  # longer than the path, or than the mtu of the tap, allows
    TOO_SHORT = auto()  # no Ethernet header
    STRANGER = auto()  # inbound: not from the peer
    TAP_DOWN = auto()  # inbound: the interface is down
    MALFORMED = auto()  # offload header that contradicts its frame, frame that the kernel refuses
    AUTHENTICATION = auto()  # not sealed by the peer
    REPLAY = auto()  # seen before, or older than the replay window reaches
    NO_SESSION = auto()  # sealed for a session that there is not, or none to seal with
    INCOMPLETE = auto()  # inbound: a frame of which not all parts came
    UNCHECKED = auto()  # outbound: the peer's new address has not answered yet
    OTHER = auto()


Counts = memoryview  # of format "Q": the group of one child


def store_name(slots: memoryview, interface: str) -> None:
    """Write the name of the interface, at most 15 bytes."""
    name = interface.encode().ljust(16, b"\0")
    slots[Slot.INTERFACE], slots[Slot.INTERFACE + 1] = struct.unpack("<QQ", name)


def load_name(slots: memoryview) -> str:
    """Read the name of the interface; anything unprintable in it is replaced."""
    packed = struct.pack("<QQ", slots[Slot.INTERFACE], slots[Slot.INTERFACE + 1])
    text = packed.split(b"\0", 1)[0].decode(errors="replace")
    return "".join(letter if letter.isprintable() else "?" for letter in text)
