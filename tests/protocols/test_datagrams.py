"""Datagrams of sessions byte by byte, against vectors that another implementation has written."""

import json
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap.protocols.secure import control, sealing, wire
from tap2tap.protocols.secure.actions import UseForSending
from tap2tap.protocols.secure.control import Answer, Goodbye, Message, PathAnswer, PathCheck, Probe, Report
from tap2tap.protocols.secure.wire import Cipher
from tests.support.simulated_worker import Outbound

KNOWN = json.loads((Path(__file__).parent / "data" / "datagrams.json").read_text())
TEXTS = {case["name"]: bytes.fromhex(case["text"]) for case in KNOWN["texts"]}
TOKEN = bytes(range(1, 9))
MESSAGES: list[tuple[str, Message]] = [
    ("probe", Probe()),
    ("answer", Answer(1472, 70000)),
    ("report", Report(0x030201, 100015, 99000, 12, 123456789, 987654321, 4242)),
    ("goodbye", Goodbye()),
    ("path check", PathCheck(TOKEN)),
    ("path answer", PathAnswer(TOKEN)),
]


@pytest.mark.parametrize("session", KNOWN["sessions"], ids=lambda session: Cipher(session["cipher"]).name)
def test_every_datagram_is_that_of_the_specification(session: dict[str, object]) -> None:
    cipher, key = Cipher(int(str(session["cipher"]))), bytes.fromhex(str(session["key"]))
    said = session["datagrams"]
    assert isinstance(said, list)
    sealer = Outbound(UseForSending(KNOWN["index"], cipher, key, until=1e9, parts=True))
    assert [sealer.seal(case["type"], TEXTS[case["name"]]).hex() for case in KNOWN["texts"]] == said
    for counter, case, datagram in zip(count(16), KNOWN["texts"], said, strict=False):
        if case["type"] == wire.TYPE_CONTROL:
            sealed = sealing.control(cipher, key, KNOWN["index"], counter, TEXTS[case["name"]])
            assert sealed.hex() == datagram


@pytest.mark.parametrize(("name", "message"), MESSAGES, ids=[name for name, _ in MESSAGES])
def test_every_control_text_is_that_of_the_specification(name: str, message: Message) -> None:
    assert control.pack(message) == TEXTS[name].rstrip(b"\0").ljust(len(control.pack(message)), b"\0")
    assert control.unpack(TEXTS[name]) == message
    assert control.unpack(TEXTS[name][: control.LONGEST]) == message
    assert control.unpack(TEXTS[name] + b"and more") == message  # room for later


@pytest.mark.parametrize(("kind", "name"), [(wire.TYPE_DATA, "part"), (wire.TYPE_DATA_VOUCHED, "vouched part")])
def test_a_frame_is_cut_as_in_the_specification(kind: int, name: str) -> None:
    """The simulation cuts like this; the stages of the worker are compared with the same vectors in their own tests."""
    frame = bytes.fromhex(KNOWN["frame"])
    sealer = Outbound(UseForSending(1, Cipher.CHACHA20_POLY1305, bytes(32), until=1e9, parts=True))
    parts = [text for each, text in sealer.texts(kind, frame, KNOWN["payload"]) if each == wire.TYPE_PART]
    assert parts == [text for each, text in TEXTS.items() if each.startswith(f"{name} ")]


@given(st.binary(max_size=64))
def test_any_text_is_understood_or_not(text: bytes) -> None:
    message = control.unpack(text)
    if message is not None:
        assert text[0] == control.pack(message)[0]
        assert len(text) >= len(control.pack(message))
