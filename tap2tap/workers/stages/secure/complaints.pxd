cdef int LONG, PEER_MTU, HEADERS
cdef long long AGAIN
cdef int KINDS, FEW


cdef class Complaints:
    cdef unsigned long long[::1] _slots, _counts
    cdef object _channel
    cdef set _told_mtus
    cdef set _told
    cdef unsigned long long _path
    cdef long long _since

    cdef int long_frames(self, Py_ssize_t size, Py_ssize_t last, Py_ssize_t count) except -1
    cdef int _explain(self, Py_ssize_t size) except -1
    cpdef too_long(self, Py_ssize_t size)
