"""Running the user's programs: a small process of its own keeps the privileges that the program was started with.

It is forked before anything from the network is read, holds no descriptor but its end of a private channel, and takes
from there only the name of an event and facts of a strict form. So a supervisor or a worker that has been taken over
can ask for nothing but the programs that the administrator named, with facts that do no harm.
"""

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping

from tap2tap import log
from tap2tap.errors import StartError
from tap2tap.privileges import keep_descriptors, name_process
from tap2tap.supervisor import signals

_INTERFACE = re.compile(r"[^\s/]{1,15}")
_FACT = re.compile(r"TAP2TAP_[A-Z_]{1,32}")
_VALUE = re.compile(r"[A-Za-z0-9_.:%@\[\]-]{0,64}")
_MESSAGE = 8192  # bytes
_PATIENCE = 2000  # ms that a hook has between SIGTERM and SIGKILL when nobody waits for it any longer


OPTIONS = {
    "up": "--up",
    "down": "--down",
    "peer-up": "--on-peer",
    "peer-down": "--on-peer",
    "peer-moved": "--on-peer",
}


class Interrupted(Exception):
    """A stop signal came while a hook ran."""


class Hooks:
    """The programs of one tunnel by event; the process that runs them lives from `start` to `close`."""

    def __init__(self, programs: Mapping[str, str]) -> None:
        self._programs = programs
        self._channel: socket.socket | None = None
        self._pid = 0
        self._unanswered: list[str] = []  # programs that have been asked for

    def start(self) -> None:
        """Fork the process, if there is anything that it could ever run."""
        if not self._programs:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pid = signals.fork()
        if not self._pid:
            try:
                _serve(theirs, self._programs)
            finally:
                os._exit(0)
        theirs.close()
        self._channel = ours

    def run(self, event: str, interface: str, facts: Mapping[str, str], stop: signals.Signals) -> None:
        """Run the program of `event`, if there is one, and wait for its end.

        Raises StartError when it could not be run or failed, Interrupted when a stop signal came meanwhile.
        """
        if event not in self._programs or self._channel is None:
            return
        if not self.ask(event, interface, facts):
            raise StartError(f"{OPTIONS[event]} {self._programs[event]} failed: the process that runs it is gone")
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(stop.fd, select.POLLIN)
        problem = None
        while self._unanswered:
            if self._channel.fileno() in (fd for fd, _ in poll.poll()):
                problem = self._answer()
            elif stop.stop():
                raise Interrupted
        if problem:
            raise StartError(problem)

    def ask(self, event: str, interface: str, facts: Mapping[str, str]) -> bool:
        """Have the program of `event` run, after those that were asked for before; whether it will."""
        if event not in self._programs or self._channel is None:
            return False
        log.debug("running hook", event=event, program=self._programs[event])
        message = json.dumps([event, interface, {**facts, "TAP2TAP_EVENT": event}]).encode()
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
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, 0)


def _serve(channel: socket.socket, programs: Mapping[str, str]) -> None:
    """Be the process that runs hooks, until the channel closes."""
    signals.outlive()
    signals.released()
    keep_descriptors((0, 1, 2, channel.fileno()))
    name_process("tap2tap:hooks")
    log.setup("tap2tap hooks")
    while message := channel.recv(_MESSAGE):
        event, interface, facts = json.loads(message)
        sound = _INTERFACE.fullmatch(interface) and all(
            _FACT.fullmatch(name) and _VALUE.fullmatch(value) for name, value in facts.items()
        )
        answer = _run(channel, programs[event], interface, facts) if sound and event in programs else "refused"
        with contextlib.suppress(BrokenPipeError):
            channel.send(answer.encode())


def _run(channel: socket.socket, program: str, interface: str, facts: Mapping[str, str]) -> str:
    """Run `program` to its end, or to that of the channel; return "ok", or what went wrong."""
    try:
        process = subprocess.Popen(
            [program, interface],
            env={**os.environ, **facts},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the supervisor, which then lets --down do its work
        )
    except OSError as error:
        return f"cannot be run: {error.strerror}"
    poll = select.poll()
    poll.register(channel, 0)  # POLLHUP alone: the supervisor is gone, or tired of waiting
    ended = os.pidfd_open(process.pid)
    poll.register(ended, select.POLLIN)
    if ended not in (fd for fd, _ in poll.poll()):
        poll.unregister(channel)
        for number in (signal.SIGTERM, signal.SIGKILL):  # not reaped yet, so the group is still the hook's
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            poll.poll(_PATIENCE)
    os.close(ended)
    code = process.wait()
    return "ok" if code == 0 else f"failed: {signals.decode(code)}"
