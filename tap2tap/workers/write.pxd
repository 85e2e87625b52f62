cimport cython

from tap2tap.workers.arena cimport Arena
from tap2tap.workers.offload.clamp cimport Clamp
from tap2tap.workers.offload.join cimport Joiner
from tap2tap.workers.tap cimport Tap
from tap2tap.workers.train cimport Train

cdef int VNET_LENGTH, EINVAL
cdef int FRAMES, BYTES, FALLBACKS, SUPER_FRAMES, SUPER_FRAME_FRAMES


cdef class Writer:
    cdef Tap tap
    cdef Arena arena
    cdef unsigned long long[::1] counts
    cdef Joiner joiner
    cdef Clamp clamp
    cdef int told
    cdef dict retry_at

    cpdef int write(self, Train frames) except -1
    cdef bint write_one(self, Py_ssize_t at, Py_ssize_t size) except -1
    @cython.locals(taken=bint)
    cdef int write_run(self, Train frames, Py_ssize_t first, Py_ssize_t count, Joiner joiner) except -1
    cdef int pause(self, Joiner joiner) except -1
    cdef int resume(self, Joiner joiner) except -1
    cdef int lose(self, int error, Py_ssize_t frames) except -1
