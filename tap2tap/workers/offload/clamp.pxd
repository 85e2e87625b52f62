cimport cython

from tap2tap.workers.arena cimport Arena
from tap2tap.workers.offload.headers cimport Headers
from tap2tap.workers.path cimport Path
from tap2tap.workers.train cimport Train

cdef int IP_MF, IP_OFFSET, ONES, SYN, TCP_MIN_MSS, TCPOLEN_MSS, TCPOPT_EOL, TCPOPT_MSS, TCPOPT_NOP
cdef int CLAMPED, SHORT, FRAGMENT


@cython.final
cdef class Clamp:
    cdef Arena arena
    cdef unsigned long long[::1] counts
    cdef Path path
    cdef Py_ssize_t mtu
    cdef Headers headers

    @cython.locals(longest=Py_ssize_t)
    cpdef int lower(self, Train frames) except -1
    cdef bint is_syn(self, Py_ssize_t at, Py_ssize_t size) except -1
    @cython.locals(l4=Py_ssize_t, option=Py_ssize_t, end=Py_ssize_t, kind=int, length=int, value=int)
    cdef bint lower_options(self, Py_ssize_t at, Py_ssize_t mss) except -1
    @cython.locals(total=int)
    cdef int update(self, Py_ssize_t check, int odd, int less) except -1
