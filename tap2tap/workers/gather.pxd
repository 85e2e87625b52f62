from tap2tap.workers.arena cimport Arena
from tap2tap.workers.tap cimport Tap
from tap2tap.workers.train cimport Train

cdef int VNET_LENGTH, MAX_SEGMENTS, MAX_PAYLOAD, ROOM, EAGAIN
cdef int GSO_TYPE, NONE, ALONE


cdef class Gather:
    cdef Tap tap
    cdef Arena arena
    cdef Py_ssize_t first, overhead, saved, covered, left_at, left
    cdef bint empty
    cdef int alone

    cpdef bint read(self, Train frames) except -1
    cdef Py_ssize_t take_left(self, Py_ssize_t size) except -1
    cdef Py_ssize_t next(self, Py_ssize_t at) except? -999
