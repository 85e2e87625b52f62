import cython

from tap2tap.workers.arena cimport Arena
from tap2tap.workers.train cimport Train

cdef int MAX_PARTS, PART_HEADER_LENGTH, PART_VOUCHED, ETHERNET_HEADER
cdef int PARTS, TOO_SHORT, MALFORMED, INCOMPLETE
cdef long long PATIENCE


cdef class Unfinished:
    cdef Py_ssize_t at, count, length, piece, left
    cdef long long session, first, age
    cdef unsigned long long came
    cdef bint vouched

    cdef int end(self) except -1


cdef class Parts:
    cdef Arena _arena
    cdef unsigned long long[::1] _counts
    cdef list _frames
    cdef long long _begun

    @cython.locals(bit="unsigned long long", frame=Unfinished)
    cpdef bint take(
        self, long long session, long long counter, long long newest, Py_ssize_t at, Py_ssize_t length, Train frames
    ) except -1
    @cython.locals(frame=Unfinished)
    cpdef int forget(self, long long session) except -1
    @cython.locals(frame=Unfinished)
    cdef Unfinished _find(self, long long session, long long first)
    @cython.locals(frame=Unfinished, chosen=Unfinished)
    cdef Unfinished _begin(self, long long session, long long first, long long newest)


cpdef Py_ssize_t piece_of(Py_ssize_t number, Py_ssize_t count, Py_ssize_t whole, Py_ssize_t length) except -1
