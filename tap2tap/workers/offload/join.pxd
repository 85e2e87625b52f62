cimport cython

from tap2tap.workers.arena cimport Arena
from tap2tap.workers.offload.headers cimport Headers, host
from tap2tap.workers.train cimport Train

cdef int VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_ECN, VNET_LENGTH, MAX_SEGMENTS
cdef int ACK, CWR, FIN, IP_DF, PSH, RST, SYN, URG, ONES
cdef int BEGIN, LIMITS
cdef long long SEQUENCE


@cython.final
cdef class Joiner:
    cdef Arena arena
    cdef bint udp
    cdef public int paused
    cdef Headers headers
    cdef readonly Py_ssize_t scratch, head, hl
    cdef Py_ssize_t at, size, mss
    cdef int pseudo, ident, steps, ip_sum, flags, ends, window
    cdef long long seq

    cpdef int kind(self) except -1
    cpdef Py_ssize_t run(self, Train frames, Py_ssize_t first) except -1
    cdef bint begins(self, Py_ssize_t at, Py_ssize_t size) except -1
    cdef bint continues(self, Py_ssize_t at, Py_ssize_t size, Py_ssize_t number) except -1
    cdef bint network_continues(self, Py_ssize_t at, Py_ssize_t size, Py_ssize_t number) except -1
    cdef bint right(self, Py_ssize_t at, Py_ssize_t size) except -1
    cdef int write_head(self, Py_ssize_t length) except -1
