cdef long long REJECT_AFTER_MESSAGES


cdef class ReplayWindow:
    cdef readonly long long next
    cdef long long _size
    cdef unsigned char[::1] _seen

    cpdef bint fresh(self, long long counter) except -1
    cpdef int accept(self, long long counter) except -1
