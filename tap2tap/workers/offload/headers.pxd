cimport cython

from tap2tap.workers.arena cimport Arena

cdef int ETH_HLEN, ETH_P_8021AD, ETH_P_8021Q, ETH_P_IP, ETH_P_IPV6, VLAN_HLEN, VLAN_MAX_DEPTH
cdef int IPPROTO_DSTOPTS, IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_TCP, IPPROTO_UDP, TCP_CHECK, UDP_CHECK
cdef int VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP_L4
cdef int MAX_HEADERS, MAX_OPTIONS
cdef bint LITTLE

cpdef int host(int number) except -1


@cython.final
cdef class Headers:
    cdef readonly Py_ssize_t l3, l4, hl, length, check
    cdef readonly int kind
    cdef readonly bint v4, tcp

    cpdef bint locate(self, Arena arena, Py_ssize_t at, Py_ssize_t size) except -1
    cpdef int pseudo(self, Arena arena, Py_ssize_t at) except -1
    cpdef int set_lengths(self, Arena arena, Py_ssize_t at, Py_ssize_t size) except -1
