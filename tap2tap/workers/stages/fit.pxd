from tap2tap.workers.train cimport Train

cdef int TOO_LONG, TOO_SHORT, ETHERNET_HEADER

cpdef bint fits(Train frames, Py_ssize_t longest, unsigned long long[::1] counts) except -1
