"""The answering side of the handshake: from an initiation whose mac is right to what goes back, if anything does."""

from collections.abc import Callable

from tap2tap.protocols.secure.handshake import (
    Answer,
    Identity,
    Received,
    challenge,
    choose_cipher,
)
from tap2tap.protocols.secure.noise import KEY_LENGTH
from tap2tap.protocols.secure.rate_limiter import RateLimiter, Verdict
from tap2tap.protocols.secure.sessions import Kind, Session


class Responder:
    """Answers initiations, within limits. `random(n)` returns n unpredictable bytes; `keepalive` is in seconds."""

    def __init__(
        self,
        identity: Identity,
        *,
        keepalive: int,
        hardware_aes: bool,
        random: Callable[[int], bytes],
    ) -> None:
        self._identity, self._random = identity, random
        self._keepalive, self._hardware_aes = keepalive, hardware_aes
        self._limiter = RateLimiter(random)
        self.refused = {"replayed": 0, "challenged": 0, "busy": 0}

    def answer(
        self, now: float, initiation: bytes, new_index: Callable[[], int], rekey_time: float, *, room: bool
    ) -> tuple[bytes | None, Session | None]:
        """Return (the datagram to send back, the session to open before that); either may be None.

        `rekey_time` is how many seconds after which the session is to be renewed, `room` whether another session of
        Kind.ANSWERED has a place. Raises NoiseError for an initiation that the peer did not write.
        """
        verdict = self._limiter.judge(now, initiation, room=room)
        if verdict in (Verdict.REPLAYED, Verdict.BUSY):
            self.refused[verdict.name.lower()] += 1
            return None, None
        if verdict is Verdict.CHALLENGE:  # costs one more hash, and is smaller than what asked for it
            self.refused["challenged"] += 1
            return challenge(self._identity, initiation, self._limiter.cookie(now)), None
        received = Received(self._identity, initiation)
        offer = received.offer
        cipher = choose_cipher(self._hardware_aes, offer.hardware_aes)
        answer = Answer(new_index(), cipher, self._keepalive)
        response, keys = received.respond(answer, ephemeral=self._random(KEY_LENGTH))
        session = Session(
            answer.index,
            offer.index,
            cipher,
            keys,
            initiator=False,
            peer_keepalive=offer.keepalive,
            established=now,
            rekey_at=now + rekey_time,
            kind=Kind.ANSWERED_FRESH if verdict is Verdict.ANSWER_FRESH else Kind.ANSWERED,
        )
        return response, session
