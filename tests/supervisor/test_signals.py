"""Signals, as the loop sees them: none is lost, and none counts twice."""

import subprocess
import sys

STORM = """
import os, signal
from tap2tap.supervisor.signals import Signals
stop = Signals()
for _ in range(5000):
    os.kill(os.getpid(), signal.SIGHUP)
os.kill(os.getpid(), signal.SIGTERM)
for _ in range(5000):
    os.kill(os.getpid(), signal.SIGHUP)
read, write = os.pipe()
try:
    stop.wait(read)
except BaseException as error:
    print(type(error).__name__)
print(stop.stop(), stop.hang_up(), stop.hang_up())
os.kill(os.getpid(), signal.SIGINT)
print(repr(stop.stop()), stop.stop(), stop.hang_up())
"""


def test_a_stop_signal_among_more_hang_ups_than_can_wait_is_not_lost() -> None:
    done = subprocess.run([sys.executable, "-c", STORM], capture_output=True, text=True, timeout=30)
    assert done.stdout.splitlines() == [
        "Interrupted",
        "None True False",
        "<Signals.SIGINT: 2> None False",
    ], done.stderr
