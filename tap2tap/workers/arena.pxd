cimport cython


@cython.final
cdef class Arena:
    cdef unsigned char* start  # of the memory, which `view` holds
    cdef readonly Py_ssize_t size
    cdef readonly object view

    cdef unsigned char* at(self, Py_ssize_t at, Py_ssize_t length) except NULL
    cpdef int load8(self, Py_ssize_t at) except -1
    cpdef int store8(self, Py_ssize_t at, int value) except -1
    cpdef int load16(self, Py_ssize_t at) except -1
    cpdef int store16(self, Py_ssize_t at, int value) except -1
    cpdef long long load32(self, Py_ssize_t at) except -1
    cpdef int store32(self, Py_ssize_t at, long long value) except -1
    cpdef long long load32le(self, Py_ssize_t at) except -1
    cpdef int store32le(self, Py_ssize_t at, long long value) except -1
    cpdef int copy(self, Py_ssize_t to, Py_ssize_t at, Py_ssize_t length) except -1
    cpdef bint equal(self, Py_ssize_t at, Py_ssize_t other, Py_ssize_t length) except -1
    cpdef int zero(self, Py_ssize_t at, Py_ssize_t length) except -1
    cpdef int sum(self, Py_ssize_t at, Py_ssize_t length) except -1
    cpdef bytes take(self, Py_ssize_t at, Py_ssize_t length)
    cpdef int put(self, Py_ssize_t at, bytes data) except -1
