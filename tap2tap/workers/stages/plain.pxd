cimport cython

from tap2tap.workers.path cimport Path
from tap2tap.workers.stages.lengths cimport LengthFilter
from tap2tap.workers.stages.peer cimport PeerFilter
from tap2tap.workers.train cimport Train

cdef int STRANGER, KEEPALIVES, PARTS


cdef class PlainSeal:
    cdef readonly int front, overhead
    cdef unsigned long long[::1] _counts
    cdef object _keepalive
    cdef Path _path
    cdef Py_ssize_t _room

    @cython.locals(room=Py_ssize_t)
    cpdef bint seal(self, Train frames, Train train) except -1
    cpdef bint keepalive(self, Train train) except -1
    cpdef bint control(self, Train train) except -1
    cpdef too_long(self, Py_ssize_t size)


cdef class PlainOpen:
    cdef unsigned long long[::1] _counts
    cdef PeerFilter _peers
    cdef LengthFilter _lengths
    cdef object _sock

    @cython.locals(count=Py_ssize_t, empty=bint, now="unsigned long long")
    cpdef bint open(self, Train train, Train frames, bytes source) except -1
    cpdef idle(self)
    cdef _answer(self, bytes source)
