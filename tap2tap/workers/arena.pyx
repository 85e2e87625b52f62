"""The arena, compiled: see arena.py, which says what each method does."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove, memset

cdef uint16_t probe = 1
cdef bint LITTLE = (<uint8_t*>&probe)[0]


cdef class Arena:
    def __init__(self, Py_ssize_t size):
        memory = bytearray(size)
        self.start = memory
        self.size = size
        self.view = memoryview(memory)  # as long as it is there, the bytearray cannot move

    cdef inline unsigned char* at(self, Py_ssize_t at, Py_ssize_t length) except NULL:
        """The address of `length` bytes from `at` on: the only way to one."""
        if at < 0 or length < 0 or at > self.size - length:
            raise IndexError(f"{length} bytes at {at} of {self.size}")
        return self.start + at

    cpdef int load8(self, Py_ssize_t at) except -1:
        return self.at(at, 1)[0]

    cpdef int store8(self, Py_ssize_t at, int value) except -1:
        self.at(at, 1)[0] = <uint8_t>value
        return 0

    cpdef int load16(self, Py_ssize_t at) except -1:
        cdef uint8_t* p = self.at(at, 2)
        return p[0] << 8 | p[1]

    cpdef int store16(self, Py_ssize_t at, int value) except -1:
        cdef uint8_t* p = self.at(at, 2)
        p[0] = <uint8_t>(value >> 8)
        p[1] = <uint8_t>value
        return 0

    cpdef long long load32(self, Py_ssize_t at) except -1:
        cdef uint8_t* p = self.at(at, 4)
        return <uint32_t>p[0] << 24 | <uint32_t>p[1] << 16 | <uint32_t>p[2] << 8 | p[3]

    cpdef int store32(self, Py_ssize_t at, long long value) except -1:
        cdef uint8_t* p = self.at(at, 4)
        p[0] = <uint8_t>(value >> 24)
        p[1] = <uint8_t>(value >> 16)
        p[2] = <uint8_t>(value >> 8)
        p[3] = <uint8_t>value
        return 0

    cpdef long long load32le(self, Py_ssize_t at) except -1:
        cdef uint8_t* p = self.at(at, 4)
        return <uint32_t>p[3] << 24 | <uint32_t>p[2] << 16 | <uint32_t>p[1] << 8 | p[0]

    cpdef int store32le(self, Py_ssize_t at, long long value) except -1:
        cdef uint8_t* p = self.at(at, 4)
        p[0] = <uint8_t>value
        p[1] = <uint8_t>(value >> 8)
        p[2] = <uint8_t>(value >> 16)
        p[3] = <uint8_t>(value >> 24)
        return 0

    cpdef int copy(self, Py_ssize_t to, Py_ssize_t at, Py_ssize_t length) except -1:
        memmove(self.at(to, length), self.at(at, length), length)
        return 0

    cpdef bint equal(self, Py_ssize_t at, Py_ssize_t other, Py_ssize_t length) except -1:
        return memcmp(self.at(at, length), self.at(other, length), length) == 0

    cpdef int zero(self, Py_ssize_t at, Py_ssize_t length) except -1:
        memset(self.at(at, length), 0, length)
        return 0

    cpdef int sum(self, Py_ssize_t at, Py_ssize_t length) except -1:
        cdef uint8_t* p = self.at(at, length)
        cdef uint64_t total = 0
        cdef uint32_t word
        cdef uint16_t half
        cdef Py_ssize_t i
        cdef Py_ssize_t words = length >> 2
        for i in range(words):  # in the byte order of the host, which the compiler makes vectors of
            memcpy(&word, p + 4 * i, 4)
            total += word
        p += 4 * words
        if length & 2:
            memcpy(&half, p, 2)
            total += half
            p += 2
        if length & 1:
            half = 0
            memcpy(&half, p, 1)
            total += half
        total %= 65535
        if LITTLE:  # swapping the bytes of every word multiplies their sum by 256
            total = total * 256 % 65535
        return <int>total

    cpdef bytes take(self, Py_ssize_t at, Py_ssize_t length):
        return self.at(at, length)[:length]

    cpdef int put(self, Py_ssize_t at, bytes data) except -1:
        memcpy(self.at(at, len(data)), <const unsigned char*>data, len(data))
        return 0
