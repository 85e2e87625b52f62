"""Sessions that end by themselves: the workers go by the clock, whatever has become of their supervisor."""

import os
import signal
from pathlib import Path

from tap2tap.demo.lab import Lab, wait_for
from tests.support.secured import secured, wait_up
from tests.support.tunnel import RIGHT, ping, wait_ping

SHORT = "rekey_after=3,reject_after=5,stop_before_reject=1,unproved_life=4,answer_wait=1,poll=0.2"


def test_without_their_supervisors_the_workers_stop_at_the_end_of_the_session_and_go_on_after_it(
    lab: Lab, tmp_path: Path
) -> None:
    with secured(lab.left, lab.right, tmp_path, timers=SHORT) as (client, server):
        wait_up(client, server)
        wait_ping(lab.left, RIGHT)
        workers = [process.pid for end in (client, server) for process in end.descendants()]
        for end in (client, server):
            os.kill(end.pid, signal.SIGSTOP)
        wait_for(lambda: not ping(lab.left, RIGHT), 30, "end of the session")
        assert not any(ping(lab.left, RIGHT) for _ in range(2))
        for end in (client, server):
            os.kill(end.pid, signal.SIGCONT)
        wait_ping(lab.left, RIGHT)
        assert [process.pid for end in (client, server) for process in end.descendants()] == workers
