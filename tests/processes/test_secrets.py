"""What is secret is in the memory of the link process alone; a worker has the keys of sessions that it was told of."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tap2tap.demo.lab import Lab, wait_for
from tap2tap.keys import CableKeys, encode, read_keys
from tests.support.link import DIRECTIONS, link_pid, replace_link, starter, workers, written
from tests.support.planted import planted
from tests.support.secured import make_keys, secure, secured, wait_up
from tests.support.tunnel import RIGHT, Tunnel, address, wait_ping

pytestmark = pytest.mark.usefixtures("root")

SHORT = "rekey_after=1,reject_after=4,stop_before_reject=1"
NOTING = """
import tests.support.timed, tap2tap.protocols.secure.mailbox as mailbox
tests.support.timed.change({timers!r})
order = mailbox.LinkEnd.order
def noting(self, given):
    fd = os.open({path!r}, os.O_WRONLY | os.O_APPEND)
    os.write(fd, f"{{given.task.name}} {{given.data.hex()}}\\n".encode())
    os.close(fd)
    order(self, given)
mailbox.LinkEnd.order = noting
"""
TASKS = {"outbound": "USE", "inbound": "OPEN"}


def spellings(keys: CableKeys) -> list[bytes]:
    """What nobody but the link may have of the key file."""
    return [each for secret in (keys.private, keys.psk) for each in (secret, encode(secret).encode())]


class Orders:
    """The keys of sessions that the link has told to its workers so far."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def keys(self, direction: str, behind: int = 0) -> set[bytes]:
        """Those for one worker, from a line of the notes on."""
        lines = [line.split(" ") for line in self._path.read_text().splitlines()[behind:]]  # data may be empty
        return {bytes.fromhex(key) for task, key in lines if task == TASKS[direction]}

    def __len__(self) -> int:
        return len(self._path.read_text().splitlines())


@contextmanager
def noted(lab: Lab, folder: Path) -> Iterator[tuple[Tunnel, Orders]]:
    """A client that makes a new session every second, and notes what it orders; its server is there."""
    home, vps = make_keys(folder)
    with tempfile.NamedTemporaryFile(dir="/tmp") as file:  # where nobody finds it
        Path(file.name).chmod(0o666)
        code = NOTING.format(timers=SHORT, path=file.name)
        options = ("--key", home, "--remote", lab.right.ipv4)
        with secure(lab.right, vps, timers=SHORT), Tunnel(lab.left, *options, command=planted(code)) as client:
            address(lab.left, lab.right)
            wait_ping(lab.left, RIGHT)
            yield client, Orders(Path(file.name))


def wait_rekeys(tunnel: Tunnel, count: int) -> None:
    """Wait for new sessions."""
    before = tunnel.stats()["session"]["rekeys"]
    wait_for(lambda: tunnel.stats()["session"]["rekeys"] >= before + count, 60, f"rekeys: {tunnel.log}")


def test_keys_are_where_they_are_used_and_nowhere_else(lab: Lab, tmp_path: Path) -> None:
    with noted(lab, tmp_path) as (client, orders):
        secrets = spellings(read_keys(tmp_path / "home.key"))
        begun = dict.fromkeys(DIRECTIONS, 0)
        for life in range(2):
            wait_rekeys(client, 2)
            behind = len(orders)
            memory = {name: written(pid) for name, pid in workers(client).items()}
            memory |= {"supervisor": written(client.pid), "starter": written(starter(client).pid)}
            told = {name: orders.keys(name, begun[name]) if name in begun else set() for name in memory}
            # What is looked for is found where it is.
            assert secrets[0] in written(link_pid(client))
            assert any(key in memory["outbound"] for key in told["outbound"])
            every = orders.keys("outbound") | orders.keys("inbound")
            for name, text in memory.items():
                assert not [secret for secret in secrets if secret in text], name
                others = every - told[name]
                assert len(others) >= 3
                assert not [key for key in others if key in text], name
            if not life:
                begun = dict.fromkeys(DIRECTIONS, behind)
                for direction in DIRECTIONS:
                    client.wait_replaced(direction, client.kill_worker(direction))


def test_nobody_else_has_loaded_what_computes_with_keys(lab: Lab, tmp_path: Path) -> None:
    with secured(lab.left, lab.right, tmp_path) as (client, _):
        wait_up(client)
        client.wait_replaced("inbound", client.kill_worker("inbound"))
        replace_link(client)
        pids = {**workers(client), "supervisor": client.pid, "starter": starter(client).pid, "link": link_pid(client)}
        maps = {name: Path(f"/proc/{pid}/maps").read_text() for name, pid in pids.items()}
        assert {name for name, text in maps.items() if "cryptography" in text} == {"starter", "link"}
