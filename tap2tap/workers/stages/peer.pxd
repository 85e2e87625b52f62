cdef int CHECK


cdef class Address:
    cdef object _slots
    cdef unsigned long long[::1] _words  # the same
    cdef Py_ssize_t _at
    cdef int _family
    cdef unsigned long long _check
    cdef bytes _sockaddr

    cpdef bytes current(self)


cdef class PeerFilter:
    cdef object _slots, _here
    cdef unsigned long long[::1] _words  # the same
    cdef Py_ssize_t _at, _heard, _length
    cdef bint _fixed
    cdef Address _peer
    cdef unsigned long long _paid_until, _confirmed

    cpdef bint admits(self, bytes source, unsigned long long now) except -1
    cpdef bint answers(self, unsigned long long now) except -1
    cpdef rest(self, unsigned long long now)
