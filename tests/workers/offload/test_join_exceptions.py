"""What the joiner leaves alone: spellings that would be lost, fragments, groups, options, wrong lengths."""

from dataclasses import replace

import pytest
from hypothesis import strategies as st

from tests.support import frames
from tests.support.frames import ACK, DF, FIN, MF, PSH, Flow
from tests.support.joining import BULK, altered, check, counts, join, make

joinable = st.tuples(frames.flows(joinable=True), frames.bytes_of_payload, st.integers(20, 1500))


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


@pytest.mark.parametrize("last", [33, 100])
@pytest.mark.parametrize(("place", "expected"), [(0, [1, 9]), (4, [4, 1, 5]), (9, [9, 1])])
def test_the_other_spelling_of_a_zero_ip_checksum_is_kept(place: int, expected: list[int], last: int) -> None:
    size = 900 + last

    def header_sum(cut: list[bytes]) -> bytes:
        return cut[place][BULK.l3 + 10 : BULK.l3 + 12]

    cut = frames.segments(BULK, frames.payload(size), 100)
    more = int.from_bytes(header_sum(cut))  # adding what the checksum was makes it zero
    cut = frames.segments(replace(BULK, ident=(BULK.ident + more) % 65535), frames.payload(size), 100)
    assert header_sum(cut) == b"\0\0"
    assert counts(join(cut)) == [10]
    cut[place] = cut[place][: BULK.l3 + 10] + b"\xff\xff" + cut[place][BULK.l3 + 12 :]
    for vouched in (False, True):
        assert counts(join(cut, vouched=vouched)) == expected


def test_udp_without_checksum_is_not_joined() -> None:
    flow = Flow(tcp=False)
    cut = make(flow)
    without = [frame[: flow.l4 + 6] + b"\0\0" + frame[flow.l4 + 8 :] for frame in cut]
    for vouched in (False, True):
        assert counts(join(without, vouched=vouched)) == [1] * 10
        for place, expected in ((0, [1, 9]), (4, [4, 1, 5]), (9, [9, 1])):
            one = [*cut[:place], without[place], *cut[place + 1 :]]
            assert counts(join(one, vouched=vouched)) == expected


def test_udp_is_joined_only_if_the_kernel_takes_it() -> None:
    assert counts(join(make(Flow(tcp=False)), udp=True)) == [10]
    assert counts(join(make(Flow(tcp=False)), udp=False)) == [1] * 10
    assert counts(join(make(Flow()), udp=False)) == [10]


GROUP = bytes.fromhex("01005e000009020000000001")


@pytest.mark.parametrize(
    "many",
    [
        Flow(macs=GROUP, target=bytes((224, 0, 0, 9))),
        Flow(macs=b"\xff" * 6 + GROUP[6:], target=b"\xff" * 4),
        Flow(macs=b"\xff" * 6 + GROUP[6:], target=bytes((10, 0, 0, 255))),
        Flow(target=bytes((239, 1, 1, 1))),  # to a group by way of one host's Ethernet address
        Flow(version=6, macs=bytes.fromhex("3333") + GROUP[2:], target=b"\xff\x02" + bytes(13) + b"\x09"),
        Flow(version=6, target=b"\xff\x02" + bytes(13) + b"\x09"),
        Flow(macs=GROUP, target=bytes((224, 0, 0, 9)), tags=((0x8100, 5),)),
    ],
)
def test_udp_to_many_is_not_joined(many: Flow) -> None:
    many = replace(many, tcp=False)
    for vouched in (False, True):
        cut = make(many)
        assert counts(join(cut, vouched=vouched)) == [1] * 10
        # Nor does it hide behind, or stand in the way of, what is to one host.
        one = make(replace(many, macs=Flow().macs, target=Flow().target[: len(many.target)]))
        for mixed, expected in (([*one, *cut], [10, *[1] * 10]), ([*cut, *one], [*[1] * 10, 10])):
            written = join(mixed, vouched=vouched)
            check(mixed, written)
            assert counts(written) == expected


@pytest.mark.parametrize("tcp", [True, False])
def test_ids_may_stand_still_only_with_df(tcp: bool) -> None:
    for fragment, expected in ((DF, [10]), (0, [1] * 10)):
        flow = Flow(tcp=tcp, fragment=fragment)
        cut = [altered(frame, "ident", 0) for frame in make(flow)]
        written = join(cut)
        check(cut, written)
        assert counts(written) == expected
    assert counts(join([altered(frame, "ident", 2 * index) for index, frame in enumerate(cut)])) == [1] * 10


@pytest.mark.parametrize("tcp", [True, False])
@pytest.mark.parametrize("fragment", [MF, DF | MF, DF | 0x8000, 5])
def test_fragments_are_not_joined(tcp: bool, fragment: int) -> None:
    for vouched in (False, True):
        assert counts(join(make(Flow(tcp=tcp, fragment=fragment)), vouched=vouched)) == [1] * 10


def reckoned(frame: bytes, length: int) -> bytes:
    """An IPv4 frame that says that it is so long, with the header checksum of that."""
    header = frame[14:16] + length.to_bytes(2) + frame[18:24] + bytes(2) + frame[26:34]
    return frame[:14] + header[:10] + (~frames.fold(header) & 0xFFFF).to_bytes(2) + header[12:] + frame[34:]


@pytest.mark.parametrize("place", [0, 4, 9])
@pytest.mark.parametrize("last", [33, 100])
@pytest.mark.parametrize("field", ["ip", "udp"])
@pytest.mark.parametrize("version", [4, 6])
def test_a_frame_that_is_not_as_long_as_it_says_is_alone(version: int, field: str, last: int, place: int) -> None:
    flow = replace(BULK, version=version) if field == "ip" else Flow(version=version, tcp=False)
    cut = frames.segments(flow, frames.payload(9 * 100 + last), 100)
    if field == "ip" and version == 4:
        cut[place] = reckoned(cut[place], len(cut[place]) - flow.l3 - 1)
    else:
        at = flow.l3 + 4 if field == "ip" else flow.l4 + 4
        length = int.from_bytes(cut[place][at : at + 2]) - 1
        cut[place] = cut[place][:at] + length.to_bytes(2) + cut[place][at + 2 :]
    for vouched in (False, True):
        assert counts(join(cut, vouched=vouched)) == {0: [1, 9], 4: [4, 1, 5], 9: [9, 1]}[place]


def test_ip_checksums_that_are_wrong_alike_are_not_joined() -> None:
    cut = make(BULK)
    wrong = [frame[:24] + (int.from_bytes(frame[24:26]) + 1 & 0xFFFF).to_bytes(2) + frame[26:] for frame in cut]
    longer = [reckoned(frame, len(frame) - 13) for frame in cut]
    as_if = [frame[:24] + other[24:26] + frame[26:] for frame, other in zip(cut, longer, strict=True)]
    for vouched in (False, True):
        assert counts(join(wrong, vouched=vouched)) == [1] * 10
        assert counts(join([longer[0], *as_if[1:]], vouched=vouched)) == [1] * 10


@pytest.mark.parametrize("at", [-1, BULK.l4 + 30])  # the payload, an option
@pytest.mark.parametrize(("place", "expected"), [(3, [3, 1, 6]), (9, [9, 1])])
def test_the_flags_of_a_frame_that_is_not_joined_are_its_own(at: int, place: int, expected: list[int]) -> None:
    cut = make(BULK)
    broken = bytearray(altered(cut[place], "flags", ACK | FIN | PSH))
    broken[at] ^= 1
    cut[place] = bytes(broken)
    written = join(cut)
    check(cut, written)
    assert counts(written) == expected


@pytest.mark.parametrize(
    "flow", [Flow(ip_options=b"\1" * 4), Flow(ip_options=bytes(4)), Flow(version=6, extensions=((60, bytes(6)),))]
)
def test_options_and_extension_headers_are_not_joined(flow: Flow) -> None:
    assert counts(join(make(flow))) == [1] * 10


def test_frames_without_payload_are_not_joined() -> None:
    assert counts(join([frames.build(BULK, b"")] * 10)) == [1] * 10
    short = [*make(BULK)[:9], frames.build(replace(BULK, seq=BULK.seq + 900, ident=10), b"")]
    assert counts(join(short)) == [9, 1]
