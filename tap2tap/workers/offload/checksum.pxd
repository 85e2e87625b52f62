from tap2tap.workers.arena cimport Arena
from tap2tap.workers.train cimport Train

cdef int ONES

cpdef Py_ssize_t complete(Arena arena, Train frames, Py_ssize_t start, Py_ssize_t offset) except -1
