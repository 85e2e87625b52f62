"""How the workers' loops run is no secret: the log says when they are interpreted, and stats always."""

import sys
from pathlib import Path

import pytest

from tap2tap.counters import DataPlane
from tap2tap.demo.lab import Lab
from tap2tap.workers.worker import data_plane
from tests.support.command import tap2tap
from tests.support.tunnel import RIGHT, Tunnel, address, wait_ping

LAUNCHER = [sys.executable, str(Path(__file__).parents[1] / "support" / "interpreted.py")]
INTERPRETED = "data plane: interpreted (no compiler at install)"


def test_an_interpreted_data_plane_says_so_and_works(lab: Lab) -> None:
    with (
        Tunnel(lab.right, command=LAUNCHER) as server,
        Tunnel(lab.left, "--remote", lab.right.ipv4, command=LAUNCHER),
    ):
        address(lab.left, lab.right)
        wait_ping(lab.left, RIGHT)
        assert server.said(INTERPRETED)
        assert server.stats()["data_plane"] == INTERPRETED.removeprefix("data plane: ")
        assert f"  {INTERPRETED}\n" in tap2tap("stats", host=lab.right).stdout


def test_a_compiled_one_is_told_by_stats_alone(lab: Lab) -> None:
    if data_plane() is not DataPlane.COMPILED:
        pytest.skip("the data plane is interpreted")
    with Tunnel(lab.left) as tunnel:
        assert not tunnel.said("data plane")
        assert tunnel.stats()["data_plane"] == "compiled"
        assert "data plane" not in tap2tap("stats", host=lab.left).stdout
