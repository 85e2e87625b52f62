"""`struct virtio_net_hdr`: the ten bytes in front of every frame that crosses the tap.

Layout and constants are those of linux/virtio_net.h (the legacy header, in the byte order of the host).
"""

import struct

VNET_HEADER = struct.Struct("=BBHHHH")  # flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
VNET_LENGTH = VNET_HEADER.size
NO_OFFLOAD = bytes(VNET_LENGTH)  # the header of an ordinary frame with complete checksums

VIRTIO_NET_HDR_F_NEEDS_CSUM = 1
VIRTIO_NET_HDR_F_DATA_VALID = 2

VIRTIO_NET_HDR_GSO_NONE = 0
VIRTIO_NET_HDR_GSO_TCPV4 = 1
VIRTIO_NET_HDR_GSO_UDP = 3  # IP fragments of one UDP datagram; never offered by us
VIRTIO_NET_HDR_GSO_TCPV6 = 4
VIRTIO_NET_HDR_GSO_UDP_L4 = 5
VIRTIO_NET_HDR_GSO_ECN = 0x80  # or-ed to a TCP type: the first segment carries CWR
