"""The joiner never merges what must not be merged, and merges what can be."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support import frames
from tests.support.frames import ACK, CWR, DF, ECE, FIN, MF, PSH, RST, SYN, TIMESTAMPS, URG, Flow
from tests.support.joining import BULK, altered, check, counts, join, make
from tests.workers.offload.test_split import Split

joinable = st.tuples(frames.flows(joinable=True), frames.bytes_of_payload, st.integers(20, 1500))


@given(joinable, st.booleans())
@example((Flow(options=TIMESTAMPS, flags=ACK | PSH | CWR), frames.payload(62001), 1448), False)
@example((Flow(ident=65534), frames.payload(10000), 1448), False)
@example((Flow(seq=2**32 - 2000), frames.payload(10000), 1448), False)
@example((Flow(version=6, tcp=False), frames.payload(62001), 1400), False)
def test_join_after_split_gives_the_super_frame_back(given: tuple[Flow, bytes, int], vouched: bool) -> None:
    flow, payload, mss = given
    header, frame = frames.super_frame(flow, payload, mss)
    split = Split(header, frame)
    for cut in split.trains:
        whole = len(cut) == -(-len(payload) // mss) and len(split.trains) == 1
        written = join(cut, vouched=vouched)
        check(cut, written)
        if whole and len(cut) > 1 and 65535 not in [int.from_bytes(frame[flow.l4 + 16 :][:2], "big") for frame in cut]:
            assert written == [(header + frame, len(cut))]


@given(joinable, st.data())
def test_whatever_happens_to_the_frames_cutting_again_gives_them_back(
    given: tuple[Flow, bytes, int], data: st.DataObject
) -> None:
    cut = frames.segments(*given)
    for _ in range(data.draw(st.integers(1, 3))):
        mutate(cut, data, given[0])
    for group in frames.trains_of(cut):
        check(group, join(group))


def mutate(cut: list[bytes], data: st.DataObject, flow: Flow) -> None:
    """Do something to a run of frames that must not be lost by joining it."""
    index = data.draw(st.integers(0, len(cut) - 1))
    frame = bytearray(cut[index])
    what = data.draw(st.sampled_from(("bit", "header bit", "swap", "repeat", "drop", "refresh", "shorten", "pad")))
    if what == "bit":
        frame[data.draw(st.integers(0, len(frame) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    elif what == "header bit":
        frame[data.draw(st.integers(0, min(flow.hl, len(frame)) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    elif what == "swap":
        other = data.draw(st.integers(0, len(cut) - 1))
        cut[index], cut[other] = cut[other], cut[index]
        return
    elif what == "repeat":
        cut.insert(index, bytes(frame))
        return
    elif what == "drop":
        if len(cut) > 1:
            del cut[index]
        return
    elif what == "shorten":
        del frame[data.draw(st.integers(1, len(frame))) :]
    elif what == "pad":
        frame += bytes(data.draw(st.integers(1, 40)))
    else:
        try:
            piece, payload = frames.dissect(bytes(frame))
        except Exception:  # damaged before
            return
        frame = bytearray(altered(frames.build(piece, payload), *data.draw(st.sampled_from(CHANGES))))
    cut[index] = bytes(frame)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("last", [7, 10])
@pytest.mark.parametrize(
    "flow", [BULK, replace(BULK, version=6, tags=((0x8100, 5),)), Flow(tcp=False), Flow(version=6, tcp=False)]
)
def test_no_bit_of_a_header_is_lost_in_frames_that_are_vouched_for(flow: Flow, last: int, place: int) -> None:
    cut = make(flow, 3, 10)
    cut[2] = frames.build(frames.dissect(cut[2])[0], bytes(last))
    assert counts(join(cut)) == [3]
    check_at = flow.l4 + (16 if flow.tcp else 6)
    for at in range(flow.hl):
        if at in (check_at, check_at + 1) or (flow.tcp and at == flow.l4 + 13):
            continue  # what is vouched for is not looked at; flags that end or begin a run change it
        for bit in (1, 0x80):
            damaged = list(cut)
            damaged[place] = cut[place][:at] + bytes((cut[place][at] ^ bit,)) + cut[place][at + 1 :]
            check(damaged, join(damaged, vouched=True))


CHANGES: list[tuple[str, object]] = [
    ("macs", b"\x02" * 12),
    ("tags", ((0x8100, 7),)),
    ("source", b"\x0b" * 16),
    ("target", b"\x0b" * 16),
    ("tos", 0xB8),
    ("label", 77),
    ("ttl", 63),
    ("ident", 40000),
    ("fragment", 0),
    ("fragment", MF),
    ("fragment", DF | 0x8000),
    ("fragment", 5),
    ("ports", (1, 2)),
    ("seq", 5),
    ("ack", 5),
    ("reserved", 1),
    ("window", 5),
    ("urgent", 5),
    ("options", b"\x01" * 12),
    ("options", b""),
    *(("flags", ACK | flag) for flag in (FIN, PSH, SYN, RST, URG, ECE, CWR)),
    ("flags", 0),
]
CHANGES6 = [(field, value) for field, value in CHANGES if field not in ("ident", "fragment")]


@pytest.mark.parametrize(("version", "field", "value"), [(4, *change) for change in CHANGES if change[0] != "label"])
@pytest.mark.parametrize("place", [0, 4, 9])
def test_another_field_ends_the_run_in_ipv4(version: int, field: str, value: object, place: int) -> None:
    another_field(version, field, value, place)


@pytest.mark.parametrize(("version", "field", "value"), [(6, *change) for change in CHANGES6])
@pytest.mark.parametrize("place", [0, 4, 9])
def test_another_field_ends_the_run_in_ipv6(version: int, field: str, value: object, place: int) -> None:
    another_field(version, field, value, place)


def another_field(version: int, field: str, value: object, place: int) -> None:
    cut = make(replace(BULK, version=version))
    cut[place] = altered(cut[place], field, value)
    for group in frames.trains_of(cut):
        for vouched in (False, True):
            written = join(group, vouched=vouched)
            check(group, written)
            assert max(counts(written)) <= len(group)
    joined = [counts(join(group)) for group in frames.trains_of(cut)]
    if field == "flags" and value in (ACK | FIN, ACK | PSH):
        assert joined == [{0: [1, 9], 4: [5, 5], 9: [10]}[place]]
    elif field == "flags" and value == ACK | CWR:
        assert joined == [{0: [10], 4: [4, 6], 9: [9, 1]}[place]]
    elif len(joined) == 1:
        assert joined == [{0: [1, 9], 4: [4, 1, 5], 9: [9, 1]}[place]]


@pytest.mark.parametrize("field", ["source", "target", "tos", "ttl", "ports", "macs"])
def test_another_field_ends_the_run_of_udp(field: str) -> None:
    cut = make(Flow(tcp=False))
    cut[4] = altered(cut[4], field, dict(CHANGES)[field])
    written = join(cut)
    check(cut, written)
    assert counts(written) == [4, 1, 5]


@pytest.mark.parametrize("flow", [BULK, replace(BULK, version=6), Flow(tcp=False), Flow(version=6, tcp=False)])
@pytest.mark.parametrize("mss", [100, 101])
@pytest.mark.parametrize("short", [0, 33])
def test_a_corrupted_frame_arrives_corrupted(flow: Flow, mss: int, short: int) -> None:
    cut = frames.segments(flow, frames.payload(9 * mss + (short or mss)), mss)
    for place in (0, 5, 9):
        for at in (flow.l4 + (16 if flow.tcp else 6), flow.hl, flow.hl + 20, len(cut[place]) - 1):
            damaged = list(cut)
            damaged[place] = cut[place][:at] + bytes((cut[place][at] ^ 0x10,)) + cut[place][at + 1 :]
            written = join(damaged)
            check(damaged, written)
            assert counts(written) == {0: [1, 9], 5: [5, 1, 4], 9: [9, 1]}[place]
