"""The usual case of the simulation: home knows where vps is, and vps waits."""

from typing import Any

from tap2tap.protocols.secure.actions import Note
from tests.support.simulated import Host
from tests.support.simulated_ends import HOME, VPS, make_keys
from tests.support.simulated_network import DELAY, Network

LAN_TIME = 10 * DELAY


class Cable:
    """The usual case: home knows where vps is, vps waits."""

    def __init__(self, *, home: dict[str, Any] | None = None, vps: dict[str, Any] | None = None, seed: int = 0) -> None:
        self.keys = make_keys()
        self.network = Network(seed)
        self.vps = Host(self.network, self.keys[1], VPS, **{"keepalive": 0, **(vps or {})})
        self.home = Host(self.network, self.keys[0], HOME, **{"remote": VPS, **(home or {})})

    @property
    def hosts(self) -> tuple[Host, Host]:
        return self.home, self.vps

    def works(self, length: int = 0) -> bool:
        """Tell whether both ends are up, and frames, of this length or a short one, sent now arrive on both."""
        if not all(host.up for host in self.hosts):
            return False
        there, back = (host.send_frame(length=length) for host in self.hosts)
        self.network.run(LAN_TIME)
        return there in self.vps.heard_frames and back in self.home.heard_frames


def both(**settings: Any) -> dict[str, Any]:
    """The same settings for both ends, and each knows where the other is."""
    return {"home": {"remote": VPS, **settings}, "vps": {"remote": HOME, **settings}}


def times(host: Host, kind: type) -> list[float]:
    return [when for when, _ in host.actions(kind)]


def notes(host: Host) -> list[str]:
    return [action.message for _, action in host.actions(Note) if isinstance(action, Note)]


def sleep(host: Host, seconds: float) -> None:
    """Suspend the machine; when it wakes up, the peer is called."""

    def wake() -> None:
        host.asleep = False
        host.act(host.link.call(host.network.now))

    host.asleep = True
    host.network.after(seconds, wake)
