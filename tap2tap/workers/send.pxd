from tap2tap.workers.arena cimport Arena
from tap2tap.workers.backlog cimport Backlog
from tap2tap.workers.train cimport Train
from tap2tap.workers.udp cimport Outgoing

cdef int TRAINS, DATAGRAMS, FALLBACKS, DROPPED, NO_BUFFERS, SINGLY, IN_TRAINS
cdef int NEVER


cdef class Sender:
    cdef public Outgoing out
    cdef unsigned long long[::1] counts
    cdef Backlog backlog
    cdef bytes sockaddr
    cdef object too_long
    cdef Py_ssize_t single_from
    cdef double retry_at

    cpdef int send(self, Train train, bytes sockaddr) except -1
    cpdef bint single(self, Train train, bytes sockaddr) except -1
    cdef int _aim(self, bytes sockaddr) except -1
    cdef bint _singly(self) except -1
    cdef int _send_first(self, Train train) except? -1
    cdef int _refused(self, Train train, int number) except -1
    cdef int _switch_off(self, Py_ssize_t size, int number) except -1
    cdef int _send_each(self, Train train, Py_ssize_t first) except -1
    cdef int _explain(self, int number, Py_ssize_t size) except -1
    cdef bint _drop(self, int number, Py_ssize_t size, Py_ssize_t datagrams) except -1
