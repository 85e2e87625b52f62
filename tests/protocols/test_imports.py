"""What a worker loads of the secure protocol: no handshake, no key file, and not `cryptography`."""

import subprocess
import sys

import pytest

SECURE = "tap2tap.protocols.secure."
OF_THE_LINK = {"actions", "attempts", "handshake", "link", "noise", "presence", "rate_limiter", "responder", "sealing"}


def loaded_by(module: str) -> set[str]:
    line = f"import sys, {SECURE}{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["limits", "wire", "mailbox", "mac", "recent"])
def test_what_workers_import_brings_no_handshake_with_it(module: str) -> None:
    loaded = loaded_by(module)
    assert SECURE + module in loaded
    assert not loaded & {SECURE + name for name in OF_THE_LINK}
    assert "tap2tap.keys" not in loaded


@pytest.mark.parametrize("module", ["limits", "wire", "mailbox", "mac", "recent"])
def test_what_workers_import_brings_no_cryptography_with_it(module: str) -> None:
    assert "cryptography" not in loaded_by(module)


def test_the_link_brings_all_of_it() -> None:
    assert loaded_by("link") >= {"cryptography", *(SECURE + name for name in OF_THE_LINK)}
