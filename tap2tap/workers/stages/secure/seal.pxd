from tap2tap.workers.aead cimport Aead
from tap2tap.workers.arena cimport Arena
from tap2tap.workers.train cimport Train

cdef int HEADER_LENGTH, OVERHEAD, TYPE_DATA, TYPE_DATA_VOUCHED, NO_SESSION, MAIL
cdef long long REJECT_AFTER_MESSAGES


cdef class SecureSeal:
    cdef readonly int front, overhead
    cdef unsigned long long[::1] _counts
    cdef object _channel
    cdef Arena _arena
    cdef Py_ssize_t _room
    cdef Aead _aead
    cdef long long _index, _next, _until, _mail
    cdef Py_ssize_t _slot
    cdef bint _reminder

    cpdef bint seal(self, Train train) except -1
    cpdef bint keepalive(self, Train train) except -1
    cdef int _obey(self) except -1
    cdef int _read(self) except -1
    cpdef int obey(self, object order) except -1
