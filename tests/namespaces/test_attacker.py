"""An attacker on the path, and strangers beside it: nothing comes in that the peer did not send, and that once."""

import itertools
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tap2tap.demo.lab import Host, Lab, wait_for
from tap2tap.protocols.secure import wire
from tests.support.secured import DATA, Fate, Relay, Sniffer, make_keys, secure, secured
from tests.support.traffic import Wire, bulk
from tests.support.tunnel import LEFT, RIGHT, Tunnel, ping, wait_ping

OURS = bytes.fromhex("0200000000bb 0200000000aa 88b5")  # addresses and type of the frames that are counted
SIZES = (18, 60, 60, 60, 60, 500, 1000, 1448, 1448, 1448)


class Villain:
    """What an attacker on the path makes of datagrams: each is delivered once, whole, but late, and in bad company."""

    def __init__(self, seed: int) -> None:
        self._noise = random.Random(seed)
        self._held: list[Fate] = []
        self._history: list[Fate] = []
        self.deeds: Counter[str] = Counter()

    def __call__(self, datagram: bytes, outward: bool) -> list[Fate]:
        noise, company = self._noise, list[Fate]()
        self._history.append((datagram, outward))
        deed = noise.choice(("twice", "replay", "cut", "flip", "reflect", "misdirect", "hold", "nothing", "invent"))
        self.deeds[deed] += 1
        if deed == "twice":
            company = [(datagram, outward)] * 2
        elif deed == "replay":
            company = noise.choices(self._history, k=4)
        elif deed == "cut":
            company = [(datagram[: noise.randrange(len(datagram))], outward)]
        elif deed == "flip":
            flipped = bytearray(datagram)
            flipped[noise.randrange(len(flipped))] ^= 1 << noise.randrange(8)
            company = [(bytes(flipped), outward)]
        elif deed == "reflect":
            company = [(datagram, not outward)]
        elif deed == "misdirect":
            company = [(each, not way) for each, way in noise.choices(self._history, k=2)]
        elif deed == "invent":
            company = [(datagram[:8] + noise.randbytes(len(datagram) - 8), outward)]
        self._held.append((datagram, outward))
        if deed == "hold" and len(self._held) < 16:
            return company
        released, self._held = self._held, []
        noise.shuffle(released)
        return [*company, *released, *company] if noise.random() < 0.5 else [*released, *company]


def send_numbered(wire_: Wire, count: int) -> dict[int, bytes]:
    """Send frames that begin with their number through a tap, not faster than anybody can be expected to take them."""
    noise, sent = random.Random(count), {}
    for number, size in zip(range(count), itertools.cycle(SIZES), strict=False):
        sent[number] = OURS + struct.pack("!I", number) + noise.randbytes(size - 18)
        wire_.send(sent[number])
        if number % 8 == 7:
            time.sleep(0.002)
    return sent


def test_whatever_happens_on_the_path_each_frame_arrives_once_or_not_at_all(road: Lab, tmp_path: Path) -> None:
    left, right, middle = road.left, road.right, road["middle"]
    with (
        Relay(middle, right.ipv4) as relay,
        secured(left, right, tmp_path, remote=middle.ipv4, timers="rekey_after=1,poll=0.2") as tunnels,
        Wire(left) as out,
        Wire(right) as into,
    ):
        villain = relay.policy = Villain(4)
        sent = send_numbered(out, 2400)
        got: Counter[bytes] = Counter()
        deadline = time.monotonic() + 60
        into.socket.settimeout(2.0)
        while (seen := into.seen()) is not None and time.monotonic() < deadline:
            if seen.frame[: len(OURS)] == OURS:
                got[seen.frame] += 1
        relay.policy = lambda datagram, outward: [(datagram, outward)]
        assert got.keys() <= set(sent.values())
        assert set(got.values()) == {1}
        # What the villain still held, and what it held over the end of a session, is all that may be missing.
        assert len(got) > 0.98 * len(sent)
        assert min(villain.deeds.values()) > 100
        assert ping(left, RIGHT)
        bulk(left, right, RIGHT, size=1 << 20)
        bulk(right, left, LEFT, size=1 << 20)
        dropped = tunnels[1].worker("inbound")["dropped"]
        assert dropped["replay"] > 100
        assert dropped["authentication"] > 100
        assert not dropped.keys() - {"replay", "authentication", "no_session", "too_short"}
        for tunnel in tunnels:
            assert tunnel.stats()["session"]["rekeys"]
            assert not any(worker["restarts"] for worker in tunnel.stats()["workers"].values())


def test_a_recorded_life_played_again_changes_nothing(road: Lab, tmp_path: Path) -> None:
    left, right, middle = road.left, road.right, road["middle"]
    home, vps = make_keys(tmp_path)
    timers = "unanswered=3,poll=0.2"

    def begin() -> None:
        left.address("tap0", f"{LEFT}/24", "replace")
        right.address("tap0", f"{RIGHT}/24")
        left.run(["ip", "neighbour", "flush", "dev", "tap0"])
        wait_ping(left, RIGHT, 60)

    with Relay(middle, right.ipv4) as relay, secure(left, home, "--remote", middle.ipv4, timers=timers):
        with secure(right, vps):
            begin()
        with secure(right, vps) as server, Sniffer(right) as sniffer:  # has forgotten all that it saw before
            begin()
            before, recorded = server.stats(), [datagram for datagram, _ in relay.recorded]
            initiations = [each for each in recorded if each[0] == wire.TYPE_INITIATION]
            assert len(initiations) >= 2
            with middle.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind((middle.ipv4, 0))
                attacker = sock.getsockname()
                for datagram in [*recorded, *initiations * 50]:
                    sock.sendto(datagram, (right.ipv4, 1234))
                assert ping(left, RIGHT)
                bulk(left, right, RIGHT, size=1 << 20)
                after = server.stats()
                assert after["peer"] == before["peer"]
                assert after["session"]["rekeys"] == before["session"]["rekeys"]
                assert after["workers"]["inbound"]["dropped"]["replay"]
                assert after["workers"]["inbound"]["dropped"]["no_session"]
                assert not server.said("peer moved")
                asked = [len(each.payload) for each in sniffer.stop() if each.source == attacker]
                told = [len(each.payload) for each in sniffer.datagrams if each.target == attacker]
                assert len(asked) >= len(recorded) + len(initiations) * 50
                # It cannot tell an old initiation from a new one; but it answers each at most once, and with less.
                assert len(told) <= len(initiations)
                assert max(told, default=0) < 100 <= max(asked)


def hostile(count: int, live: bytes) -> Iterator[bytes]:
    """What strangers send: handshakes of every form but the right one, data of no session and of the `live` one."""
    noise = random.Random(count)
    for kind in itertools.islice(itertools.cycle((1, 1, 1, 2, 3, 4, 5, 0, 255, None, None)), count):
        if kind is None:  # with the header of a genuine one
            number = struct.pack("<I", noise.randrange(1 << 20))
            yield live[:4] + number + noise.randbytes(noise.randrange(1464))
        else:
            size = noise.choice({1: (100,), 2: (84,), 3: (36,)}.get(kind, (0, 1, 23, 24, 100, 1472)))
            yield (bytes([kind]) + (bytes(3) if kind == 1 else noise.randbytes(3)) + noise.randbytes(1500))[:size]


def warnings(tunnel: Tunnel) -> int:
    """Lines of the log but for what goes well, such as a path MTU that is found meanwhile."""
    return sum("warning: " in line for line in tunnel.log)


def waiting(host: Host) -> int:
    """Bytes that wait in the UDP sockets of a host."""
    lines = [
        line for table in ("udp", "udp6") for line in Path(f"/proc/{host.pid}/net/{table}").read_text().split("\n")
    ]
    return sum(int(line.split()[4].split(":")[1], 16) for line in lines if ":" in line)


@contextmanager
def flood(stranger: Host, target: Host, live: bytes, rate: int = 10_000) -> Iterator[list[int]]:
    """Hostile datagrams, up to `rate` a second, but never so many at once that there is no room for others.

    Yields a list of one number: how many so far.
    """
    ended, sent = threading.Event(), [0]
    pool = list(hostile(4000, live))

    def send() -> None:
        with stranger.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((stranger.ipv4, 0))
            while not ended.wait(0.005):
                for _ in range(rate // 200 if waiting(target) < 1 << 20 else 0):
                    sock.sendto(pool[sent[0] % len(pool)], (target.ipv4, 1234))
                    sent[0] += 1

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield sent
    finally:
        ended.set()
        thread.join(10)


def memory(tunnel: Tunnel) -> int:
    """Resident bytes of all processes of a tunnel."""
    return sum(process.memory_info().rss for process in (psutil.Process(tunnel.pid), *tunnel.descendants()))


def test_a_flood_of_strangers_gets_no_answer_and_costs_neither_frames_nor_memory(road: Lab, tmp_path: Path) -> None:
    left, right, stranger = road.left, road.right, road["middle"]
    with Sniffer(right) as path, secured(left, right, tmp_path) as tunnels, Sniffer(stranger) as sniffer:
        server = tunnels[1]
        bulk(left, right, RIGHT)
        coming = [each.payload for each in path.datagrams if each.target[0] == right.ipv4]
        live = next(payload for payload in coming if payload and payload[0] in DATA)
        before, lines, came = memory(server), warnings(server), server.worker("inbound")["datagrams"]
        with flood(stranger, right, live) as sent:
            counting = left.popen(["ping", "-n", "-q", "-i", "0.02", "-c", "100", RIGHT], stdout=-1)
            bulk(left, right, RIGHT)
            bulk(right, left, LEFT)
            assert " 100 received, 0% packet loss" in counting.communicate(timeout=60)[0]
            wait_for(lambda: sent[0] > 10_000, 60, "flood")
        wait_for(lambda: server.worker("inbound")["datagrams"] - came > 10_000, 30, "flood at the server")
        assert ping(left, RIGHT)
        assert memory(server) - before < 24 << 20
        assert warnings(server) - lines <= 1  # one line for all of them
        assert server.worker("inbound")["dropped"]["authentication"] > 500
        for tunnel in tunnels:
            assert tunnel.stats()["session"]["rekeys"] == 0
            assert not any(worker["restarts"] for worker in tunnel.stats()["workers"].values())
        heard = sniffer.stop()
        assert len([each for each in heard if each.source[0] == stranger.ipv4]) >= 10_000
        assert not [each for each in heard if each.target[0] == stranger.ipv4]
