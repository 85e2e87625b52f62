cdef Py_ssize_t PATH, UNKNOWN


cdef class Path:
    cdef unsigned long long[::1] _slots
    cdef Py_ssize_t _overhead

    cpdef Py_ssize_t room(self) except -1
