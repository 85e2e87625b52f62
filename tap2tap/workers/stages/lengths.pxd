from tap2tap.workers.train cimport Train

cdef int TOO_SHORT, ETHERNET_HEADER


cdef class LengthFilter:
    cdef unsigned long long[::1] _counts

    cpdef bint keep(self, Train frames) except -1
