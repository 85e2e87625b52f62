"""The tap's system calls, compiled: see tap.py, which says what each method does."""

from libc.errno cimport EINTR, errno
from libc.stddef cimport size_t

from tap2tap.workers.arena cimport Arena


cdef extern from "<poll.h>":
    int poll(pollfd*, unsigned long, int) nogil
    short POLLIN


cdef extern from "<unistd.h>":
    ssize_t c_read "read"(int, void*, size_t) nogil
    ssize_t c_write "write"(int, const void*, size_t) nogil


cdef extern from "<sys/uio.h>":
    ssize_t c_writev "writev"(int, const iovec*, int) nogil


cdef class Tap:
    def __init__(self, int fd, Arena arena, int channel=-1):
        self.fd = fd
        self.arena = arena
        self.sources[0].fd, self.sources[0].events = fd, POLLIN
        self.sources[1].fd, self.sources[1].events = channel, POLLIN
        self.polled = 2 if channel >= 0 else 1
        self.pieces = 0

    cpdef Py_ssize_t read(self, Py_ssize_t at, Py_ssize_t length) except? -999:
        cdef void* place = self.arena.at(at, length)
        cdef Py_ssize_t got = c_read(self.fd, place, length)
        while got < 0 and errno == EINTR:
            got = c_read(self.fd, place, length)
        return got if got >= 0 else -errno

    cpdef Py_ssize_t write(self, Py_ssize_t at, Py_ssize_t length) except? -999:
        cdef void* place = self.arena.at(at, length)
        cdef Py_ssize_t done = c_write(self.fd, place, length)
        while done < 0 and errno == EINTR:
            done = c_write(self.fd, place, length)
        return done if done >= 0 else -errno

    cpdef int add(self, Py_ssize_t at, Py_ssize_t length) except -1:
        if self.pieces == 66:
            raise IndexError("too many pieces")
        self.vector[self.pieces].iov_base = self.arena.at(at, length)
        self.vector[self.pieces].iov_len = length
        self.pieces += 1
        return 0

    cpdef Py_ssize_t write_added(self) except? -999:
        cdef int pieces = self.pieces
        self.pieces = 0
        cdef Py_ssize_t done = c_writev(self.fd, self.vector, pieces)
        while done < 0 and errno == EINTR:
            done = c_writev(self.fd, self.vector, pieces)
        return done if done >= 0 else -errno

    cpdef bint wait(self, int timeout) except -1:
        cdef int ready
        with nogil:
            ready = poll(self.sources, self.polled, timeout)
        return ready > 0
