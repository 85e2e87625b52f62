"""The UDP socket's system calls, compiled: see udp.py, which says what each method does.

Layouts are those of the C library's headers: struct msghdr, mmsghdr and cmsghdr (recvmsg(2), cmsg(3)).
"""

from libc.errno cimport EACCES, EADDRNOTAVAIL, EINTR, EINVAL, ENETUNREACH, ENOSYS, EPERM, errno
from libc.stdint cimport uint16_t
from libc.string cimport memcmp, memcpy, memset
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetFromErrno

from tap2tap.workers.arena cimport Arena

from tap2tap.endpoint import SOCKADDR_LENGTH
from tap2tap.udp_socket import PKTINFO, from_address
from tap2tap.udp_socket import SOL_UDP as _SOL_UDP, UDP_GRO as _UDP_GRO, UDP_SEGMENT as _UDP_SEGMENT
from tap2tap.workers.train import ROOM as _ROOM

cdef extern from "<time.h>" nogil:
    struct timespec:
        long long tv_sec
    int CLOCK_MONOTONIC
    int clock_gettime(int, timespec*)

cdef extern from "<sys/socket.h>" nogil:
    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    int MSG_DONTWAIT, MSG_WAITFORONE
    cmsghdr* CMSG_FIRSTHDR(msghdr*)
    cmsghdr* CMSG_NXTHDR(msghdr*, cmsghdr*)
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
cdef char[16] NOWHERE  # zeros


cpdef object refused(object sock):
    if sendmmsg(sock.fileno(), NULL, 0, 0) < 0 and errno in (ENOSYS, EPERM, EACCES):
        return "sendmmsg"
    if recvmmsg(sock.fileno(), NULL, 0, MSG_WAITFORONE, NULL) < 0 and errno in (ENOSYS, EPERM, EACCES):
        return "recvmmsg"
    return None


cdef long long seconds() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec


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
        self.train.msg_controllen = sizeof(self.control)
        header = CMSG_FIRSTHDR(&self.train)
        header.cmsg_level = SOL_UDP
        header.cmsg_type = UDP_SEGMENT
        header.cmsg_len = CMSG_LEN(sizeof(uint16_t))
        for number in range(MANY):
            message = &self.messages[number].msg_hdr
            message.msg_name = &self.name
            message.msg_iov = &self.pieces[number]
            message.msg_iovlen = 1
            message.msg_control = <char*>self.control + CMSG_SPACE(sizeof(uint16_t))
        self.pin(False)

    cpdef int aim(self, bytes raw) except -1:
        cdef Py_ssize_t length = SOCKADDR_LENGTH[self.sock.family], local_length = PKTINFO[self.sock.family][3]
        cdef cmsghdr* header = <cmsghdr*>self.messages[0].msg_hdr.msg_control
        cdef bytes local = raw[length:], data
        if len(local) != local_length:
            raise ValueError(f"{len(raw)} bytes are no address and local address")
        memcpy(&self.name, PyBytes_AS_STRING(raw), length)
        self.name_length = self.train.msg_namelen = <socklen_t>length
        for number in range(MANY):
            self.messages[number].msg_hdr.msg_namelen = <socklen_t>length
        self.local_length = 0
        if any(local):
            header.cmsg_level, header.cmsg_type, data = from_address(local)
            header.cmsg_len = CMSG_LEN(len(data))
            memcpy(CMSG_DATA(header), PyBytes_AS_STRING(data), len(data))
            self.local_length = header.cmsg_len  # without padding: Linux has room for so much without an allocation
        return self.pin(self.local_length)

    cdef int pin(self, bint pinned) except -1:
        cdef size_t length = self.local_length if pinned else 0
        cdef int number
        self.pinned = pinned
        self.train.msg_controllen = CMSG_SPACE(sizeof(uint16_t)) + length
        for number in range(MANY):
            self.messages[number].msg_hdr.msg_controllen = length
        return 0

    cdef bint may_be_gone(self, Py_ssize_t result) except -1:
        if not self.pinned or result != -EINVAL and result != -ENETUNREACH and result != -EADDRNOTAVAIL:
            return False
        self.pin(False)
        return True

    cdef int conclude(self, Py_ssize_t result) except -1:
        if result < 0:
            return self.pin(True)
        self.gone_at = seconds()
        return 0

    cpdef int send(self, Py_ssize_t at, Py_ssize_t length, int segment) except? -1:
        cdef void* start = self.arena.at(at, length)
        cdef uint16_t value = <uint16_t>segment
        cdef int result
        if segment:
            memcpy(CMSG_DATA(CMSG_FIRSTHDR(&self.train)), &value, sizeof(value))
        if self.local_length and not self.pinned:
            self.pin(seconds() > self.gone_at)
        result = self.transmit(start, length, segment)
        if self.may_be_gone(result):
            result = self.transmit(start, length, segment)
            self.conclude(result)
        return result

    cdef int transmit(self, void* start, Py_ssize_t length, bint train) except? -1:
        cdef msghdr* message = &self.train if train else &self.messages[0].msg_hdr
        cdef ssize_t sent
        message.msg_iov.iov_base = start
        message.msg_iov.iov_len = length
        while True:
            if message.msg_controllen:
                sent = sendmsg(self.fd, message, MSG_DONTWAIT)
            else:  # less for the kernel to read
                sent = sendto(self.fd, start, length, MSG_DONTWAIT, <sockaddr*>&self.name, self.name_length)
            if sent >= 0:
                return 0
            if errno != EINTR:
                return -errno

    cpdef Py_ssize_t send_each(
        self, Py_ssize_t at, Py_ssize_t size, Py_ssize_t step, Py_ssize_t count, Py_ssize_t last
    ) except? -1:
        cdef Py_ssize_t result
        if self.local_length and not self.pinned:
            self.pin(seconds() > self.gone_at)
        result = self.transmit_each(at, size, step, count, last)
        if self.may_be_gone(result):
            result = self.transmit_each(at, size, step, count, last)
            self.conclude(result)
        return result

    cdef Py_ssize_t transmit_each(
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
        self.level, self.kind, self.local_at, self.local_length = PKTINFO[sock.family]
        self.name_length = SOCKADDR_LENGTH[sock.family]
        self.last = bytes(self.name_length + self.local_length)
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

    cdef unsigned char* control(self, int number, int level, int kind) except? NULL:
        cdef msghdr* message = self.message(number)
        cdef cmsghdr* header = CMSG_FIRSTHDR(message)
        while header and (header.cmsg_level != level or header.cmsg_type != kind):
            header = CMSG_NXTHDR(message, header)
        return CMSG_DATA(header) if header else NULL

    cpdef int segment(self, int number) except? -1:
        cdef unsigned char* data = self.control(number, SOL_UDP, UDP_GRO)
        cdef int value = 0
        if data:
            memcpy(&value, data, sizeof(value))
        return value

    cpdef bytes source(self, int number):
        cdef const char* name = <const char*>self.message(number).msg_name
        cdef const char* local = <const char*>self.control(number, self.level, self.kind)
        cdef const char* last = PyBytes_AS_STRING(self.last)
        local = local + self.local_at if local else NOWHERE
        if memcmp(last, name, self.name_length) or memcmp(last + self.name_length, local, self.local_length):
            self.last = name[: self.name_length] + local[: self.local_length]
        return self.last
