from tap2tap.workers.aead cimport Aead
from tap2tap.workers.stages.secure.parts cimport Parts
from tap2tap.workers.stages.secure.replay cimport ReplayWindow


cdef class Session:
    cdef readonly int index
    cdef readonly Py_ssize_t slot, accepted, late
    cdef readonly long long until
    cdef readonly ReplayWindow window
    cdef readonly Aead aead
    cdef public bint proved


cdef class Sessions:
    cdef object _counts
    cdef Parts _parts
    cdef dict _open
    cdef readonly long long until

    cpdef Session find(self, int index)
    cdef int _set_until(self) except -1
    cpdef int obey(self, object order) except -1
    cpdef int expire(self, long long now) except -1
