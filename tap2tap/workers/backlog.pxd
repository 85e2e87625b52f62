from tap2tap.workers.udp cimport Outgoing

cdef int FEW
cdef double WINDOW, PAUSE, PATIENCE
cdef int MESSAGE, OVERHEAD_ROOM, HEADERS
cdef int ENTRIES

cdef double _now() except? -1
cdef long long _in_window(long long amount, double seconds) except? -1


cdef class Backlog:
    cdef public long long free
    cdef Outgoing out
    cdef long long messages, datagrams, length
    cdef long long[::1] charges, counts, wires
    cdef Py_ssize_t oldest, entries
    cdef long long charged, few, bytes
    cdef long long left, left_before
    cdef double since, looked
    cdef bint waited
    cdef double busy_since
    cdef long long busy_left
    cdef double patience

    cpdef int sent(self, long long messages, long long datagrams, long long length) except -1
    cpdef long long admit(self, long long least, long long size) except? -1
    cdef long long _look(self) except? -1
    cdef int _enter(self) except -1
    cdef int _add(self, long long charge, long long datagrams, long long wire) except -1
    cdef int _correct(self, long long queued) except -1
    cdef long long _leave(self, long long queued) except? -1
    cdef int _measure(self, double now, long long gone, bint busy) except -1
