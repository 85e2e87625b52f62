"""Running the user's programs: a small process of its own keeps the privileges that the program was started with.

It is forked before anything from the network is read, holds no descriptor but its end of a private channel, and takes
from there only the name of an event and facts of a strict form. So a supervisor or a worker that has been taken over
can ask for nothing but the programs that the administrator named, for the interface that was named first, with facts
that do no harm.
"""

import contextlib
import json
import os
import re
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping

from tap2tap import device, log
from tap2tap.errors import OK, StartError
from tap2tap.supervisor import process, signals
from tap2tap.supervisor.loop import Part
from tap2tap.supervisor.signals import Signals

_FACT = re.compile(r"TAP2TAP_[A-Z_]{1,32}")
_VALUE = re.compile(r"[A-Za-z0-9_.:%@\[\]-]{0,64}")
_MESSAGE = 8192  # bytes
_PATIENCE = 2.0  # seconds that a hook has between SIGTERM and SIGKILL when nobody waits for it any longer

OPTIONS = {
    "up": "--up",
    "down": "--down",
    "peer-up": "--on-peer",
    "peer-down": "--on-peer",
    "peer-moved": "--on-peer",
    "path-mtu": "--on-peer",
}


class Hooks(Part):
    """The programs of one tunnel by event; the process that runs them lives from `start` to `close`."""

    def __init__(self, programs: Mapping[str, str]) -> None:
        self._programs = programs
        self._channel: socket.socket | None = None
        self._process: process.Process | None = None
        self._unanswered: list[str] = []  # programs that have been asked for

    def start(self) -> None:
        """Fork the process, if there is anything that it could ever run. Raises StartError."""
        if not self._programs:
            return
        try:
            self._channel, self._process = process.companion(
                "hooks",
                lambda channel: _serve(channel, self._programs),
                kind="the process that runs hooks",
            )
        except OSError as error:
            raise process.no_room("process that runs hooks", error) from error

    def introduce(self, interface: str) -> None:
        """Tell the process which interface it will be, before anything comes from the network."""
        if self._channel is not None:
            with contextlib.suppress(OSError):  # it is gone: whoever asks for a hook will hear of it
                self._channel.send(json.dumps([None, interface, {}]).encode())

    def run(self, event: str, interface: str, facts: Mapping[str, str], stop: Signals) -> None:
        """Run the program of `event`, if there is one, and wait for its end.

        Raises StartError when it could not be run or failed, Interrupted when a stop signal came meanwhile.
        """
        if event not in self._programs or self._channel is None:
            return
        if not self.ask(event, interface, facts):
            raise StartError(f"{OPTIONS[event]} {self._programs[event]} failed: the process that runs it is gone")
        problem = None
        while self._unanswered:
            stop.wait(self._channel.fileno())
            problem = self._answer()
        if problem:
            raise StartError(problem)

    def ask(self, event: str, interface: str, facts: Mapping[str, str]) -> bool:
        """Have the program of `event` run, after those that were asked for before; whether it will."""
        if event not in self._programs or self._channel is None:
            return False
        log.debug("running hook", event=event, program=self._programs[event])
        message = json.dumps([event, interface, dict(facts)]).encode()
        try:
            self._channel.send(message, socket.MSG_DONTWAIT)
        except OSError as error:
            log.warning("hook not run", event=event, error=error.strerror)
            return False
        self._unanswered.append(f"{OPTIONS[event]} {self._programs[event]}")
        return True

    @property
    def waiting(self) -> dict[int, Callable[[], None]]:
        """What to do when the descriptor of the answers is readable; empty when none is to come."""
        return {self._channel.fileno(): self._report} if self._channel and self._unanswered else {}

    def _report(self) -> None:
        if problem := self._answer():
            log.warning(problem)

    def _answer(self) -> str | None:
        """Take one answer; return what went wrong."""
        assert self._channel is not None
        answer = ""
        with contextlib.suppress(OSError):
            answer = self._channel.recv(_MESSAGE).decode()
        if not answer:  # the process that runs hooks is gone, and every answer with it
            program = self._unanswered[0]
            self._unanswered.clear()
            return f"{program} failed: the process that runs it is gone"
        program = self._unanswered.pop(0)
        return None if answer == "ok" else f"{program} {answer}"

    def close(self) -> None:
        """End the process; a hook that still runs is terminated."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            self._process.wait(2 * _PATIENCE + 1)  # should it be stopped, our end wakes it


def _serve(channel: socket.socket, programs: Mapping[str, str]) -> int:
    """Be the process that runs hooks, until the channel closes."""
    wake = Signals()  # unlike dispositions that ignore, handlers are not passed on to programs
    poll = select.poll()
    poll.register(channel, select.POLLIN | select.POLLRDHUP)
    interface = None
    while True:
        events = poll.poll()[0][1]
        message = channel.recv(_MESSAGE)
        if not message and events & (select.POLLHUP | select.POLLRDHUP):  # an empty message looks the same
            return OK
        try:
            event, interface, facts = _read(message, interface, programs)
        except Exception as error:
            log.warning("refused to run a hook", error=repr(error)[:200])
            answer = "refused"
        else:
            if event is None:
                continue
            answer = _run(channel, wake, [programs[event], interface], facts)
        with contextlib.suppress(BrokenPipeError):
            channel.send(answer.encode())


def _read(message: bytes, fixed: str | None, programs: Mapping[str, str]) -> tuple[str | None, str, dict[str, str]]:
    """The event (None: there is none yet), the interface, and what the program will find in its environment.

    `fixed` is the interface of the first message, which stays. Raises an exception of any kind for what the supervisor
    does not write; but somebody may who has taken it over.
    """
    event, interface, facts = json.loads(message)
    if event is not None and event not in programs:
        raise ValueError(f"no hook: {event}")
    device.check_name(interface)
    if fixed not in (None, interface):
        raise ValueError(f"the interface is {fixed}, not {interface}")
    for name, value in facts.items():
        if not _FACT.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"no fact: {name}={value}")
    return event, interface, {**facts, "TAP2TAP_EVENT": str(event), "TAP2TAP_INTERFACE": interface}


def _run(channel: socket.socket, wake: Signals, command: list[str], facts: Mapping[str, str]) -> str:
    """Run `command` to its end, or to that of the channel; return "ok", or what went wrong."""
    import subprocess  # here alone: the supervisor and its other children stay small

    try:
        program = subprocess.Popen(
            command,
            env={**os.environ, **facts},
            stdin=subprocess.DEVNULL,
            close_fds=False,  # there is none that an exec does not close
            start_new_session=True,  # Ctrl-C is for the supervisor, which then lets --down do its work
        )
    except OSError as error:
        return f"cannot be run: {error.strerror}"
    poll = select.poll()
    poll.register(wake.fd, select.POLLIN)
    poll.register(channel, 0)  # POLLHUP alone: the supervisor is gone, or tired of waiting
    while not _over(program.pid):
        if channel.fileno() in (fd for fd, _ in poll.poll()):
            poll.unregister(channel)
            for number in (signal.SIGTERM, signal.SIGKILL):  # not reaped yet, so the group is still the hook's
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(program.pid, number)
                deadline = time.monotonic() + _PATIENCE
                while not _over(program.pid) and (left := deadline - time.monotonic()) > 0:
                    poll.poll(left * 1000)
                    wake.stop()
            break
        wake.stop()
    code = program.wait()
    return "ok" if code == 0 else f"failed: {signals.decode(code)}"


def _over(pid: int) -> bool:
    """Whether a child has ended; it is left to be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
