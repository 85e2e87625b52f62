cdef class Train:
    cdef public Py_ssize_t at
    cdef public Py_ssize_t size
    cdef public Py_ssize_t step
    cdef public Py_ssize_t count
    cdef public Py_ssize_t last
    cdef public bint vouched

    cpdef Py_ssize_t size_of(self, Py_ssize_t number) except -1
    cpdef Py_ssize_t length(self) except -1
