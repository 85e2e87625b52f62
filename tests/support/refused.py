"""Runs a program under a kernel, or in a container, that refuses system calls: REFUSAL[,REFUSAL...] PROGRAM ARGUMENT...

A refusal is CALL:ERROR, or prctl.OPTION:ERROR for one option of prctl(2), such as close_range:ENOSYS or
prctl.PR_SET_NAME:EPERM. A seccomp filter answers in the kernel's place (seccomp(2)). Root installs it without
PR_SET_NO_NEW_PRIVS, so even that can be refused.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

CALLS = {  # asm/unistd_64.h; asm-generic/unistd.h
    "x86_64": {
        "capget": 125,
        "capset": 126,
        "close_range": 436,
        "inotify_add_watch": 254,
        "inotify_init1": 294,
        "pidfd_open": 434,
        "prctl": 157,
        "prlimit64": 302,
        "recvmmsg": 299,
        "sched_getaffinity": 204,
        "sched_setaffinity": 203,
        "sched_setscheduler": 144,
        "sendmmsg": 307,
        "setgroups": 116,
        "setresuid": 117,
    },
    "aarch64": {
        "capget": 90,
        "capset": 91,
        "close_range": 436,
        "inotify_add_watch": 27,
        "inotify_init1": 26,
        "pidfd_open": 434,
        "prctl": 167,
        "prlimit64": 261,
        "recvmmsg": 243,
        "sched_getaffinity": 123,
        "sched_setaffinity": 122,
        "sched_setscheduler": 119,
        "sendmmsg": 269,
        "setgroups": 159,
        "setresuid": 147,
    },
}
OPTIONS = {"PR_SET_PDEATHSIG": 1, "PR_SET_DUMPABLE": 4, "PR_SET_NAME": 15, "PR_SET_NO_NEW_PRIVS": 38}

PR_SET_SECCOMP = 22  # linux/prctl.h
SECCOMP_MODE_FILTER = 2  # linux/seccomp.h
SECCOMP_RET_ERRNO = 0x00050000
SECCOMP_RET_ALLOW = 0x7FFF0000
BPF_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS, linux/bpf_common.h
BPF_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
BPF_RETURN = 0x06  # BPF_RET | BPF_K
NUMBER, ARGUMENT = 0, 16  # offsets in struct seccomp_data; of the first argument, the low half (little-endian)

Instruction = tuple[int, int, int, int]


def known() -> bool:
    """Whether the numbers of this machine's calls are known."""
    return platform.machine() in CALLS


def instructions(refusal: str) -> list[Instruction]:
    """The part of the filter for one refusal, which falls through to the next."""
    what, _, name = refusal.partition(":")
    call, _, option = what.partition(".")
    answer = (BPF_RETURN, 0, 0, SECCOMP_RET_ERRNO | getattr(errno, name))
    number = CALLS[platform.machine()][call]
    if not option:
        return [(BPF_LOAD, 0, 0, NUMBER), (BPF_EQUAL, 0, 1, number), answer]
    return [
        (BPF_LOAD, 0, 0, NUMBER),
        (BPF_EQUAL, 0, 3, number),
        (BPF_LOAD, 0, 0, ARGUMENT),
        (BPF_EQUAL, 0, 1, OPTIONS[option]),
        answer,
    ]


def refuse(*refusals: str) -> None:
    """Have the kernel refuse these, for this process and all that come from it. Raises OSError."""
    program = [each for refusal in refusals for each in instructions(refusal)] + [(BPF_RETURN, 0, 0, SECCOMP_RET_ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in program))
    whole = ctypes.create_string_buffer(struct.pack("@H6xP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_void_p(ctypes.addressof(whole))) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def refusing(*refusals: str) -> list[str]:
    """A prefix for a command."""
    return [sys.executable, "-I", __file__, ",".join(refusals)]


if __name__ == "__main__":
    refuse(*sys.argv[1].split(","))
    os.execvp(sys.argv[2], sys.argv[2:])
