"""`tap2tap genkey` and `tap2tap pubkey`: make the key files of a cable, and show the public half of one.

Secrets go into files only: never into arguments, never to standard output.
"""

import os
import sys
from pathlib import Path
from typing import Final

from tap2tap.commands.arguments import Parser
from tap2tap.errors import OK, UsageError
from tap2tap.keyfile import MAX_FILE
from tap2tap.keys import (
    KEY_LENGTH,
    decode_private,
    encode,
    private_key_of,
    public_key,
    read_private_key,
    write_private_file,
)

_HEADING: Final = """\
# tap2tap key file: one end of a cable. Keep it secret, and never use one file at both ends.
# Public key of this end: {public}
"""

_LATER: Final = """\
# Put the public key of the other end here ('tap2tap pubkey FILE' prints it there) and take the '#' away:
#peer =

# Optional: a second secret, the same at both ends, in case X25519 is ever broken. Make it once, for instance with
# 'head -c 32 /dev/urandom | base64', and carry it to the other end over a channel that keeps secrets.
#psk =
"""

_GENKEY_HELP: Final = """\
With two files: makes both ends of one cable. Carry one of them to the other host over a channel that keeps secrets
(scp, say), and delete it here.

  tap2tap genkey home.key vps.key
  scp vps.key vps:/etc/tap2tap/ && rm vps.key

With one file: makes this end only, for those who never move a private key between hosts. Do it on both hosts, then
give each the public key of the other as 'peer = ' in its file:

  home$ tap2tap genkey home.key      vps$ tap2tap genkey vps.key
  home$ tap2tap pubkey home.key      vps$ tap2tap pubkey vps.key

Files are created with mode 600; a file that exists is never overwritten.
"""

_PUBKEY_HELP: Final = """\
Prints the public key of a key file, which is no secret. Without FILE it reads standard input: a private key in
base64, as 'wg pubkey' does, or a whole key file.
"""


def genkey(argv: list[str]) -> int:
    """Run `tap2tap genkey`; returns the exit code. Raises UsageError when a file exists or cannot be written."""
    parser = Parser(
        prog="tap2tap genkey",
        description="Make the key files of a cable.",
        epilog=_GENKEY_HELP,
    )
    parser.add_argument("file", metavar="FILE", help="the key file of one end")
    parser.add_argument("other", metavar="OTHER", nargs="?", help="the key file of the other end")
    arguments = parser.parse_args(argv)
    if arguments.other is None:
        _one_end(arguments.file)
    else:
        _both_ends(arguments.file, arguments.other)
    return OK


def pubkey(argv: list[str]) -> int:
    """Run `tap2tap pubkey`; returns the exit code. Raises UsageError for what is not a private key."""
    parser = Parser(
        prog="tap2tap pubkey",
        description="Print a public key.",
        epilog=_PUBKEY_HELP,
    )
    parser.add_argument("file", metavar="FILE", nargs="?", default="-", help="a key file; '-' is standard input")
    file = parser.parse_args(argv).file
    private = _private_key_on_stdin() if file == "-" else read_private_key(file)
    print(encode(public_key(private)))
    return OK


def _both_ends(first: str, second: str) -> None:
    if Path(first).resolve() == Path(second).resolve():
        raise UsageError(f"{first}: the two ends of a cable need two files")
    one, other, psk = (os.urandom(KEY_LENGTH) for _ in range(3))
    write_private_file(first, _text(one, public_key(other), psk))
    try:
        write_private_file(second, _text(other, public_key(one), psk))
    except UsageError:
        Path(first).unlink(missing_ok=True)  # one end of a cable whose other end is lost
        raise
    _tell(f"{first} and {second} are the two ends of one cable.")
    _tell("Carry one of them to the other host, and keep only one on each.")


def _one_end(file: str) -> None:
    private = os.urandom(KEY_LENGTH)
    write_private_file(file, _heading(private) + f"private = {encode(private)}\n\n" + _LATER)
    _tell(f"{file} is one end of a cable; its public key is {encode(public_key(private))}")
    _tell(f"Do the same on the other host, then set 'peer = ' in {file} to the public key from there.")


def _text(private: bytes, peer: bytes, psk: bytes) -> str:
    return f"{_heading(private)}private = {encode(private)}\npeer = {encode(peer)}\npsk = {encode(psk)}\n"


def _heading(private: bytes) -> str:
    return _HEADING.format(public=encode(public_key(private)))


def _tell(line: str) -> None:
    """Advice goes to standard error, so that standard output stays for keys."""
    print(line, file=sys.stderr)


def _private_key_on_stdin() -> bytes:
    text = sys.stdin.read(MAX_FILE)
    words = text.split()
    if len(words) == 1:
        return decode_private(words[0], "standard input")
    return private_key_of(text, "standard input")
