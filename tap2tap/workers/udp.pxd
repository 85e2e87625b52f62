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
    CONTROL = 8  # words for control messages: more than CMSG_SPACE(sizeof(int)) bytes

cpdef object refused(object sock)


cdef class Outgoing:
    cdef object sock
    cdef int fd
    cdef Arena arena
    cdef sockaddr_storage name
    cdef socklen_t name_length
    cdef msghdr train
    cdef iovec piece
    cdef size_t control[CONTROL]
    cdef mmsghdr messages[MANY]
    cdef iovec pieces[MANY]

    cpdef int aim(self, bytes sockaddr) except -1
    cpdef int send(self, Py_ssize_t at, Py_ssize_t length, int segment) except? -1
    cpdef Py_ssize_t send_each(
        self, Py_ssize_t at, Py_ssize_t size, Py_ssize_t step, Py_ssize_t count, Py_ssize_t last
    ) except? -1
    cpdef int queued(self) except -1


cdef class Incoming:
    cdef object sock
    cdef int fd
    cdef Arena arena
    cdef Py_ssize_t first
    cdef int came
    cdef bytes last
    cdef mmsghdr messages[SLOTS]
    cdef iovec pieces[SLOTS]
    cdef sockaddr_storage names[SLOTS]
    cdef size_t controls[SLOTS][CONTROL]

    cdef msghdr* message(self, int number) except NULL
    cpdef int receive(self) except? -1
    cpdef Py_ssize_t at(self, int number) except -1
    cpdef Py_ssize_t length(self, int number) except -1
    cpdef int segment(self, int number) except? -1
    cpdef bytes source(self, int number)
