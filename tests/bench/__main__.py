"""`python -m tests.bench`: run the peers in turn, print the tables, write the results and the picture."""

import argparse
import os
import sys
import time
from pathlib import Path

from tap2tap.demo.lab import Lab
from tests.bench import ours, peers, vpns
from tests.bench.measures import GROUPS, Values, connect
from tests.bench.peers import MissingError, Peer
from tests.bench.picture import draw
from tests.bench.report import Report, Sample, facts

ALL: tuple[Peer, ...] = (
    peers.Peer(),
    peers.Vxlan(),
    peers.QuickTun(),
    peers.QuickTunNacltai(),
    vpns.OpenVpn(),
    vpns.WireGuardGo(),
    vpns.WireGuardGoGiven(),
    ours.CTap2tap(),
    ours.Tap2tap(),
    ours.Tap2tapSecure(),
)


def measure(peer: Peer, groups: list[str], seconds: float) -> Values:
    """Everything about one peer in a fresh lab; raises MissingError, or whatever goes wrong."""
    with Lab() as lab:
        cable = peer.lay(lab)
        try:
            values = connect(cable)
            if not any(cable.programs.values()):
                del values["start"]  # nothing was started
            for group in groups:
                if group != "frames" or peer.frames:
                    values |= GROUPS[group](cable, seconds)
        except Exception as error:
            if said := cable.failure():
                error.add_note(said)
            raise
        finally:
            cable.close()
    return values


def arguments() -> argparse.Namespace:
    """The command line."""
    names = [peer.name for peer in ALL]
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.partition(": ")[2])
    parser.add_argument("--peers", default=",".join(names), help="which to compare (default: all: %(default)s)")
    parser.add_argument("--measures", default=",".join(GROUPS), help="groups of measures (default: all: %(default)s)")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3, metavar="S", help="length of a load (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round of one second: to see that it works")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all results as JSON")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw them as SVG")
    options = parser.parse_args()
    options.peers = [peer for peer in ALL if peer.name in options.peers.split(",")]
    options.measures = [group for group in GROUPS if group in options.measures.split(",")]
    if not options.peers or not options.measures:
        parser.error("nothing to do: see --help for the names of peers and measures")
    if options.quick:
        options.repeat, options.seconds = 1, 1
    return options


def main() -> int:
    """Run the benchmark; 0 if there is something to report."""
    options = arguments()
    report = Report(facts(), {"seconds": options.seconds, "rounds": options.repeat})
    present = []
    for peer in options.peers:
        try:
            report.add_peer(peer, peer.version())
            present.append(peer)
        except MissingError as error:
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
                notes = "; ".join(getattr(error, "__notes__", []))
                message = f"{type(error).__name__}: {error}" + (f" ({notes})" if notes else "")
                print(f"round {number + 1}: {peer.label}: failed: {message}", flush=True)
                report.failures.append({"round": number + 1, "peer": peer.name, "error": message})
                continue
            report.samples.append(Sample(number + 1, peer.name, values))
            short = ", ".join(f"{key} {value:.3g}" for key, value in values.items())
            print(f"round {number + 1}: {peer.label}: {short} ({time.monotonic() - begin:.0f} s)", flush=True)
    print()
    print(report.text())
    if options.out:
        options.out.write_text(report.json())
    if options.picture:
        options.picture.write_text(draw(report))
    return 0 if report.samples and not report.failures else 1


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("the benchmark needs root, or a user namespace: unshare --user --map-root-user --net --mount ...")
    sys.exit(main())
