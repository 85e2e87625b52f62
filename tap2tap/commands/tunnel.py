"""The tunnel itself, which `tap2tap` without a command runs: its options, and the Config that they make."""

import argparse
import os
from collections.abc import Sequence

import tap2tap
from tap2tap import config, endpoint, hardware_address, log, privileges
from tap2tap.commands.arguments import Parser, number

DESCRIPTION = (
    "A virtual Ethernet cable between two Linux hosts: a tap device on each, frames shuffled between them over UDP."
)

EPILOG = """\
examples:
  on the server:  tap2tap -i tap0
      makes tap0 and waits for the first peer to call
  on the client:  tap2tap -i tap0 --remote vps.example.net
      makes tap0 and calls the server
  on both:        ip addr add 10.0.0.1/24 dev tap0      (and 10.0.0.2/24 on the other)

At least one end needs --remote; with two fixed addresses both may have it.

choosing the mtu:
  With --key there is nothing to choose: 1500 works over any path. Without, a packet of more than path MTU - 42
  bytes (IPv6: - 62) goes in IP fragments, which the log says once; the default suits a path of 1500.

with a key, nobody else can send, read or change a frame:
  tap2tap genkey home.key vps.key     makes the two ends of one cable; take each to its host
  tap2tap --key vps.key               on the server
  tap2tap --key home.key --remote vps.example.net

other commands:
  tap2tap stats    live counters of the running tunnels
  tap2tap genkey   makes key files
  tap2tap pubkey   prints the public half of one
  tap2tap demo     both ends on this machine, in namespaces of their own

exit codes: 0 clean end, 1 failure, 2 bad arguments, 4 no permission, 7 no such tunnel (stats)
"""


def tunnel_parser(prog: str) -> Parser:
    """The options of the tunnel."""
    parser = Parser(prog, description=DESCRIPTION, epilog=EPILOG)
    add = parser.add_argument
    add(
        "-i",
        "--iface",
        metavar="NAME",
        help="tap device; an existing persistent one is used and left in place (default: the kernel picks tapN)",
    )
    add(
        "--remote",
        metavar="HOST[:PORT]",
        action="append",
        default=[],
        help="the peer: an IPv4 address, [IPv6]:port or a name, port 1234 unless said; may be given again, for other"
        " ways to it, the preferred one first (default: wait for a peer)",
    )
    add(
        "--port",
        metavar="N",
        type=number,
        default=config.PORT,
        help="local UDP port (default: %(default)s)",
    )
    add(
        "--key",
        metavar="FILE",
        help="encrypt and authenticate, with this end's key file (tap2tap genkey makes one); without it nothing is",
    )
    add(
        "--bind",
        metavar="ADDR",
        help="local address, a link-local one with its network device as in fe80::1%%eth0; waited for while it is not"
        " there (default: any, IPv4 and IPv6)",
    )
    add(
        "--device",
        metavar="NAME",
        help="network device, or VRF, that datagrams must come and go by; waited for while it is not there (default: as"
        " routes say)",
    )
    add(
        "--mark",
        metavar="N",
        help="mark of datagrams, decimal or 0x..., by which 'ip rule add fwmark N' and firewalls know them: for those"
        " whose default route leads into the tunnel",
    )
    add(
        "--mtu",
        metavar="N",
        type=number,
        help=f"MTU of the tap device; see below (default: with --key {config.MTU}, without {config.PLAIN_MTU[4]}, or"
        f" {config.PLAIN_MTU[6]} where datagrams may be IPv6)",
    )
    add(
        "--mac",
        metavar="ADDR",
        help="hardware address of the tap device (default: one of its own, the same at each start; an existing"
        " persistent device keeps its own)",
    )
    add(
        "--up",
        metavar="PROG",
        help="program to run when the interface is up, with the interface as its argument and TAP2TAP_* in its"
        " environment; when it fails, so does tap2tap",
    )
    add("--down", metavar="PROG", help="program to run after the tunnel closes, while the interface still exists")
    add(
        "--on-peer",
        metavar="PROG",
        help="program to run when the peer comes, goes or moves, or the path MTU changes; needs --key",
    )
    add("-u", "--uid", metavar="UID", help="user that the processes become, id or name (default: 65534)")
    add("-g", "--gid", metavar="GID", help="group that they become, id or name (default: 65534)")
    add(
        "--cpus",
        metavar="OUT,IN",
        help="CPUs that the outbound and the inbound worker stay on (default: where there are more than two, a worker"
        " has one of its own while it is busy)",
    )
    add(
        "--keepalive",
        metavar="SECONDS",
        type=number,
        help="send an empty datagram when idle for so long; 0 is off (default: 25 with --remote, else off)",
    )
    add(
        "--no-offload",
        action="store_true",
        help="frame by frame, without segmentation or checksum offloads: slow, for diagnosis",
    )
    add(
        "--no-segmentation",
        action="store_true",
        help="datagram by datagram, where something below loses trains of them (UDP_SEGMENT)",
    )
    add("--no-clamp", action="store_true", help="leave the MSS of TCP connections as it is")
    add(
        "--no-call-back",
        action="store_true",
        help="do not remember, with --key and without --remote, where the peer was, to call there after a restart",
    )
    add("-v", "--verbose", action="count", default=0, help="say more")
    add("-q", "--quiet", action="store_true", help="say warnings and errors only")
    add("-V", "--version", action="version", version=f"tap2tap v{tap2tap.__version__}")
    return parser


def read_config(options: argparse.Namespace) -> config.Config:
    """Turn parsed options into a checked Config. Raises UsageError."""
    result = config.Config(
        interface=options.iface,
        remotes=tuple(endpoint.split_host_port(each, config.PORT) for each in options.remote),
        bind=options.bind,
        port=options.port,
        mark=config.parse_mark(options.mark) if options.mark is not None else None,
        device=options.device,
        mtu=options.mtu,
        mac=hardware_address.parse_mac(options.mac) if options.mac is not None else None,
        key=options.key,
        up=options.up,
        down=options.down,
        on_peer=options.on_peer,
        uid=privileges.find_user(options.uid) if options.uid is not None else None,
        gid=privileges.find_group(options.gid) if options.gid is not None else None,
        cpus=config.parse_cpus(options.cpus) if options.cpus is not None else None,
        keepalive=options.keepalive,
        offload=not options.no_offload,
        segmentation=not options.no_segmentation,
        clamp=not options.no_clamp,
        call_back=not options.no_call_back,
    )
    result.check()
    return result


def run_tunnel(prog: str, argv: Sequence[str]) -> int:
    """Run one tunnel in the foreground; return the exit code."""
    options = tunnel_parser(prog).parse_args(argv)
    log.setup("tap2tap", log.WARNING if options.quiet else log.DEBUG if options.verbose else log.INFO)
    settings = read_config(options)
    if os.geteuid() == 0 and 0 in (settings.uid, settings.gid):
        log.warning("with --uid 0 or --gid 0 whoever takes a worker over has what root has: name another user")
    from tap2tap.supervisor.main import run

    return run(settings)
