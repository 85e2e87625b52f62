from tap2tap.workers.arena cimport Arena


cdef class Aead:
    cdef void* sealing  # EVP_CIPHER_CTX, each with the key's schedule
    cdef void* opening
    cdef bint big  # the counter's byte order in the nonce
    cdef unsigned char nonce[12]

    cpdef int seal(self, Arena arena, Py_ssize_t at, Py_ssize_t length, unsigned long long counter) except -1
    cpdef bint open(self, Arena arena, Py_ssize_t at, Py_ssize_t length, unsigned long long counter) except -1
    cdef int set_nonce(self, unsigned long long counter) noexcept
