"""The UDP socket's system calls, compiled: see udp.py, which says what each method does.

Layouts are those of the C library's headers: struct msghdr, mmsghdr and cmsghdr (recvmsg(2), cmsg(3)).
"""

from libc.errno cimport EACCES, EINTR, ENOSYS, EPERM, errno
from libc.stdint cimport uint16_t
from libc.string cimport memcmp, memcpy, memset
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetFromErrno

from tap2tap.workers.arena cimport Arena

from tap2tap.udp_socket import SOL_UDP as _SOL_UDP, UDP_GRO as _UDP_GRO, UDP_SEGMENT as _UDP_SEGMENT
from tap2tap.workers.train import ROOM as _ROOM

cdef extern from "<sys/socket.h>" nogil:
    struct timespec:
        pass
    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    int MSG_DONTWAIT, MSG_WAITFORONE
    cmsghdr* CMSG_FIRSTHDR(msghdr*)
    unsigned char* CMSG_DATA(cmsghdr*)
    size_t CMSG_LEN(size_t)
    size_t CMSG_SPACE(size_t)
    ssize_t sendto(int, const void*, size_t, int, const sockaddr*, socklen_t)
    ssize_t sendmsg(int, const msghdr*, int)
    int sendmmsg(int, mmsghdr*, unsigned int, int)
    int recvmmsg(int, mmsghdr*, unsigned int, int, timespec*)

cdef extern from "<sys/ioctl.h>" nogil:
    int TIOCOUTQ
    int ioctl(int, unsigned long, ...)

TRAINS = SLOTS
MARGIN = 64
STRIDE = MARGIN + _ROOM
AREA = TRAINS * STRIDE

cdef int SOL_UDP = _SOL_UDP
cdef int UDP_SEGMENT = _UDP_SEGMENT
cdef int UDP_GRO = _UDP_GRO
cdef Py_ssize_t ROOM = _ROOM
cdef Py_ssize_t margin = MARGIN
cdef Py_ssize_t stride = STRIDE


cpdef object refused(object sock):
    if sendmmsg(sock.fileno(), NULL, 0, 0) < 0 and errno in (ENOSYS, EPERM, EACCES):
        return "sendmmsg"
    if recvmmsg(sock.fileno(), NULL, 0, MSG_WAITFORONE, NULL) < 0 and errno in (ENOSYS, EPERM, EACCES):
        return "recvmmsg"
    return None


cdef class Outgoing:
    def __init__(self, sock, Arena arena):
        self.sock, self.fd, self.arena = sock, sock.fileno(), arena
        self.name_length = 0
        memset(&self.train, 0, sizeof(msghdr))
        memset(self.messages, 0, sizeof(self.messages))
        memset(self.control, 0, sizeof(self.control))
        self.train.msg_name = &self.name
        self.train.msg_iov = &self.piece
        self.train.msg_iovlen = 1
        self.train.msg_control = self.control
        self.train.msg_controllen = CMSG_SPACE(sizeof(uint16_t))
        header = CMSG_FIRSTHDR(&self.train)
        header.cmsg_level = SOL_UDP
        header.cmsg_type = UDP_SEGMENT
        header.cmsg_len = CMSG_LEN(sizeof(uint16_t))
        for number in range(MANY):
            message = &self.messages[number].msg_hdr
            message.msg_name = &self.name
            message.msg_iov = &self.pieces[number]
            message.msg_iovlen = 1

    cpdef int aim(self, bytes sockaddr) except -1:
        cdef Py_ssize_t length = PyBytes_GET_SIZE(sockaddr)
        length = {20: 16, 44: 28}[length]  # the local address is not used yet
        if length > <Py_ssize_t>sizeof(sockaddr_storage):
            raise ValueError(f"{length} bytes are no struct sockaddr")
        memcpy(&self.name, PyBytes_AS_STRING(sockaddr), length)
        self.name_length = self.train.msg_namelen = <socklen_t>length
        for number in range(MANY):
            self.messages[number].msg_hdr.msg_namelen = <socklen_t>length
        return 0

    cpdef int send(self, Py_ssize_t at, Py_ssize_t length, int segment) except? -1:
        cdef void* start = self.arena.at(at, length)
        cdef uint16_t value = <uint16_t>segment
        cdef ssize_t sent
        if segment:
            self.piece.iov_base = start
            self.piece.iov_len = length
            memcpy(CMSG_DATA(CMSG_FIRSTHDR(&self.train)), &value, sizeof(value))
        while True:
            if segment:
                sent = sendmsg(self.fd, &self.train, MSG_DONTWAIT)
            else:
                sent = sendto(self.fd, start, length, MSG_DONTWAIT, <sockaddr*>&self.name, self.name_length)
            if sent >= 0:
                return 0
            if errno != EINTR:
                return -errno

    cpdef Py_ssize_t send_each(
        self, Py_ssize_t at, Py_ssize_t size, Py_ssize_t step, Py_ssize_t count, Py_ssize_t last
    ) except? -1:
        cdef Py_ssize_t done = 0
        cdef Py_ssize_t length
        cdef int some, number, sent
        while done < count:
            some = <int>min(count - done, <Py_ssize_t>MANY)
            for number in range(some):
                length = size if done + number < count - 1 else last
                self.pieces[number].iov_base = self.arena.at(at + (done + number) * step, length)
                self.pieces[number].iov_len = length
            sent = sendmmsg(self.fd, self.messages, some, MSG_DONTWAIT)
            if sent < 0:
                if errno == EINTR:
                    continue
                return done or -errno
            done += sent
            if sent < some:
                break
        return done

    cpdef int queued(self) except -1:
        cdef int waiting = 0
        if ioctl(self.fd, TIOCOUTQ, &waiting) < 0:
            PyErr_SetFromErrno(OSError)
        return waiting


cdef class Incoming:
    def __init__(self, sock, Arena arena, Py_ssize_t first):
        self.sock, self.fd, self.arena, self.first = sock, sock.fileno(), arena, first
        self.last = b""
        self.came = SLOTS  # so that all are made ready
        arena.at(first, AREA)
        memset(self.messages, 0, sizeof(self.messages))
        for number in range(SLOTS):
            self.pieces[number].iov_base = arena.at(self.at(number), ROOM)
            self.pieces[number].iov_len = ROOM
            message = &self.messages[number].msg_hdr
            message.msg_name = &self.names[number]
            message.msg_iov = &self.pieces[number]
            message.msg_iovlen = 1
            message.msg_control = self.controls[number]

    cpdef int receive(self) except? -1:
        cdef int number, came
        for number in range(self.came):
            self.messages[number].msg_hdr.msg_namelen = sizeof(sockaddr_storage)
            self.messages[number].msg_hdr.msg_controllen = sizeof(self.controls[0])
        self.came = 0
        with nogil:
            came = recvmmsg(self.fd, self.messages, SLOTS, MSG_WAITFORONE, NULL)
            if came < 0:
                came = -errno
        if came > 0:
            self.came = came
        return came

    cdef msghdr* message(self, int number) except NULL:
        if number < 0 or number >= self.came:
            raise IndexError(f"message {number} of {self.came}")
        return &self.messages[number].msg_hdr

    cpdef Py_ssize_t at(self, int number) except -1:
        return self.first + number * stride + margin

    cpdef Py_ssize_t length(self, int number) except -1:
        self.message(number)
        return self.messages[number].msg_len

    cpdef int segment(self, int number) except? -1:
        cdef msghdr* message = self.message(number)
        cdef cmsghdr* header = CMSG_FIRSTHDR(message)
        cdef int value = 0
        if header and header.cmsg_level == SOL_UDP and header.cmsg_type == UDP_GRO:
            memcpy(&value, CMSG_DATA(header), sizeof(value))
        return value

    cpdef bytes source(self, int number):
        cdef msghdr* message = self.message(number)
        cdef const char* name = <const char*>message.msg_name
        if PyBytes_GET_SIZE(self.last) < <Py_ssize_t>message.msg_namelen or memcmp(
            PyBytes_AS_STRING(self.last), name, message.msg_namelen
        ):
            self.last = name[: message.msg_namelen] + bytes({16: 4, 28: 16}[message.msg_namelen])
        return self.last
