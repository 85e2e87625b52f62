"""The answering side of the handshake: from an initiation whose mac is right to what goes back, if anything does."""

from collections.abc import Callable

from tap2tap.protocols.secure.handshake import FEATURE_CONTROL, Answer, Identity, Received, challenge, choose_cipher
from tap2tap.protocols.secure.noise import KEY_LENGTH
from tap2tap.protocols.secure.rate_limiter import RateLimiter, Verdict
from tap2tap.protocols.secure.sessions import Session
from tap2tap.protocols.secure.states import SessionEvent


class Responder:
    """Answers initiations, within limits.

    `keepalive` is in seconds, `mtu` that of our tap; `new_index()` returns an index that is free, `random(n)` n
    unpredictable bytes.
    """

    __slots__ = ("_hardware_aes", "_identity", "_keepalive", "_limiter", "_mtu", "_new_index", "_random")

    def __init__(
        self,
        identity: Identity,
        *,
        keepalive: int,
        mtu: int,
        hardware_aes: bool,
        new_index: Callable[[], int],
        random: Callable[[int], bytes],
    ) -> None:
        self._identity, self._keepalive, self._mtu, self._hardware_aes = identity, keepalive, mtu, hardware_aes
        self._new_index, self._random = new_index, random
        self._limiter = RateLimiter(random)

    def answer(self, now: float, initiation: bytes, *, room: bool) -> tuple[bytes | None, Session | None]:
        """Return (the datagram to send back, the session to open before that); either may be None.

        `room` says whether another session has a place whose initiation may be a recording. Raises NoiseError for an
        initiation that the peer did not write.
        """
        match self._limiter.judge(now, initiation, room=room):
            case Verdict.REPLAYED | Verdict.BUSY:
                return None, None
            case Verdict.CHALLENGE:  # costs one more hash, and is smaller than what asked for it
                return challenge(self._identity, initiation, self._limiter.cookie(now)), None
            case Verdict.ANSWER:
                event = SessionEvent.ANSWER
            case Verdict.ANSWER_FRESH:
                event = SessionEvent.ANSWER_FRESH
        received = Received(self._identity, initiation)
        offer = received.offer
        cipher = choose_cipher(self._hardware_aes, offer.hardware_aes)
        answer = Answer(self._new_index(), cipher, self._keepalive, self._mtu, FEATURE_CONTROL)
        response, keys = received.respond(answer, ephemeral=self._random(KEY_LENGTH))
        session = Session(
            answer.index,
            offer.index,
            answer.cipher,
            keys,
            initiator=False,
            peer_keepalive=offer.keepalive,
            peer_mtu=offer.mtu,
            control=bool(offer.features & FEATURE_CONTROL),
            established=now,
        )
        session.advance(event)
        return response, session
