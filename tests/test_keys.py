"""Key files and the commands that make them: what is accepted, what is refused, and that no secret gets out."""

import base64
import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tap2tap.commands.genkey import genkey, pubkey
from tap2tap.errors import NoPermissionError, UsageError
from tap2tap.keyfile import open_key_file, read_key_file
from tap2tap.keys import NO_PSK, CableKeys, encode, parse_keys, public_key, read_keys, write_private_file

ONE, OTHER = bytes(range(32)), bytes(range(32, 64))
PSK = bytes(range(64, 96))
PRIME = 2**255 - 19


def respelt(key: bytes) -> bytes:
    """The same number with bit 255, which RFC 7748 ignores."""
    return (int.from_bytes(key, "little") | 1 << 255).to_bytes(32, "little")


# Public keys that X25519 takes for other ones: of the other end, of this end, 9 in another way, the largest.
ODD = [respelt(public_key(OTHER)), respelt(public_key(ONE)), (PRIME + 9).to_bytes(32, "little"), b"\xff" * 32]
GOOD = f"""\
# a comment

private = {encode(ONE)}
peer={encode(public_key(OTHER))}
  psk =   {encode(PSK)}
"""


def key_file(folder: Path, text: str = GOOD, mode: int = 0o600) -> Path:
    path = folder / "end.key"
    path.write_text(text)
    path.chmod(mode)
    return path


def refused(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read_keys(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    for secret in (ONE, OTHER, PSK):
        assert encode(secret)[:-1] not in message
    return message


def test_a_key_file_is_read(tmp_path: Path) -> None:
    keys = read_keys(key_file(tmp_path))
    assert keys == CableKeys(ONE, public_key(OTHER), PSK)
    assert keys.public == public_key(ONE)


def test_without_psk_it_is_zero(tmp_path: Path) -> None:
    assert read_keys(key_file(tmp_path, GOOD.replace("  psk", "#psk"))).psk == NO_PSK


def test_public_keys_are_those_of_rfc_7748() -> None:
    """Section 6.1: the keys of Alice and Bob."""
    alice = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    bob = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    assert public_key(alice).hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert public_key(bob).hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"


def test_secrets_do_not_show(tmp_path: Path) -> None:
    shown = repr(read_keys(key_file(tmp_path)))
    assert repr(ONE) not in shown
    assert repr(PSK) not in shown


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o644])
def test_a_file_that_others_can_get_at_is_refused(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path, mode=mode)
    assert f"chmod 600 {path}" in refused(path)


@pytest.mark.usefixtures("root")
def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = key_file(tmp_path)
    os.chown(path, 4711, 4711)
    assert "chown" in refused(path)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    read_keys(path)
    os.chown(path, 0, 0)
    read_keys(path)  # root could read it anyway


@pytest.mark.usefixtures("root")
def test_a_file_of_whoever_called_sudo_is_read_by_root_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = key_file(tmp_path)
    os.chown(path, 4711, 4711)
    for nonsense in ("", "0", "4712", "-4711", "4711x", "9" * 30):
        monkeypatch.setenv("SUDO_UID", nonsense)
        assert "chown" in refused(path)
    monkeypatch.setenv("SUDO_UID", "4711")
    read_keys(path)
    monkeypatch.setattr(os, "geteuid", lambda: 4712)
    assert "chown" in refused(path)


@pytest.mark.parametrize("kind", ["folder", "fifo", "nothing", "device"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "end.key"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "device":
        path = Path("/dev/null")
    refused(path)


def test_a_link_to_a_key_file_will_do(tmp_path: Path) -> None:
    link = tmp_path / "link.key"
    link.symlink_to(key_file(tmp_path))
    assert read_keys(link).psk == PSK


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (GOOD.replace("private", "#private"), "no 'private = '"),
        (GOOD.replace("peer", "#peer"), "tap2tap pubkey"),
        (GOOD + f"psk = {encode(PSK)}\n", "line 6: psk stands there twice"),
        (GOOD + "color = blue\n", "unknown field 'color'"),
        (GOOD + encode(ONE) + "\n", "line 6: not a field"),
        (GOOD + encode(ONE).rstrip("=") + " = x\n", "line 6: not a field"),
        (GOOD.replace(encode(PSK), encode(PSK)[:-1]), "psk: not a key"),
        (GOOD.replace(encode(PSK), encode(PSK[:31])), "psk: not a key"),
        (GOOD.replace(encode(PSK), encode(PSK + b"x")), "psk: not a key"),
        (GOOD.replace(encode(PSK), "*" + encode(PSK)), "psk: not a key"),
        (GOOD.replace(encode(PSK), encode(PSK)[:-2] + "9="), "psk: not a key"),
        (GOOD.replace(encode(PSK), base64.urlsafe_b64encode(b"\xff" * 32).decode()), "psk: not a key"),
        (GOOD.replace(encode(PSK), ""), "psk: not a key"),
        (GOOD.replace(encode(ONE), "secret"), "private: not a key"),
        (GOOD.replace(encode(public_key(OTHER)), encode(public_key(ONE))), "own public key"),
        (GOOD.replace(encode(public_key(OTHER)), encode(bytes(32))), "not a usable public key"),
        (GOOD.replace(encode(ONE), encode(bytes(32))), "private: 32 zeros are no key"),
        *(
            (GOOD.replace(encode(public_key(OTHER)), encode(peer)), "no key that 'tap2tap pubkey' prints")
            for peer in ODD
        ),
        (GOOD + "#" * 5000, "too long"),
        ("", "no 'private = '"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str, hint: str) -> None:
    assert hint in refused(key_file(tmp_path, text))


def test_rubbish_is_refused(tmp_path: Path) -> None:
    path = key_file(tmp_path)
    path.write_bytes(b"\xff\xfe\x00")
    assert "not a text file" in refused(path)


def test_genkey_makes_the_two_ends_of_one_cable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home, vps = tmp_path / "home.key", tmp_path / "vps.key"
    previous = os.umask(0)
    try:
        assert genkey([str(home), str(vps)]) == 0
    finally:
        os.umask(previous)
    one, other = read_keys(home), read_keys(vps)
    assert (one.peer, other.peer) == (other.public, one.public)
    assert one.psk == other.psk != NO_PSK
    assert one.private != other.private
    output = "".join(capsys.readouterr())
    for path, keys in ((home, one), (vps, other)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert f"Public key of this end: {encode(keys.public)}" in path.read_text()
        assert encode(keys.private) not in output
        assert encode(keys.psk) not in output


def test_private_keys_need_not_travel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One file on each host, public keys exchanged by hand."""
    home, vps = tmp_path / "home.key", tmp_path / "vps.key"
    publics = []
    for path in (home, vps):
        assert genkey([str(path)]) == 0
        with pytest.raises(UsageError, match="no 'peer = ' line"):
            read_keys(path)
        capsys.readouterr()
        assert pubkey([str(path)]) == 0
        publics.append(capsys.readouterr().out.strip())
    for path, public in ((home, publics[1]), (vps, publics[0])):
        path.write_text(path.read_text().replace("#peer =", f"peer = {public}"))
    assert read_keys(home).peer == read_keys(vps).public
    assert read_keys(vps).peer == read_keys(home).public
    assert read_keys(home).psk == NO_PSK
    home.write_text(home.read_text().replace("#psk =", f"psk = {encode(PSK)}"))
    assert read_keys(home).psk == PSK


def test_genkey_never_overwrites_and_leaves_no_half_of_a_cable(tmp_path: Path) -> None:
    home, vps = tmp_path / "home.key", tmp_path / "vps.key"
    vps.write_text("precious")
    with pytest.raises(UsageError, match="exists already"):
        genkey([str(home), str(vps)])
    assert not home.exists()
    assert vps.read_text() == "precious"
    with pytest.raises(UsageError, match="exists already"):
        genkey([str(vps)])
    with pytest.raises(UsageError, match="two files"):
        genkey([str(home), str(tmp_path / "." / "home.key")])
    with pytest.raises(UsageError, match="cannot be created"):
        genkey([str(tmp_path / "nowhere" / "home.key")])
    with pytest.raises(UsageError, match="exists already"):
        write_private_file(vps, "")
    dangling = tmp_path / "link.key"
    dangling.symlink_to(home)
    with pytest.raises(UsageError):
        genkey([str(dangling)])
    assert not home.exists()


def test_a_full_disk_leaves_no_half_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left"):
        write_private_file(tmp_path / "home.key", "text")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", [encode(ONE) + "\n", GOOD])
@pytest.mark.parametrize("argv", [[], ["-"]])
def test_pubkey_reads_standard_input(
    text: str, argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert pubkey(argv) == 0
    assert capsys.readouterr().out == encode(public_key(ONE)) + "\n"


@pytest.mark.parametrize("text", ["", "nonsense", encode(ONE)[:-4] + "\n", encode(bytes(32)) + "\n"])
def test_pubkey_refuses_what_is_no_key(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    with pytest.raises(UsageError) as caught:
        pubkey([])
    assert encode(ONE)[:-4] not in str(caught.value)


@pytest.mark.parametrize("command", [genkey, pubkey])
def test_help_helps(command: object, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command(["--help"])  # type: ignore[operator]
    assert caught.value.code == 0
    assert "FILE" in capsys.readouterr().out


def test_parsing_needs_no_file() -> None:
    assert parse_keys(GOOD, "somewhere").psk == PSK


def test_wireguard_agrees_on_the_public_key() -> None:
    try:
        shown = subprocess.run(["wg", "pubkey"], input=encode(ONE), capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip("no wg on this machine")
    assert shown.strip() == encode(public_key(ONE))


def test_a_file_that_may_not_be_opened_is_a_matter_of_permission(tmp_path: Path) -> None:
    path = key_file(tmp_path)

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(NoPermissionError) as caught:
            read_keys(path)
    assert str(caught.value) == f"{path}: cannot be opened: Permission denied"
    assert caught.value.exit_code == 4


def test_an_opened_file_is_read_from_its_beginning_every_time(tmp_path: Path) -> None:
    fd = open_key_file(key_file(tmp_path))
    try:
        first = read_key_file(fd, "name")
        os.lseek(fd, 5, os.SEEK_SET)
        assert read_key_file(fd, "name") == first == GOOD
    finally:
        os.close(fd)
