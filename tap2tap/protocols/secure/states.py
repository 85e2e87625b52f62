"""The states of a session and of the peer, and what leads from one to the next: the tables of docs/protocol.md, 3.3.

`sessions` and `presence` go by these tables, and a test compares them with the document. What is in no table cannot
happen, and would raise KeyError.
"""

from enum import Enum
from typing import Final


class SessionState(Enum):
    """How far a session has come."""

    NEW = "its keys are known, and nobody has been told"
    ANSWERED = "an initiation was answered that may be a recording"
    ANSWERED_FRESH = "an initiation was answered that was made lately"
    STARTED = "the peer answered an initiation of ours"
    CURRENT = "proved, and sent on"
    PROVED = "proved, and received on only"
    CLOSED = "forgotten"


UNPROVED: Final = (SessionState.ANSWERED, SessionState.ANSWERED_FRESH, SessionState.STARTED)
CROWDED_OUT: Final = (SessionState.ANSWERED_FRESH, SessionState.STARTED, SessionState.PROVED)


class SessionEvent(Enum):
    """What happens to a session."""

    ANSWER = "a response is sent, to an initiation that may be a recording"
    ANSWER_FRESH = "a response is sent, to an initiation with a cookie that is honoured"
    RESPONSE = "a response is accepted"
    PROOF = "the first datagram is accepted on it"
    LATE_PROOF = "the first datagram is accepted on it, and the current session has a later handshake"
    REPLACED = "another session becomes the current one"
    TOO_OLD_TO_SEND = "its time to be sent on is over"
    NOT_PROVED = "it was not proved in time"
    TOO_OLD = "its time is over"
    GOODBYE = "the peer says goodbye on it, or on a later one"
    CROWDED = "it is the oldest, and its state has no place for one more"


class PeerState(Enum):
    """Whether the peer is there."""

    UNKNOWN = "nothing tells where the peer is, but for the configuration"
    DOWN = "the peer was heard from somewhere, and is not there"
    UP = "the peer is there"


class PeerEvent(Enum):
    """What happens to the peer. Those that end in DOWN are reasons for the log."""

    LOCATED = "a newest datagram comes from another address than before, or from the first"
    RESUMED = "the link process was replaced, and the peer is up to its predecessor"
    UNANSWERED = "its new address does not answer the path check, and the one before did"
    PROVED = "a session becomes the current one"
    NO_SESSION = "the session is over and no new one was to be had"
    SILENT = "nothing was heard from it"
    NO_ANSWER = "it does not answer handshakes"
    GOODBYE = "it said goodbye"
    FORGOTTEN = "attempts were in vain for long, and no address is configured"


_SESSION: Final = (
    ((SessionState.NEW,), SessionEvent.ANSWER, SessionState.ANSWERED),
    ((SessionState.NEW,), SessionEvent.ANSWER_FRESH, SessionState.ANSWERED_FRESH),
    ((SessionState.NEW,), SessionEvent.RESPONSE, SessionState.STARTED),
    (UNPROVED, SessionEvent.PROOF, SessionState.CURRENT),
    (UNPROVED, SessionEvent.LATE_PROOF, SessionState.PROVED),
    ((SessionState.CURRENT,), SessionEvent.REPLACED, SessionState.PROVED),
    ((SessionState.CURRENT,), SessionEvent.TOO_OLD_TO_SEND, SessionState.PROVED),
    (UNPROVED, SessionEvent.NOT_PROVED, SessionState.CLOSED),
    ((SessionState.PROVED,), SessionEvent.TOO_OLD, SessionState.CLOSED),
    ((*UNPROVED, SessionState.CURRENT, SessionState.PROVED), SessionEvent.GOODBYE, SessionState.CLOSED),
    (CROWDED_OUT, SessionEvent.CROWDED, SessionState.CLOSED),
)
_PEER: Final = (
    ((PeerState.UNKNOWN, PeerState.DOWN), PeerEvent.LOCATED, PeerState.DOWN),
    ((PeerState.UP,), PeerEvent.LOCATED, PeerState.UP),
    ((PeerState.DOWN,), PeerEvent.UNANSWERED, PeerState.DOWN),
    ((PeerState.UP,), PeerEvent.UNANSWERED, PeerState.UP),
    ((PeerState.UNKNOWN,), PeerEvent.RESUMED, PeerState.UP),
    ((PeerState.UNKNOWN,), PeerEvent.PROVED, PeerState.UNKNOWN),
    ((PeerState.DOWN, PeerState.UP), PeerEvent.PROVED, PeerState.UP),
    ((PeerState.UP,), PeerEvent.NO_SESSION, PeerState.DOWN),
    ((PeerState.UP,), PeerEvent.SILENT, PeerState.DOWN),
    ((PeerState.UP,), PeerEvent.NO_ANSWER, PeerState.DOWN),
    (tuple(PeerState), PeerEvent.GOODBYE, PeerState.UNKNOWN),
    ((PeerState.UNKNOWN, PeerState.DOWN), PeerEvent.FORGOTTEN, PeerState.UNKNOWN),
)

# What code looks up: the state that follows a state and an event.
SESSION: Final = {(state, event): after for before, event, after in _SESSION for state in before}
PEER: Final = {(state, event): after for before, event, after in _PEER for state in before}
