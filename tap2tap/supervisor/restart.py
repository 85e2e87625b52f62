"""When a dead worker is replaced, and when a live one counts as hung: pure rules over times in seconds."""

STABLE = 5.0  # a worker that lived so long was sound: its death starts the count anew
MAX_DELAY = 1.0
FIRST_DELAY = 0.05
HUNG_AFTER = 3.0  # without a beat; an idle worker beats every second


class Restarts:
    """Decides how long to wait before a worker is replaced: not at all, unless it dies again and again."""

    def __init__(self) -> None:
        self._quick_deaths = 0

    def delay(self, lived: float) -> float:
        """Seconds to wait after the death of a worker that lived so many seconds."""
        self._quick_deaths = 0 if lived >= STABLE else self._quick_deaths + 1
        if self._quick_deaths <= 1:
            return 0.0
        return min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(self._quick_deaths - 2, 10))


class Heartbeat:
    """Watches a worker's beat counter."""

    def __init__(self, beat: int, now: float) -> None:
        self._beat = beat
        self._seen = now
        self._silent = 0.0

    def hung(self, beat: int, now: float) -> bool:
        """Whether the worker has been looked at for HUNG_AFTER seconds without a new beat.

        A pause between two looks counts as a second at most: a machine that slept has not seen its workers hang.
        """
        self._silent = 0.0 if beat != self._beat else self._silent + min(now - self._seen, 1.0)
        self._beat, self._seen = beat, now
        return self._silent >= HUNG_AFTER
