from tap2tap.workers.train cimport Train
from tap2tap.workers.udp cimport Incoming


cdef class Receiver:
    cdef public bytes source
    cdef public Incoming incoming
    cdef int came, number

    cpdef bint receive(self) except -1
    cpdef bint next(self, Train train) except -1
