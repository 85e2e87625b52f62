"""The joiner never merges what must not be merged, and merges what can be."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tap2tap.workers.join import Joiner
from tap2tap.workers.split import Splitter
from tap2tap.workers.train import Train
from tests import frames
from tests.frames import ACK, CWR, DF, ECE, FIN, MF, PSH, RST, SYN, TIMESTAMPS, URG, Flow

TRAIN = Train()
JOINER = Joiner(udp=True)
SPLITTER = Splitter()


def join(cut: Sequence[bytes], *, vouched: bool = False, joiner: Joiner = JOINER) -> list[tuple[bytes, int]]:
    """What is written for these frames, and how many frames each write stands for; the train must stay as it is."""
    frames.load(TRAIN, cut, vouched=vouched)
    before = bytes(TRAIN.buffer[: TRAIN.length + 2000])
    written = [(b"".join(vector), count) for vector, count in joiner.join(TRAIN)]
    assert bytes(TRAIN.buffer[: TRAIN.length + 2000]) == before
    return written


def counts(written: Sequence[tuple[bytes, int]]) -> list[int]:
    """How many frames each write stands for."""
    return [count for _, count in written]


def standing_still(cut: Sequence[bytes]) -> list[bytes]:
    """Frames with DF and one and the same IPv4 id, given the consecutive ids that joining makes of them."""
    back = []
    for index, frame in enumerate(cut):
        flow, payload = frames.dissect(frame)
        assert flow.version == 4
        assert flow.fragment == DF
        assert frames.dissect(cut[0])[0].ident == flow.ident
        back.append(frames.build(replace(flow, ident=(flow.ident + index) % 65536), payload))
    return back


def check(cut: Sequence[bytes], written: Sequence[tuple[bytes, int]]) -> None:
    """Cutting what was written gives the frames, each once and in order, but for the ids of `standing_still`."""
    index = 0
    for write, count in written:
        came = list(cut[index : index + count])
        back = frames.resegment(write)
        assert back == came or back == standing_still(came)
        index += count
    assert index == len(cut)


joinable = st.tuples(frames.flows(joinable=True), frames.bytes_of_payload, st.integers(20, 1500))


@given(joinable, st.booleans())
@example((Flow(options=TIMESTAMPS, flags=ACK | PSH | CWR), frames.payload(62001), 1448), False)
@example((Flow(ident=65534), frames.payload(10000), 1448), False)
@example((Flow(seq=2**32 - 2000), frames.payload(10000), 1448), False)
@example((Flow(version=6, tcp=False), frames.payload(62001), 1400), False)
def test_join_after_split_gives_the_super_frame_back(given: tuple[Flow, bytes, int], vouched: bool) -> None:
    flow, payload, mss = given
    header, frame = frames.super_frame(flow, payload, mss)
    for train in SPLITTER.split(memoryview(header), memoryview(frame)):
        assert train.vouched
        cut = frames.contents(train)
        whole = len(cut) == -(-len(payload) // mss)
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
BULK = Flow(options=TIMESTAMPS)


def make(flow: Flow, count: int = 10, mss: int = 100) -> list[bytes]:
    """A run of full-sized frames."""
    return frames.segments(flow, frames.payload(count * mss), mss)


def altered(frame: bytes, field: str, value: object) -> bytes:
    """The frame with another field, and its checksums right."""
    flow, payload = frames.dissect(frame)
    width = 4 if flow.version == 4 else 16
    if field in ("source", "target") and isinstance(value, bytes):
        value = value[:width]
    return frames.build(replace(flow, **{field: value}), payload)  # type: ignore[arg-type]


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


def test_the_other_spelling_of_a_zero_checksum_is_kept() -> None:
    flow = Flow()
    cut = make(flow)
    payload = bytearray(cut[3][flow.hl :])
    bare = frames.build(frames.dissect(cut[3])[0], bytes(2) + bytes(payload[2:]))
    payload[:2] = bare[flow.l4 + 16 : flow.l4 + 18]
    zero = frames.build(frames.dissect(cut[3])[0], bytes(payload))
    assert zero[flow.l4 + 16 : flow.l4 + 18] == b"\0\0"
    cut[3] = zero
    assert counts(join(cut)) == [10]
    cut[3] = zero[: flow.l4 + 16] + b"\xff\xff" + zero[flow.l4 + 18 :]
    for vouched in (False, True):
        assert counts(join(cut, vouched=vouched)) == [3, 1, 6]


def test_udp_without_checksum_is_not_joined() -> None:
    flow = Flow(tcp=False)
    cut = [frame[: flow.l4 + 6] + b"\0\0" + frame[flow.l4 + 8 :] for frame in make(flow)]
    for vouched in (False, True):
        assert counts(join(cut, vouched=vouched)) == [1] * 10


def test_udp_is_joined_only_if_the_kernel_takes_it() -> None:
    assert counts(join(make(Flow(tcp=False)), joiner=Joiner(udp=True))) == [10]
    assert counts(join(make(Flow(tcp=False)), joiner=Joiner(udp=False))) == [1] * 10
    assert counts(join(make(Flow()), joiner=Joiner(udp=False))) == [10]


@pytest.mark.parametrize("tcp", [True, False])
def test_ids_may_stand_still_only_with_df(tcp: bool) -> None:
    for fragment, expected in ((DF, [10]), (0, [1] * 10)):
        flow = Flow(tcp=tcp, fragment=fragment)
        cut = [altered(frame, "ident", 0) for frame in make(flow)]
        written = join(cut)
        check(cut, written)
        assert counts(written) == expected
    assert counts(join([altered(frame, "ident", 2 * index) for index, frame in enumerate(cut)])) == [1] * 10


@pytest.mark.parametrize("flow", [Flow(ip_options=b"\1" * 4), Flow(version=6, extensions=((60, bytes(6)),))])
def test_options_and_extension_headers_are_not_joined(flow: Flow) -> None:
    assert counts(join(make(flow))) == [1] * 10


def test_frames_without_payload_are_not_joined() -> None:
    assert counts(join([frames.build(BULK, b"")] * 10)) == [1] * 10
    short = [*make(BULK)[:9], frames.build(replace(BULK, seq=BULK.seq + 900, ident=10), b"")]
    assert counts(join(short)) == [9, 1]


def test_a_super_frame_fits_into_an_ip_packet() -> None:
    for version, room in ((4, 65535 - 32 - 20), (6, 65535 - 32)):
        mss = 9000
        cut = frames.segments(replace(BULK, version=version), bytes(13 * mss), mss)
        train = frames.load(Train(14 * 9200), cut)
        written = [(b"".join(vector), count) for vector, count in Joiner(udp=False).join(train)]
        check(cut, written)
        assert counts(written)[0] == (room - 20) // mss


def test_interleaved_flows_are_joined_by_runs() -> None:
    cut: list[bytes] = []
    for port, version, tcp in ((1, 4, True), (2, 4, True), (3, 4, False), (4, 6, True)):
        flow = Flow(version=version, tcp=tcp, ports=(port, port), options=b"\1" * 12)
        cut += make(flow, 8, 200 - flow.hl)
    written = join(cut)
    check(cut, written)
    assert counts(written) == [8, 8, 8, 8]


def test_a_train_that_begins_with_something_else_is_joined_too() -> None:
    cut = make(BULK)
    arp = cut[0][:12] + b"\x08\x06" + bytes(len(cut[0]) - 14)
    for place, expected in ((0, [1, 10]), (5, [5, 1, 5]), (10, [10, 1])):
        group = [*cut[:place], arp, *cut[place:]]
        assert counts(join(group)) == expected


@pytest.mark.parametrize("size", [1, 13, 14, 42, 60, 1514])
def test_what_is_not_ip_is_yielded_one_by_one(size: int) -> None:
    for count, last in ((1, size), (7, size), (7, max(1, size // 2))):
        cut = [bytes((index,)) * size for index in range(count - 1)] + [b"\x77" * last]
        written = join(cut)
        check(cut, written)
        assert counts(written) == [1] * count


def test_an_empty_train_is_nothing() -> None:
    train = Train()
    assert list(JOINER.join(train)) == []


def test_a_train_longer_than_a_super_frame_may_be() -> None:
    for flow in (BULK, Flow(version=6, tcp=False)):
        cut = make(flow, 150)
        written = join(cut)
        check(cut, written)
        assert counts(written) == [64, 64, 22]


def test_a_hostile_number_of_runs_is_left_alone_at_last() -> None:
    cut: list[bytes] = []
    for port in range(32):
        cut += make(replace(BULK, ports=(port, port)), 2)
    written = join(cut)
    check(cut, written)
    assert counts(written)[-2:] == [1, 1]


def test_many_shapes_do_not_pile_up() -> None:
    joiner = Joiner(udp=True)
    for mss in range(100, 300):
        for short in (50, mss):
            cut = frames.segments(BULK, frames.payload(2 * mss + short), mss)
            written = join(cut, joiner=joiner)
            check(cut, written)
            assert counts(written) == [3]


@given(st.integers(1, 120), st.integers(1, 64), st.data())
def test_noise_passes_unchanged(size: int, count: int, data: st.DataObject) -> None:
    noise = data.draw(st.binary(min_size=size, max_size=size))
    last = data.draw(st.integers(1, size))
    cut = [noise] * (count - 1) + [noise[:last]]
    written = join(cut, vouched=data.draw(st.booleans()))
    assert b"".join(write[10:] for write, _ in written) == b"".join(cut)


@given(frames.flows(), st.binary(max_size=60), st.integers(2, 64), st.data())
def test_damaged_frames_pass_unchanged(flow: Flow, payload: bytes, count: int, data: st.DataObject) -> None:
    frame = bytearray(frames.build(flow, payload))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, min(len(frame), flow.hl + 2) - 1))] = data.draw(st.integers(0, 255))
    cut = [bytes(frame)] * count
    written = join(cut)
    check(cut, written)
