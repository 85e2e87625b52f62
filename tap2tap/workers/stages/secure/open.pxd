from tap2tap.workers.arena cimport Arena
from tap2tap.workers.stages.lengths cimport LengthFilter
from tap2tap.workers.stages.peer cimport Address
from tap2tap.workers.stages.secure.parts cimport Parts
from tap2tap.workers.stages.secure.sessions cimport Session, Sessions
from tap2tap.workers.train cimport Train

cdef int HEADER_LENGTH, OVERHEAD, TYPE_INITIATION, TYPE_CHALLENGE, TYPE_DATA, TYPE_DATA_VOUCHED
cdef int TYPE_PART, TYPE_CONTROL, MOST, NOTHING
cdef int TOO_SHORT, NO_SESSION, REPLAY, AUTHENTICATION, NO_BUFFERS, KEEPALIVES, CONTROL, LATEST, MAIL, PEER_HEARD
cdef long long CONTROL_COUNTERS, SAME_AGE_NS, AGAIN, MISSED


cdef class SecureOpen:
    cdef unsigned long long[::1] _slots, _counts
    cdef object _channel, _handshakes
    cdef Arena _arena
    cdef LengthFilter _lengths
    cdef Parts _parts
    cdef Sessions _sessions
    cdef Address _peer
    cdef long long _now, _mail, _accepted, _late, _skipped, _proofs, _told_at, _missed_at
    cdef bytes _told, _source, _place
    cdef int _family
    cdef bint _client

    cpdef bint open(self, Train train, Train frames, bytes source) except -1
    cpdef idle(self)
    cpdef int obey(self, object order) except -1
    cdef int _begin(self, Train train, Train frames, bytes source) except -1
    cdef int _run(self, Session session, long long word, Train train, Train frames, bytes source) except -1
    cdef int _part(self, Session session, Train train, Py_ssize_t length, Train frames, bytes source) except -1
    cdef int _control(self, Session session, Train train, Py_ssize_t length, bytes source) except -1
    cdef Py_ssize_t _take(self, Session session, Train train, Py_ssize_t length) except -1
    cdef int _note(self, Session session, bint newest, bytes source) except -1
    cdef bytes _where(self, bytes source)
    cdef bint _is_news(self, bytes source) except -1
