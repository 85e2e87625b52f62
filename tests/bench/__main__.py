"""`python -m tests.bench`: run the peers in turn, print the tables, write the results and the picture."""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from tests.bench import goals, limit, ours, peers, vpns
from tests.bench.groups import GROUPS, LAYER_2, SLOW, connect
from tests.bench.measures import Values
from tests.bench.peers import MissingError, Peer, laid, told
from tests.bench.picture import draw
from tests.bench.report import Report, Sample, facts

ALL: tuple[Peer, ...] = (
    peers.Peer(),
    peers.Vxlan(),
    limit.KernelAlone(),
    peers.QuickTun(),
    peers.QuickTunNacltai(),
    vpns.Fastd(),
    vpns.FastdSalsa(),
    vpns.OpenVpn(),
    vpns.WireGuardGo(),
    vpns.WireGuardGoGiven(),
    ours.CTap2tap(),
    ours.Before(),
    ours.BeforeSecure(),
    ours.Interpreted(),
    ours.InterpretedSecure(),
    ours.Tap2tap(),
    ours.Tap2tapSecure(),
)
QUICK = "a round of one second of what the goals need, to see that it works; other options may say otherwise"


def measure(peer: Peer, groups: list[str], seconds: float) -> Values:
    """Everything about one peer in a fresh lab; raises MissingError, or whatever goes wrong."""
    with laid(peer) as cable:
        values = connect(cable)
        if not any(cable.programs.values()):
            del values["start"]  # nothing was started
        for group in groups:
            if peer.frames or group not in LAYER_2:
                values |= GROUPS[group](cable, seconds)
    return values


def arguments() -> argparse.Namespace:
    """The command line."""
    names = [peer.name for peer in ALL]
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.partition(": ")[2])
    parser.add_argument("--peers", metavar="NAMES", help=f"which to compare (default: all: {','.join(names)})")
    parser.add_argument("--measures", metavar="NAMES", help=f"groups of measures (default: all: {','.join(GROUPS)})")
    parser.add_argument("--repeat", type=int, metavar="N", help="rounds (default: 5)")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of a load (default: 3)")
    parser.add_argument("--quick", action="store_true", help=QUICK)
    parser.add_argument("--before", metavar="PROGRAM", help="another tap2tap to compare with (TAP2TAP_BENCH_BEFORE)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all results as JSON, after each round")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw them as SVG")
    options = parser.parse_args()
    quick = options.quick
    options.repeat = options.repeat or (1 if quick else 5)
    options.seconds = options.seconds or (1 if quick else 3)
    wanted = chosen(parser, options.peers, names, [name for name in names if name in goals.peers() or not quick])
    options.peers = [peer for peer in ALL if peer.name in wanted]
    options.measures = chosen(parser, options.measures, [*GROUPS], [g for g in GROUPS if g not in SLOW or not quick])
    if options.before:
        os.environ["TAP2TAP_BENCH_BEFORE"] = str(Path(options.before).absolute())
    return options


def chosen(parser: argparse.ArgumentParser, names: str | None, known: list[str], default: list[str]) -> list[str]:
    """Those of the known names that are wanted, in their order."""
    if names is None:
        return default
    if unknown := set(names.split(",")) - {*known}:
        parser.error(f"there is no {' or '.join(sorted(unknown))}: choose of {', '.join(known)}")
    return [name for name in known if name in names.split(",")]


def main() -> int:
    """Run the benchmark; 0 if there is something to report."""
    options = arguments()
    report = Report(facts(), {"seconds": options.seconds, "rounds": options.repeat})
    present = []
    for peer in options.peers:
        try:
            report.add_peer(peer, peer.version())
            present.append(peer)
        except (MissingError, OSError) as error:  # not there, or no program
            print(f"{peer.label}: left out: {error}", flush=True)
            report.missing[peer.name] = str(error)
    for number in range(options.repeat):
        # Another one goes first in each round, so that none always follows the same one.
        turn = number % len(present) if present else 0
        for peer in present[turn:] + present[:turn]:
            begin = time.monotonic()
            try:
                values = measure(peer, options.measures, options.seconds)
            except Exception as error:  # one that fails must not cost the results of the others
                message = told(error)
                print(f"round {number + 1}: {peer.label}: failed: {message}", flush=True)
                report.failures.append({"round": number + 1, "peer": peer.name, "error": message})
                continue
            report.samples.append(Sample(number + 1, peer.name, values))
            short = ", ".join(f"{key} {value:.3g}" for key, value in values.items())
            print(f"round {number + 1}: {peer.label}: {short} ({time.monotonic() - begin:.0f} s)", flush=True)
        if options.out:
            options.out.write_text(report.json())
    print(f"\n{report.text()}")
    if goals.peers() & report.peers.keys():
        print(f"\n{goals.text(report)}")
    if options.picture:
        options.picture.write_text(draw(report))
    return 0 if report.samples and not report.failures else 1


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("the benchmark needs root, or a user namespace: unshare --user --map-root-user --net --mount ...")
    if not shutil.which("iperf3"):
        sys.exit("the benchmark needs iperf3 (Debian's package iperf3)")
    sys.exit(main())
