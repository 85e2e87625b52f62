"""Every duration and limit of docs/protocol.md, under the number of the section that states it.

The table in section 7 lists them, and a test compares that, the text and this. Times are seconds of the link's clock.
Nothing of the project is imported here: workers read this too.
"""

from dataclasses import dataclass
from typing import Final

# 2.4 The mac of handshake messages

# Initiations of ours that may wait for a response; 3.1 says the same. They are as many as are made while one waits: at
# most three rounds.
WAITING: Final = 24

# 2.5 Data

CONTROL_COUNTERS: Final = 16  # counters below are the link's, for proofs and confirmations; the workers' begin here
REJECT_AFTER_MESSAGES: Final = 2**31  # counters from here on are never sent and never accepted
WINDOW: Final = 8192  # counters that a receiver remembers; a 64-segment train of late datagrams is far from its edge

# 2.7 Control datagrams

ANSWERS_PER_SECOND: Final = 10  # to probes and path checks

# 3. Sessions

PROOF_DELAYS: Final = (0.1, 0.4, 1.5)  # from proof to proof, in case one is lost or came too early
ROOM_PROVED: Final = 8  # sessions that something authentic came in on
ROOM_STARTED: Final = 4  # sessions that wait for a confirmation

# 3.1 When a handshake is started

REKEY_JITTER: Final = 1 / 40  # of the time to a rekey, at most
PATIENCE: Final = 1 / 12  # of the time to a rekey: so much later the responder rekeys, if the initiator has not
# From round to round; the last one for ever. The first are short, as two ends are often started together, and the
# one that is ready first calls in vain; a responder's budget has room for them (HANDSHAKE_BURST), also when all that
# a round tries are its addresses.
ATTEMPT_DELAYS: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 5.0)
ATTEMPT_JITTER: Final = 1 / 3  # of a delay, and of a second, at most, so that two ends do not stay in step
CANDIDATES: Final = 64  # endpoints that the peer is configured to be at
ROUND: Final = 8  # endpoints that one round tries
TRUSTED: Final = 2  # attempts of a series that go where the peer answers, when it does
FIRST_SPACING: Final = 0.25  # from attempt to attempt of the first round
SPACING: Final = 0.5  # the same of later rounds
ASK_AGAIN: Final = 1.0  # from one attempt to one that is asked for out of turn
CALL_AGAIN: Final = 5.0  # from one series that is called for to the next: what such a series begins with is quick

# 3.2 Where the peer is, and whether

SAME_AGE: Final = 20.0  # between the handshakes of two sessions that may have come about in the other order at the peer
ASLEEP: Final = 5.0  # between two looks of an end that has a session: its machine has slept
DEAD_INTERVALS: Final = 2.5  # keepalive intervals, and
DEAD_GRACE: Final = 5.0  # so much more, without a sound: two keepalives are lost, so the peer is gone

# 3.4 Path MTU

BASE_MTU: Final = 1280  # of IP: what every path is taken to carry, until it proves otherwise
LEAST_MTU: Final = 576  # of IPv4: for paths that do not
COMMON_MTUS: Final = (1500, 1492, 1400, 1480, 1472, 1460, 1450, 1440, 1420, 1300, 1280, 576, 9000)
FIRST_PROBES: Final = 3  # of these are tried at once
PROBE_TRIES: Final = 3  # unanswered, and a size has failed
PROBES_PER_SECOND: Final = 3.0
PROBE_BURST: Final = 3
PROBE_PATIENCE: Final = 3.0  # for the answer to the last try of a size that ought to pass
SEARCH_AGAIN_SOON: Final = (15.0, 60.0)  # after a search that ended: its probes may have been lost by chance
CHECK_INTERVAL: Final = 2.0  # from one check of the present size to the next
DEAD_PATH_PAUSE: Final = 10.0  # while nothing at all is answered

# 3.5 Reports

REPORT_INTERVAL: Final = 1.0
MISSED: Final = 4  # counters in a row that are skipped: time to see whether a report is due
MISSED_WAIT: Final = 0.02  # until then: some may only be late
EARLY_BYTES: Final = 8000  # the same, where half or more were lost
EARLY_REPORT: Final = 0.1  # the least interval, where half or more were lost: who sends must know soon
REPORT_BYTES: Final = 16_000  # of frames, both ways, to a report of 80 bytes at each end: 1 %
REPORT_LOST_BYTES: Final = 1000  # of each that is lost, where half or more are: they tend to be the long ones
REPORT_OVERDUE: Final = 1.0  # from a look that finds frames enough for one to the look that misses it
ROUND_TRIP_MOST: Final = 60.0  # whatever says more is wrong
ROUND_TRIP_SHARE: Final = 1 / 8  # of a new sample (RFC 6298)
JITTER_SHARE: Final = 1 / 16  # of a new sample (RFC 3550)
LOSS_SHARE: Final = 1 / 4  # that old reports weigh less with each new one

# 3.6 Trains that vanish

FEW_DATAGRAMS: Final = 8  # fewer tell nothing
BAD_REPORTS: Final = 2  # in a row: one may be an outage
FULL_ACCOUNT: Final = 0.5  # seconds of reports; less tells nothing, but for the one that is enough
HEAVY_LOSS: Final = 1 / 2  # of what went in trains
OTHERS_TOO: Final = 5 / 4  # times as many were lost as went in trains: not for being in trains
MOST: Final = 2 / 3  # of what went in trains was lost, and
SOME_ARRIVED: Final = 4  # other datagrams were sent, and as many arrived: one such report is enough
SOME_LOSS: Final = 1 / 20  # of what went in trains
LOSS_FALLS_TO: Final = 1 / 3  # of what it was: then it was the trains
SINGLE_LOSS_MOST: Final = 1 / 10  # with more, the path is bad for single datagrams, too
MORE_ARRIVES: Final = 2.0  # times as many datagrams a second: then they were worth it
TRAINS_PAUSE: Final = 60.0  # without trains, when they were seen to vanish; doubled up to
TRAINS_PAUSE_MOST: Final = 600.0
SUSPECTED_PAUSE: Final = 10.0  # without trains, when that is likely
EXPERIMENT_INTERVAL: Final = 60.0  # after an experiment that found nothing

# 3.7 Moves and path checks

MOVE_LIMIT: Final = 256 << 10  # bytes to addresses that have not answered, in
MOVE_WINDOW: Final = 20.0  # from the first of them on
LEAST_ALLOWANCE: Final = 1 << 10  # bytes: an address that would get less is not followed
CHECK_DELAYS: Final = (0.5, 0.5, 1.0)  # from one try of a path check to the next, and to the end
REFUSED: Final = 5.0  # an address that did not answer is not followed for so long
CHECK_AGAIN: Final = 86_400.0  # an address that has answered is checked again, by the first session after so long

# 3.8 Goodbye

GOODBYES: Final = 2
GOODBYE_WAIT: Final = 1.0  # from the peer's goodbye to the first attempt at a handshake

# 3.9 Calling back

CALLS_BACK: Final = 6  # initiations
REMEMBER_INTERVAL: Final = 60.0  # where the peer is, is written down no more often

# 5. Attackers

REMEMBERED: Final = 1024  # initiations, of each kind: more than a peer can make while a cookie lives
HANDSHAKE_BURST: Final = 5.0
HANDSHAKES_PER_SECOND: Final = 2.0  # a peer needs one, at its most impatient
ROOM_ANSWERED: Final = 8  # sessions that wait for a proof, of initiations that may be recordings
COOKIE_LIFE: Final = 120.0  # a cookie is given out for so long; it is honoured for as long again, or longer
COOKIE_USE: Final = 100.0  # an initiator uses a cookie for so long: less, as it may then be on its way
ROOM_ANSWERED_FRESH: Final = 4  # sessions that wait for a proof, of initiations that were made lately


@dataclass(frozen=True, slots=True)
class Timers:
    """The durations that tests shorten, and the count that asks for a rekey."""

    # 3. Sessions
    unproved_life: float = 15.0  # of a session that nobody has used yet
    reject_after: float = 180.0  # a session's whole life
    stop_before_reject: float = 10.0  # sending ends earlier, so that nothing in flight meets a closed door
    # 3.1 When a handshake is started
    rekey_after: float = 120.0
    rekey_messages: int = 2**28
    unanswered: float = 15.0  # frames go out and nothing comes in: handshake
    late_keepalive: float = 10.0  # a keepalive is this late: handshake
    initiation_life: float = 10.0  # a response that comes later is too late
    answer_wait: float = 5.0  # after a response, for the confirmation; then the handshake is tried again
    complain: float = 20.0  # nobody answers: say so
    forget_endpoint: float = 90.0  # nobody answers, and nobody configured where the peer is: wait until it comes
    # 3.2 Where the peer is, and whether
    passive_keepalive: float = 10.0  # frames come in and nothing goes out: say that we are here
    # An outage of 30 seconds is none of the peer's; 5 more are to the next attempt, and some to be on the safe side.
    outage: float = 40.0  # that nothing is heard, beyond the keepalive interval
    give_up: float = 40.0  # handshakes go unanswered: the peer is down
    poll: float = 1.25  # `tick` is wanted this often while there is a session, to look at the traffic
    poll_down: float = 0.25  # the same, while the peer is down: it is called as soon as it is heard
    # 3.4 Path MTU
    search_again: float = 600.0  # upwards
