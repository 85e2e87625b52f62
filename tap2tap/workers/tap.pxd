from tap2tap.workers.arena cimport Arena


cdef extern from "<poll.h>":
    struct pollfd:
        int fd
        short events
        short revents


cdef extern from "<sys/uio.h>":
    struct iovec:
        void* iov_base
        size_t iov_len


cdef class Tap:
    cdef int fd
    cdef Arena arena
    cdef pollfd sources[2]
    cdef int polled
    cdef iovec vector[66]  # a joined run: its headers, and the payloads of up to 64 frames
    cdef int pieces

    cpdef Py_ssize_t read(self, Py_ssize_t at, Py_ssize_t length) except? -999
    cpdef Py_ssize_t write(self, Py_ssize_t at, Py_ssize_t length) except? -999
    cpdef int add(self, Py_ssize_t at, Py_ssize_t length) except -1
    cpdef Py_ssize_t write_added(self) except? -999
    cpdef bint wait(self, int timeout) except -1
