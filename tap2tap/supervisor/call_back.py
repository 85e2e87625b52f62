"""The file that remembers where the peer was, for a call after a restart (tap2tap.peer_record is what stands in it).

It is root's, and so is its folder: nobody else can have us call an address. A tunnel opens it before its privileges go
and hands the descriptor to the link process, which writes there; nobody reads it but the next life of that tunnel.

Its name comes from the path of the key file. Two tunnels with one path, in network namespaces or after an edit of the
file, share a record: the later write stands, and the other one calls there in vain, six times at the most.
"""

import fcntl
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tap2tap import log
from tap2tap.config import Config
from tap2tap.peer_record import LIFE

FOLDER = Path("/var/lib/tap2tap")

_NAME = re.compile(r"[0-9a-f]{32}\.peer")
_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


@contextmanager
def opened(config: Config) -> Iterator[int | None]:
    """Open the record of a tunnel until the end; None where there is to be none, or, with a warning, can be none."""
    if config.key is None or config.client or not config.call_back:
        yield None
        return
    if os.geteuid() != 0:
        log.debug("only root remembers where the peer is")
        yield None
        return
    fd, path = None, folder() / name(config.key)
    try:
        fd = _open(path)
    except OSError as error:
        reason = error.strerror or error
        log.warning("cannot remember where to call the peer: --no-call-back does without", file=path, reason=reason)
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)


def folder() -> Path:
    """Where the records are: where systemd says if it has made the place (StateDirectory= in systemd.exec(5))."""
    return Path(os.environ.get("STATE_DIRECTORY", "").split(":")[0] or FOLDER)


def name(key: str) -> str:
    """The name of the record for the key file `key`."""
    return f"{hashlib.blake2s(os.fsencode(os.path.realpath(key)), digest_size=16).hexdigest()}.peer"


def _open(path: Path) -> int:
    """Return a descriptor of the file, which is made if need be; and remove those that nobody has used for long.

    Raises OSError for what is not as we make it.
    """
    with suppress(FileExistsError):
        path.parent.mkdir(0o700)
    place = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | _FLAGS)
    try:
        status = os.fstat(place)
        if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise OSError("others may write to the folder")
        fd = os.open(path.name, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600, dir_fd=place)
        try:
            _check(os.fstat(fd))
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # for as long as the tunnel lives: not to be swept away
            _sweep(place)
        except OSError:
            os.close(fd)
            raise
        return fd
    finally:
        os.close(place)


def _check(status: os.stat_result) -> None:
    """Raise OSError for what is not a file of root alone."""
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise OSError("not a regular file with one name")
    if status.st_uid != 0 or status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise OSError("others can get at the file")


def _sweep(place: int) -> None:
    """Remove the records that are too old and of no tunnel that lives."""
    for each in filter(_NAME.fullmatch, os.listdir(place)):
        with suppress(OSError):
            status = os.stat(each, dir_fd=place, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode) or time.time() - status.st_mtime <= LIFE:
                continue
            fd = os.open(each, os.O_RDONLY | _FLAGS, dir_fd=place)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(each, dir_fd=place)
            finally:
                os.close(fd)
