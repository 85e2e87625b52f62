"""The arena: the memory of one worker, in which frames and datagrams lie, and all that is done to bytes there.

This is one of two implementations: arena.pyx is the compiled one, and does the same. Every access is checked against
the bounds of the memory, as what decides about it comes from outside. Numbers are unsigned, in network byte order where
the name does not say otherwise; of a number that is too large for its field, the lowest bits are stored.
"""


class Arena:
    """`size` bytes, zeros in the beginning; `view` is a memoryview of all of them. Every method may raise IndexError."""

    __slots__ = ("size", "view")

    def __init__(self, size: int) -> None:
        self.size = size
        self.view = memoryview(bytearray(size))

    def _check(self, at: int, length: int) -> None:
        if at < 0 or length < 0 or at > self.size - length:
            raise IndexError(f"{length} bytes at {at} of {self.size}")

    def load8(self, at: int) -> int:
        """The byte at `at`."""
        self._check(at, 1)
        return self.view[at]

    def store8(self, at: int, value: int) -> None:
        """Set the byte at `at`."""
        self._check(at, 1)
        self.view[at] = value & 0xFF

    def load16(self, at: int) -> int:
        """The 16-bit number at `at`."""
        self._check(at, 2)
        return self.view[at] << 8 | self.view[at + 1]

    def store16(self, at: int, value: int) -> None:
        """Set the 16-bit number at `at`."""
        self._check(at, 2)
        self.view[at : at + 2] = (value & 0xFFFF).to_bytes(2)

    def load32(self, at: int) -> int:
        """The 32-bit number at `at`."""
        self._check(at, 4)
        return int.from_bytes(self.view[at : at + 4])

    def store32(self, at: int, value: int) -> None:
        """Set the 32-bit number at `at`."""
        self._check(at, 4)
        self.view[at : at + 4] = (value & 0xFFFFFFFF).to_bytes(4)

    def load32le(self, at: int) -> int:
        """The little-endian 32-bit number at `at`."""
        self._check(at, 4)
        return int.from_bytes(self.view[at : at + 4], "little")

    def store32le(self, at: int, value: int) -> None:
        """Set the little-endian 32-bit number at `at`."""
        self._check(at, 4)
        self.view[at : at + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")

    def copy(self, to: int, at: int, length: int) -> None:
        """Copy bytes from `at` to `to`; the two may overlap."""
        self._check(to, length)
        self._check(at, length)
        self.view[to : to + length] = self.view[at : at + length]

    def equal(self, at: int, other: int, length: int) -> bool:
        """Whether the bytes at `at` and at `other` are the same."""
        self._check(at, length)
        self._check(other, length)
        return self.view[at : at + length] == self.view[other : other + length]

    def zero(self, at: int, length: int) -> None:
        """Set bytes to zero."""
        self._check(at, length)
        self.view[at : at + length] = bytes(length)

    def sum(self, at: int, length: int) -> int:
        """The sum of the 16-bit words modulo 65535, as checksums go (RFC 1071); an odd last byte is padded with zero."""
        self._check(at, length)
        return (int.from_bytes(self.view[at : at + length]) << 8 * (length & 1)) % 65535

    def take(self, at: int, length: int) -> bytes:
        """A copy of bytes."""
        self._check(at, length)
        return bytes(self.view[at : at + length])

    def put(self, at: int, data: bytes) -> None:
        """Write bytes."""
        self._check(at, len(data))
        self.view[at : at + len(data)] = data
