"""Two hosts (or more) on one machine, joined by virtual wires, for the demo, the tests and the benchmark.

    with Lab() as lab:                       # lab.left is 10.213.0.1, lab.right 10.213.0.2, each with its eth0
        server = lab.right.popen(["tap2tap"])
        lab.left.run(["ping", "-c1", lab.right.ipv4])

What can be done to a host is in tap2tap.demo.host, and how it is made sure that nothing outlives a lab.
"""

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from tap2tap.demo.host import IPV6, Host, LinkCounters, wait_for

__all__ = ["Host", "Lab", "LinkCounters", "wait_for"]


class Lab(AbstractContextManager["Lab"]):
    """Hosts on one underlay network: two on a veth pair, or any number (and `switch=True`) on a bridge of its own.

    The hosts are at 10.213.0.N and fd00:d213::N, from 1 on, each on its eth0; in a lab with a switch, `lab.switch` is a
    host without addresses whose br0 has one port for each host, named like it.
    """

    def __init__(self, hosts: Sequence[str] = ("left", "right"), *, mtu: int = 1500, switch: bool = False) -> None:
        self.hosts: dict[str, Host] = {}
        self.switch: Host | None = None
        try:
            for name in hosts:
                self.hosts[name] = Host(name)
            self._wire(switch=switch or len(hosts) != 2)
            for number, host in enumerate(self.hosts.values(), 1):
                host.ipv4 = f"10.213.0.{number}"
                host.address("eth0", f"{host.ipv4}/24")
                if IPV6.exists():
                    host.ipv6 = f"fd00:d213::{number}"
                    host.address("eth0", f"{host.ipv6}/64")
            self.set_underlay_mtu(mtu)
        except BaseException:
            self.close()
            raise

    def _wire(self, *, switch: bool) -> None:
        if not switch:
            left, right = self.hosts.values()
            self._veth(left, "eth0", right, "eth0")
            return
        self.switch = Host("switch")
        with self.switch.netlink() as route:
            route.link("add", ifname="br0", kind="bridge")
        self.switch.link("br0", state="up")
        for name, host in self.hosts.items():
            self._veth(self.switch, name, host, "eth0")
            self.switch.link(name, master=self.switch.index("br0"))

    @staticmethod
    def _veth(one: Host, device: str, other: Host, peer: str) -> None:
        with one.netlink() as route:
            route.link("add", ifname=device, kind="veth", peer={"ifname": peer, "net_ns_pid": other.pid})
        one.link(device, state="up")
        other.link(peer, state="up")

    def __getitem__(self, name: str) -> Host:
        """The host of that name."""
        return self.hosts[name]

    @property
    def left(self) -> Host:
        """The first host."""
        return next(iter(self.hosts.values()))

    @property
    def right(self) -> Host:
        """The second host."""
        return list(self.hosts.values())[1]

    def set_underlay_mtu(self, mtu: int) -> None:
        """Change the MTU of the whole path between the hosts."""
        for host in self.hosts.values():
            host.link("eth0", mtu=mtu)
            if self.switch is not None:
                self.switch.link(host.name, mtu=mtu)

    def close(self) -> None:
        """Take everything down; all hosts at once, as each waits for its processes to die."""
        everyone = [*self.hosts.values(), *([self.switch] if self.switch else [])]
        threads = [threading.Thread(target=host.close) for host in everyone]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the lab, whatever happened in it."""
        self.close()

    def __enter__(self) -> Self:
        """The lab is complete as soon as it is made."""
        return self
