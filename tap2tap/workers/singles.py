"""Frames one by one: the pieces in which a train is written to the tap where nothing is joined."""

from tap2tap.vnet import NO_OFFLOAD
from tap2tap.workers.train import Train

Piece = tuple[list[memoryview], int]  # what os.writev gets, a virtio_net_hdr first, and how many frames that is

_SIZES = 128  # sizes of frames whose vectors are remembered: hostile traffic may come in every size


class Singles:
    """Cuts trains into their frames. The vectors are cached, but for that of a short last one."""

    def __init__(self) -> None:
        self._header = memoryview(NO_OFFLOAD)
        self._known: dict[tuple[int, int], list[Piece]] = {}
        self._train: Train | None = None  # of whose first frames
        self._first: dict[int, list[memoryview]] = {}  # the vectors are, by size

    def only(self, train: Train) -> list[memoryview]:
        """Return the vector of the one frame of `train`, not to be changed. Fastest if always given the same Train."""
        size = train.size
        if train is self._train and (vector := self._first.get(size)):
            return vector
        if train is not self._train or len(self._first) >= _SIZES:
            self._train = train
            self._first.clear()
        vector = self._first[size] = [self._header, train.buffer[:size]]
        return vector

    def __call__(self, train: Train) -> list[Piece]:
        """Return the frames of `train` in order; valid until the train changes, and not to be changed."""
        size, count, last = train.size, train.count, train.last
        if not count:
            return []
        key = (id(train.array), size)
        singles = self._known.get(key)
        if singles is None or len(singles) < count:
            if len(self._known) >= _SIZES:
                self._known.clear()
            starts = range(0, count * size, size)
            singles = self._known[key] = [([self._header, train.buffer[at : at + size]], 1) for at in starts]
        if last == size:
            return singles if len(singles) == count else singles[:count]
        at = (count - 1) * size
        return [*singles[: count - 1], ([self._header, train.buffer[at : at + last]], 1)]
