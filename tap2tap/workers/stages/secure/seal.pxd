from tap2tap.workers.aead cimport Aead
from tap2tap.workers.arena cimport Arena
from tap2tap.workers.path cimport Path
from tap2tap.workers.stages.secure.complaints cimport Complaints
from tap2tap.workers.train cimport Train

cdef int HEADER_LENGTH, OVERHEAD, PART_HEADER_LENGTH, PART_VOUCHED, MAX_PARTS, MAX_PAYLOAD, MAX_SEGMENTS, LONGEST_PART
cdef int TYPE_CONTROL, TYPE_DATA, TYPE_DATA_VOUCHED, TYPE_PART
cdef int NO_SESSION, UNCHECKED, TOO_LONG, PARTS, MAIL, SEALED, LIMIT, PEER_MTU
cdef long long REJECT_AFTER_MESSAGES


cdef class SecureSeal:
    cdef readonly int front, overhead
    cdef unsigned long long[::1] _slots, _counts
    cdef object _channel, _orders
    cdef Arena _arena
    cdef Py_ssize_t _area
    cdef Path _path
    cdef Complaints _complaints
    cdef Aead _aead
    cdef long long _index, _next, _until, _mail
    cdef Py_ssize_t _slot
    cdef bint _parts, _reminder
    cdef Train _sealed

    cpdef bint seal(self, Train frames, Train train) except -1
    cpdef bint keepalive(self, Train train) except -1
    cpdef bint control(self, Train train) except -1
    cpdef too_long(self, Py_ssize_t size)
    cdef bint _whole(self, Train frames, Train train) except -1
    cdef bint _cut(self, Train frames, Py_ssize_t length, Py_ssize_t most) except -1
    cdef int _seal_parts(self, Py_ssize_t at, Py_ssize_t to, long long word, Py_ssize_t piece, long long counter) except -1
    cdef bint _hand_out(self, Train train) except -1
    cdef int _refusal(self, Py_ssize_t count, Py_ssize_t length) except -1
    cdef long long _take(self, Py_ssize_t count, Py_ssize_t length) except -1
    cdef int _seal_one(self, Py_ssize_t at, Py_ssize_t length, int kind, long long counter) except -1
    cdef int _obey(self) except -1
    cdef int _read(self) except -1
    cpdef int obey(self, object order) except -1
