"""`tap2tap demo`: what it leaves behind when it is stopped."""

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tap2tap.demo.lab import Lab, wait_for
from tests.support.tunnel import COMMAND, wait_gone


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_demo_that_is_stopped_leaves_no_keys_and_no_processes(lab: Lab, tmp_path: Path, number: int) -> None:
    del lab  # only to be skipped where it is
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([*COMMAND, "demo"], stdout=subprocess.PIPE, env=environment, text=True) as demo:
        assert demo.stdout is not None
        wait_for(lambda: len(list(tmp_path.glob("*/*.key"))) == 2, 30, "key files")
        wait_for(lambda: len(list(tmp_path.glob("*/*.log"))) == 2, 30, "both ends")
        below = psutil.Process(demo.pid).children(recursive=True)
        demo.send_signal(number)
        try:
            said, _ = demo.communicate(timeout=60)
        finally:
            demo.kill()
    assert demo.returncode == 128 + number
    assert "All of it worked" not in said
    assert list(tmp_path.iterdir()) == []
    wait_gone(below)
