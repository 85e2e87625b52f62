/* The limit of this design, for the benchmark: the kernel's part of a tunnel and nothing else.
 *
 *   relay DEVICE LOCAL REMOTE PORT
 *
 * Two processes, one a direction, as tap2tap has. What a tap gives is sent as it is, virtio_net_hdr in front, and what
 * arrives is written to the other tap: as many system calls, copies and datagrams as tap2tap makes, and no work on the
 * bytes. So both ends must be relays, the path must lose nothing, and there is no protocol.
 *
 *   super-frame   one train: [virtio_net_hdr, super-frame] cut into as many datagrams (UDP_SEGMENT) as it has segments
 *   other frames  one train of as many as wait and are equally long: [virtio_net_hdr, frame] in each datagram
 *
 * The MTU of the device must be 10 less than what would fill the path with a frame alone.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/udp.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define TUN_F_USO 0x60      /* TUN_F_USO4 | TUN_F_USO6, linux/if_tun.h from 6.2 on */
#define SUPER (1 << 16)     /* bytes that one read of the tap may give */
#define SEGMENTS 64         /* UDP_MAX_SEGMENTS */
#define TRAIN 65507         /* bytes in one send */
#define HEADERS 66          /* of a frame that TCP made: Ethernet, IPv4, TCP with time stamps */

static _Alignas(8) char buffer[TRAIN + SUPER];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int open_tap(const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (tap < 0 || ioctl(tap, TUNSETIFF, &request))
        fail("tap");
    unsigned offload = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
    if (ioctl(tap, TUNSETOFFLOAD, offload | TUN_F_USO) && ioctl(tap, TUNSETOFFLOAD, offload))
        fail("TUNSETOFFLOAD");
    return tap;
}

static int open_udp(const char *local, const char *remote, int port)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port)}, there = here;
    int udp = socket(AF_INET, SOCK_DGRAM, 0), yes = 1, room = 4 << 20;
    if (inet_pton(AF_INET, local, &here.sin_addr) != 1 || inet_pton(AF_INET, remote, &there.sin_addr) != 1)
        fail("address");
    setsockopt(udp, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    setsockopt(udp, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    if (setsockopt(udp, IPPROTO_UDP, UDP_GRO, &yes, sizeof yes))
        fail("UDP_GRO");
    if (bind(udp, (struct sockaddr *)&here, sizeof here) || connect(udp, (struct sockaddr *)&there, sizeof there))
        fail("UDP socket");
    return udp;
}

/* Send `length` bytes in datagrams of `segment`, the last of which may be shorter. */
static void send_train(int udp, char *bytes, size_t length, size_t segment)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(2)] = {0};
    struct iovec vector = {bytes, length};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    if (segment < length) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *item = CMSG_FIRSTHDR(&message);
        item->cmsg_level = IPPROTO_UDP;
        item->cmsg_type = UDP_SEGMENT;
        item->cmsg_len = CMSG_LEN(2);
        memcpy(CMSG_DATA(item), &(unsigned short){segment}, 2);
    }
    /* ECONNREFUSED, while the other end is not there yet, is nobody's fault. */
    if (sendmsg(udp, &message, 0) < 0 && errno != ECONNREFUSED)
        perror("send");
}

static void outbound(int tap, int udp)
{
    struct pollfd wait = {.fd = tap, .events = POLLIN};
    size_t used = 0, each = 0; /* bytes of frames of `each` bytes that wait at the beginning of the buffer */
    for (;;) {
        struct virtio_net_hdr header;
        char *next = buffer + used;
        ssize_t length = read(tap, next, SUPER);
        if (length < 0 && errno != EAGAIN)
            fail("read");
        memcpy(&header, next, sizeof header);
        int super = length > 0 && header.gso_type != VIRTIO_NET_HDR_GSO_NONE;
        if (used && (length < 0 || super || (size_t)length != each || used + length > TRAIN || used / each == SEGMENTS)) {
            send_train(udp, buffer, used, each);
            used = 0;
        }
        if (length < 0) {
            poll(&wait, 1, -1);
        } else if (super) {
            size_t count = (length - HEADERS + header.gso_size - 1) / header.gso_size;
            send_train(udp, next, length, (length + count - 1) / count);
        } else {
            memmove(buffer + used, next, length);
            used += each = length;
        }
    }
}

static void inbound(int tap, int udp)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    struct iovec vector = {buffer, sizeof buffer};
    for (;;) {
        struct msghdr message = {
            .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        ssize_t length = recvmsg(udp, &message, 0), segment = length;
        if (length <= 0)
            continue;
        struct cmsghdr *item = CMSG_FIRSTHDR(&message);
        if (item && item->cmsg_type == UDP_GRO && ((struct virtio_net_hdr *)buffer)->gso_type == VIRTIO_NET_HDR_GSO_NONE)
            segment = *(int *)CMSG_DATA(item);
        for (ssize_t at = 0; at < length; at += segment)
            if (write(tap, buffer + at, segment < length - at ? segment : length - at) < 0)
                perror("write");
    }
}

int main(int count, char **words)
{
    if (count != 5)
        return 2;
    int tap = open_tap(words[1]), udp = open_udp(words[2], words[3], atoi(words[4]));
    sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
    pid_t parent = getpid();
    if (fork()) {
        outbound(tap, udp);
    } else {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent)
            inbound(tap, udp);
    }
}
