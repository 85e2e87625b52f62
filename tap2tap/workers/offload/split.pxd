cimport cython

from tap2tap.workers.arena cimport Arena
from tap2tap.workers.offload.checksum cimport complete
from tap2tap.workers.offload.clamp cimport Clamp
from tap2tap.workers.offload.headers cimport Headers, host
from tap2tap.workers.train cimport Train

cdef int VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_ECN, VIRTIO_NET_HDR_GSO_NONE, VNET_LENGTH
cdef int MAX_PAYLOAD, MAX_SEGMENTS, ROOM, CWR, FIN, PSH, ONES, TCP_MIN_MSS
cdef int SUPER_FRAMES, SUPER_FRAME_FRAMES, MALFORMED


@cython.final
cdef class Splitter:
    cdef Arena arena
    cdef unsigned long long[::1] counts
    cdef Py_ssize_t out, overhead
    cdef Clamp clamp
    cdef Headers headers
    cdef Train ordinary
    cdef Py_ssize_t at, mss, size, last, segments, done
    cdef Py_ssize_t most
    cdef long long seq
    cdef int ident, flags, ip_sum, partial

    cpdef int begin(self, Train frames, Py_ssize_t room) except -1
    cpdef bint next(self, Train train) except -1
    cdef int begin_ordinary(self, Train frames) except -1
    cdef bint is_transport(self, Train frames, Py_ssize_t start, Py_ssize_t field) except -1
    cdef bint begin_super_frame(self, Py_ssize_t at, Py_ssize_t length, Py_ssize_t room) except -1
    @cython.locals(final=bint)
    cdef int segment(self, Py_ssize_t to, Py_ssize_t number) except -1
