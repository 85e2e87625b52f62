from tap2tap.workers.arena cimport Arena

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void* iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    struct sockaddr:
        pass
    struct sockaddr_storage:
        pass
    struct msghdr:
        void* msg_name
        socklen_t msg_namelen
        iovec* msg_iov
        size_t msg_iovlen
        void* msg_control
        size_t msg_controllen
        int msg_flags
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len

cdef enum:
    MANY = 64  # datagrams that one sendmmsg(2) sends
    SLOTS = 8
    CONTROL = 16  # words for control messages: UDP_SEGMENT or UDP_GRO, and PKTINFO

cpdef object refused(object sock)


cdef class Outgoing:
    cdef object sock
    cdef int fd
    cdef Arena arena
    cdef sockaddr_storage name
    cdef socklen_t name_length
    cdef size_t local_length  # of the control message for it; 0: none
    cdef bint pinned  # whether that is used
    cdef long long gone_at
    cdef msghdr train
    cdef iovec piece
    cdef size_t control[CONTROL]  # UDP_SEGMENT, and behind it PKTINFO: a train has both, or the former alone
    cdef mmsghdr messages[MANY]
    cdef iovec pieces[MANY]

    cpdef int aim(self, bytes raw) except -1
    cpdef int send(self, Py_ssize_t at, Py_ssize_t length, int segment) except? -1
    cpdef Py_ssize_t send_each(
        self, Py_ssize_t at, Py_ssize_t size, Py_ssize_t step, Py_ssize_t count, Py_ssize_t last
    ) except? -1
    cdef int transmit(self, void* start, Py_ssize_t length, bint train) except? -1
    cdef Py_ssize_t transmit_each(
        self, Py_ssize_t at, Py_ssize_t size, Py_ssize_t step, Py_ssize_t count, Py_ssize_t last
    ) except? -1
    cdef int pin(self, bint pinned) except -1
    cdef bint may_be_gone(self, Py_ssize_t result) except -1
    cdef int conclude(self, Py_ssize_t result) except -1
    cpdef int queued(self) except -1


cdef class Incoming:
    cdef object sock
    cdef int fd
    cdef Arena arena
    cdef Py_ssize_t first
    cdef int came
    cdef Py_ssize_t name_length, local_at, local_length
    cdef int level, kind  # of the control message that has it
    cdef bytes last
    cdef mmsghdr messages[SLOTS]
    cdef iovec pieces[SLOTS]
    cdef sockaddr_storage names[SLOTS]
    cdef size_t controls[SLOTS][CONTROL]

    cdef msghdr* message(self, int number) except NULL
    cdef unsigned char* control(self, int number, int level, int kind) except? NULL
    cpdef int receive(self) except? -1
    cpdef Py_ssize_t at(self, int number) except -1
    cpdef Py_ssize_t length(self, int number) except -1
    cpdef int segment(self, int number) except? -1
    cpdef bytes source(self, int number)
