"""Constants of network headers, by the kernel's names: linux/if_ether.h, linux/in.h, linux/tcp.h, linux/udp.h."""

ETH_HLEN = 14
ETH_P_IP = 0x0800
ETH_P_IPV6 = 0x86DD
ETH_P_8021Q = 0x8100
ETH_P_8021AD = 0x88A8
VLAN_HLEN = 4  # linux/if_vlan.h
VLAN_MAX_DEPTH = 8
IP_DF, IP_MF, IP_OFFSET = 0x4000, 0x2000, 0x1FFF  # include/net/ip.h
IPPROTO_HOPOPTS = 0
IPPROTO_TCP = 6
IPPROTO_UDP = 17
IPPROTO_ROUTING = 43
IPPROTO_DSTOPTS = 60
TCP_CHECK = 16  # offsetof(struct tcphdr, check)
UDP_CHECK = 6  # offsetof(struct udphdr, check)
TCPOPT_EOL, TCPOPT_NOP, TCPOPT_MSS, TCPOLEN_MSS = 0, 1, 2, 4  # include/net/tcp.h
TCP_MIN_MSS = 88
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))  # the flags in byte 13 of a TCP header

ONES = 65535  # the modulus of checksums (RFC 1071), in which 0 and 65535 are both zero
