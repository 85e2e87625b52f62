from tap2tap.workers.arena cimport Arena
from tap2tap.workers.stages.lengths cimport LengthFilter
from tap2tap.workers.stages.peer cimport Address
from tap2tap.workers.stages.secure.sessions cimport Session, Sessions
from tap2tap.workers.train cimport Train

cdef int HEADER_LENGTH, OVERHEAD, TYPE_INITIATION, TYPE_CHALLENGE, TYPE_DATA, TYPE_DATA_VOUCHED
cdef int TOO_SHORT, NO_SESSION, REPLAY, AUTHENTICATION, KEEPALIVES, LATEST, MAIL, PEER_HEARD
cdef long long CONTROL_COUNTERS, SAME_AGE_NS


cdef class SecureOpen:
    cdef unsigned long long[::1] _slots, _counts
    cdef object _memory, _channel, _handshakes
    cdef Arena _arena
    cdef LengthFilter _lengths
    cdef Sessions _sessions
    cdef Address _peer
    cdef long long _now, _mail

    cpdef bint open(self, Train train, Train frames, bytes source) except -1
    cpdef idle(self)
    cpdef int obey(self, object order) except -1
    cdef int _begin(self, Train train, Train frames, bytes source) except -1
    cdef int _run(self, Session session, long long word, Train train, Train frames, bytes source) except -1
    cdef int _note(self, Session session, bint newest, bint control, bytes source) except -1
