"""Sessions that end by themselves: the workers go by the clock, whatever has become of the link process."""

import os
import signal
from pathlib import Path

from tap2tap.demo.lab import Lab, wait_for
from tests.support.secured import secured, wait_up
from tests.support.tunnel import RIGHT, ping, wait_ping

SHORT = "rekey_after=3,reject_after=5,stop_before_reject=1,unproved_life=4,answer_wait=1,poll=0.2"


def test_without_the_link_the_workers_stop_at_the_end_of_the_session_and_go_on_after_it(
    lab: Lab, tmp_path: Path
) -> None:
    with secured(lab.left, lab.right, tmp_path, timers=SHORT) as (client, server):
        wait_up(client, server)
        wait_ping(lab.left, RIGHT)
        processes = [process.pid for end in (client, server) for process in end.descendants()]
        # The supervisors first, which would replace a link process that hangs.
        stopped = [*(end.pid for end in (client, server)), *(end.stats()["link"]["pid"] for end in (client, server))]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: not ping(lab.left, RIGHT), 30, "end of the session")
        assert not any(ping(lab.left, RIGHT) for _ in range(2))
        for pid in reversed(stopped):
            os.kill(pid, signal.SIGCONT)
        wait_ping(lab.left, RIGHT)
        assert [process.pid for end in (client, server) for process in end.descendants()] == processes
