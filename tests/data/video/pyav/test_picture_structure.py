"""Frames and fields: what parameter sets and slice headers tell, and what is read at random."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.video import Limits, VideoError, read
from data.video.pyav import DecodeSession, open_video, packet_index, session
from data.video.pyav.nal_units import PacketBytes, nal_units
from data.video.pyav.packets import parser_for
from data.video.pyav.picture_structure import (
    BOTH_FIELDS,
    BOTTOM_FIELD,
    FRAME,
    TOP_FIELD,
    UNKNOWN,
    FrameCoding,
    frame_coding,
    picture_order,
    second_fields,
)
from data.video.pyav.sequential import decode_fully
from tests.helpers import recordings
from tests.helpers.clips import X264, encode
from tests.helpers.decoding import sequential


def session_of(path) -> DecodeSession:
    opened = open_video(path, limits=Limits(), threads=2, quick=True)
    return DecodeSession(opened, accept_damaged=False)


@pytest.mark.parametrize(
    "name",
    ["h264_interlaced", "h264_mbaff_transport", "mpeg4_interlaced", "mpeg2_interlaced"],
)
def test_interlaced_frames_are_found_without_decoding_everything(name, clip_file):
    session = session_of(clip_file(name))
    assert session.container.packet_index.whole
    frames = session.frames(np.array([31, 2, 17]))
    assert session.facts.interlaced
    assert session.random_access
    assert session.full is None
    assert session.pts() == decode_fully(session.container, strict=True).pts
    for index, frame in zip((31, 2, 17), frames, strict=True):
        np.testing.assert_array_equal(read(clip_file(name), np.arange(40)).frames[index], frame)


@pytest.mark.parametrize("name", ["h264_paff", "h264_paff_transport"])
def test_two_packets_of_fields_are_one_frame(name, clip_file, monkeypatch):
    whole, _, _ = sequential(clip_file(name))
    monkeypatch.setattr(session, "decode_fully", lambda *given, **named: pytest.fail("whole"))
    read_by = session_of(clip_file(name))
    index = read_by.container.packet_index
    assert index.second.tolist() == [False, True] * 24
    assert index.whole
    wanted = np.array([23, 0, 7, 8])
    np.testing.assert_array_equal(read_by.frames(wanted), np.stack(whole)[wanted])
    assert read_by.facts.interlaced
    numbers, frames = zip(*read_by.stream(np.arange(2, 24, 5)), strict=True)
    np.testing.assert_array_equal(np.stack(frames), np.stack(whole)[list(numbers)])
    assert read_by.info().longest_gop == 24


FIELDS = [name for name in recordings.RECORDINGS if name.startswith("fields_")]


@pytest.mark.parametrize("name", FIELDS)
def test_fields_are_read_at_random_as_a_decode_from_the_start_shows_them(
    name, clip_file, monkeypatch
):
    whole, _, _ = sequential(clip_file(name))
    assert len(whole) == 27
    assert len({frame.tobytes() for frame in whole}) > 20
    monkeypatch.setattr(session, "decode_fully", lambda *given, **named: pytest.fail("whole"))
    for wanted in ([26], [3], [0], [25, 1, 13, 12], range(27)):
        read_by = session_of(clip_file(name))
        frames = read_by.frames(np.array(wanted))
        np.testing.assert_array_equal(frames, np.stack([whole[index] for index in wanted]))
        assert (read_by.shown_frames, read_by.random_access) == (27, True)
    numbers, frames = zip(*read_by.stream(np.arange(2, 27, 7)), strict=True)
    np.testing.assert_array_equal(np.stack(frames), np.stack([whole[n] for n in numbers]))


@pytest.mark.parametrize("name", ["fields_h264", "fields_h264_ts", "fields_mpeg2"])
def test_a_damaged_field_is_noticed(name, clip_file, tmp_path):
    """Whichever of the two of a frame it is."""
    data = clip_file(name).read_bytes()
    slices = [found.end() for found in re.finditer(b"\0\0\1[\x41\x61\2]", data)]
    path = tmp_path / clip_file(name).name
    for place in (slices[9], slices[10]):
        spoilt = bytearray(data)
        spoilt[place + 1 : place + 9] = b"\1" * 8
        path.write_bytes(spoilt)
        with pytest.raises(VideoError, match="damaged"):
            session_of(path).frames(np.arange(27))


def test_a_frame_of_which_a_field_is_cut_off_is_left_out(clip_file, tmp_path):
    whole, _, _ = sequential(clip_file("fields_h264_ts"))
    path = recordings.cut_in_last_frame(clip_file("fields_h264_ts"), tmp_path / "cut.ts")
    with open_video(path, limits=Limits(), quick=True) as opened:
        read_by = DecodeSession(opened, accept_damaged=False)
        np.testing.assert_array_equal(read_by.frames(np.arange(25)), np.stack(whole[:25]))
        assert "its last frame is cut off, and left out" in read_by.info().notes


def test_what_parameter_sets_tell(clip_file):
    codings = {}
    for name in ("h264_short_gop", "h264_transport", "h264_interlaced", "h264_mbaff_transport"):
        with open_video(clip_file(name), limits=Limits(), quick=True) as container:
            codings[name] = frame_coding(container.stream.codec_context.extradata)
    assert codings["h264_short_gop"].frames_only
    assert codings["h264_transport"].frames_only
    assert not codings["h264_interlaced"].frames_only
    assert not codings["h264_mbaff_transport"].frames_only
    assert frame_coding(b"") is None
    assert frame_coding(b"\1\x64\0\x1f\xff\xe1\0\x05\x67\x64") is None
    one, other = b"\x67\x42\0\x1e\xda\x02\x80\xf6\x80", b"\x67\x42\0\x1e\xd9\x02\x80\xf6\x80"
    assert frame_coding(b"\0\0\1" + one) == frame_coding(b"\0\0\1" + one + b"\0\0\1" + one)
    assert frame_coding(b"\0\0\1" + one + b"\0\0\1" + other) is None


def pictures_of(coding: FrameCoding, *units: bytes) -> tuple[list[int], list[int], list[int]]:
    """Return structure, number and count of a packet of each of `units`."""
    packets = [b"\0\0\1" + unit for unit in units]
    together = PacketBytes.joined(b"".join(packets), [len(packet) for packet in packets])
    found = coding.pictures(together, nal_units(together, 0))
    return found.structure.tolist(), found.number.tolist(), found.low.tolist()


def header(*bits: str) -> bytes:
    """Return the NAL unit of a slice, escaped, and with what follows its header."""
    text = "".join(bits) + "1" + "10" * 40
    plain = int(text[: len(text) // 8 * 8], 2).to_bytes(len(text) // 8, "big")
    return b"\x41" + re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", plain)


def test_the_flags_of_a_field_come_after_the_number_of_its_frame():
    coding = FrameCoding(frames_only=False, frame_number_bits=16, planes=True, order_bits=6)
    # Codes of 1, 1 and 11 bits, the plane, the frame's number, which takes an escape, then flags.
    start = "1" + "1" + "00000100000" + "00"
    frame = header(start, "0" * 13 + "101", "0", "000011")
    top, bottom = (header(start, "0" * 16, "1", parity, "000111") for parity in "01")
    assert b"\0\0\3" in top
    found = pictures_of(coding, frame, top, bottom, b"\x41", b"\x09\xf0")
    assert found[0] == [FRAME, TOP_FIELD, BOTTOM_FIELD, UNKNOWN, UNKNOWN]
    assert found[1][:3] == [5, 0, 0]
    assert found[2] == [3, 7, 7, -1, -1]
    only = FrameCoding(frames_only=True, frame_number_bits=4, planes=False)
    assert pictures_of(only, b"\x41")[0] == [FRAME]


def test_both_fields_of_a_frame_in_one_packet_and_other_pairs():
    coding = FrameCoding(frames_only=False, frame_number_bits=4, planes=False)

    def field(number: int, bottom: int, first: str = "1") -> bytes:
        return header(first, "1", "1", f"{number:04b}", "1", str(bottom))

    more = field(3, 0, first="010")  # a slice further down in the picture
    code = b"\0\0\1"
    pairs = {
        field(3, 0) + code + more + code + field(3, 1): BOTH_FIELDS,
        field(3, 1) + code + field(3, 0): BOTH_FIELDS,
        field(3, 0) + code + field(3, 0): UNKNOWN,
        field(3, 0) + code + field(4, 1): UNKNOWN,
        field(3, 0) + code + field(3, 1) + code + field(3, 0): UNKNOWN,
        field(3, 0) + code + more: TOP_FIELD,
    }
    assert pictures_of(coding, *pairs)[0] == list(pairs.values())


@pytest.mark.parametrize(
    ("structure", "number", "second"),
    [
        ([3, 1, 2, 2, 1, 3], [0, 1, 1, 2, 2, 3], [0, 0, 1, 0, 1, 0]),
        ([3, 3], [0, 1], [0, 0]),
        ([4, 3, 1, 2], [0, 1, 2, 2], [0, 0, 0, 1]),
        ([1, 2, 1], [0, 0, 1], None),  # the last one is alone
        ([1, 1, 2, 2], [0, 0, 0, 0], None),
        ([1, 3, 2], [0, 0, 0], None),
        ([1, 2], [0, 1], None),
        ([3, 0], [0, 1], None),
    ],
)
def test_which_fields_complete_a_frame(structure, number, second):
    found = second_fields(np.array(structure, np.int8), np.array(number, np.uint8))
    assert (None if found is None else found.astype(int).tolist()) == second


def test_groups_with_a_time_of_their_own_keep_random_access(clip_file):
    """MPEG-4 in AVI has the time of day before each group, which is no parameter."""
    session = session_of(clip_file("mpeg4_avi"))
    assert session.random_access
    frames = session.frames(np.array([30, 3]))
    assert session.full is None
    everything = read(clip_file("mpeg4_avi"), np.arange(40)).frames
    np.testing.assert_array_equal(frames, everything[[30, 3]])


PACKED = [name for name in recordings.RECORDINGS if name.startswith("packed_")]


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("name", PACKED)
def test_packed_pictures_are_read_at_random(name, again, clip_file, monkeypatch):
    """Each frame alone, as FFmpeg's decode of the packets as they are, and of those not packed."""
    path = clip_file(name)
    whole, times, _ = sequential(path)
    plain, _, _ = sequential(path.with_suffix(f".plain{path.suffix}"))
    np.testing.assert_array_equal(whole, plain[-len(whole) :])
    monkeypatch.setattr(session, "decode_fully", lambda *given, **named: pytest.fail("whole"))
    if again:  # from the file, since packets do not fit into memory
        monkeypatch.setattr(packet_index, "MAX_PACKETS", 5)
    read_by = session_of(path)
    assert read_by.random_access
    assert (read_by.container.packet_index.packets is None) == again
    assert read_by.pts() == times
    for index in np.random.default_rng(0).permutation(len(whole)):
        np.testing.assert_array_equal(read_by.frames(np.array([index]))[0], whole[index])
    indices = np.arange(3, len(whole), 4)
    for index, frame in read_by.stream(indices):
        np.testing.assert_array_equal(frame, whole[index])


def _late_headers(contents: list[bytes]) -> None:
    """Say that nothing is packed from the third group on."""
    group = [n for n, content in enumerate(contents) if b"DivX" in content][2]
    contents[group] = contents[group].replace(b"1393p", b"1393n")


def _one_missing(contents: list[bytes]) -> None:
    contents[4] = contents[3]


def _three(contents: list[bytes]) -> None:
    contents[3] += contents[1][contents[1].rindex(recordings.VOP) :]


def _headers_while_one_waits(contents: list[bytes]) -> None:
    contents[2] = contents[0][: contents[0].index(recordings.VOP)] + contents[2]


def _no_delay(contents: list[bytes]) -> None:
    """Say Simple in place of Advanced Simple, and nothing of delay."""
    for number, content in enumerate(contents):
        if (at := content.find(b"\0\0\1\x20")) >= 0:
            end = content.index(b"\0\0\1", at + 4)
            bits = "".join(f"{byte:08b}" for byte in content[at + 4 : end])
            assert bits[:22] == "0" + f"{17:08b}" + "1" + "0101001" + "0001" + "1"
            bits = "0" + f"{1:08b}" + bits[9:21] + "0" + bits[26:]
            changed = int(bits + "1111", 2).to_bytes(end - at - 4, "big")
            contents[number] = content[: at + 4] + changed + content[end:]


@pytest.mark.parametrize(
    "edit", [_late_headers, _one_missing, _three, _headers_while_one_waits, _no_delay]
)
def test_what_a_decoder_may_not_show_of_packed_pictures_is_decoded_whole(edit, tmp_path):
    path = tmp_path / "clip.avi"
    recordings.packed(path, edit=edit, options={"g": "12", "bf": "1"})
    whole, _, _ = sequential(path)
    with open_video(path, limits=Limits(), threads=1, quick=True) as opened:
        assert opened.packet_index.doubt == "packets that may not be one frame each"
        decoded = DecodeSession(opened, accept_damaged=True)
        np.testing.assert_array_equal(decoded.frames(np.arange(len(whole))), whole)


def test_user_data_that_do_not_say_packed_are_believed(tmp_path):
    path = tmp_path / "clip.avi"
    recordings.packed(path, said=b"DivX503b1393", options={"g": "12", "bf": "1"})
    whole, _, _ = sequential(path)
    assert len(whole) < 40
    frames = read(path, np.arange(len(whole)), accept_damaged=True).frames
    np.testing.assert_array_equal(frames, whole)


# The order of pictures whose times do not tell it: as a decode from the start shows them.
LONG = X264 | {"g": "12", "bf": "3", "b-pyramid": "normal", "refs": "4"}
X265 = "log-level=none:pools=1:keyint=12:min-keyint=12"
RECORDINGS = {
    "groups.avi": LONG,
    "groups.h264": LONG,
    "open.avi": LONG | {"x264-params": "open-gop=1"},
    "one_group.avi": LONG | {"g": "600"},
    "interlaced.avi": LONG | {"flags": "+ildct+ilme"},
    "in_order.h264": X264 | {"bf": "0"},
    "closed.hevc": {"x265-params": f"{X265}:open-gop=0"},
    "open.hevc": {"x265-params": f"{X265}:open-gop=1:b-pyramid=1:bframes=8"},
    "interlaced.hevc": {"x265-params": f"{X265}:interlace=tff:temporal-layers=1"},
}


def recorded(path: Path, **options: Any) -> Path:
    codec = "libx265" if path.suffix == ".hevc" else "libx264"
    return encode(path, codec=codec, options=RECORDINGS[path.name], **options)


@pytest.mark.parametrize("name", RECORDINGS)
def test_frames_and_times_are_those_of_a_whole_decode(name, tmp_path, monkeypatch):
    path = recorded(tmp_path / name, frames=150)
    indices = np.array([149, 3, 70, 11, 12, 13, 148, 0], np.int64)
    with open_video(path, limits=Limits(), threads=1, quick=True) as opened:
        whole = DecodeSession(opened, accept_damaged=True)
        assert whole.full is not None
        assert not whole.mismatch
        monkeypatch.setattr(whole, "mismatch", "decoded whole")
        expected = whole.frames(indices), whole.pts(), whole.times()
    monkeypatch.setattr(session, "decode_fully", lambda *given, **named: pytest.fail("whole"))
    with open_video(path, limits=Limits(), threads=1, quick=True) as opened:
        decoded = DecodeSession(opened, accept_damaged=False)
        assert decoded.random_access
        np.testing.assert_array_equal(decoded.frames(indices), expected[0])
        assert decoded.pts() == expected[1]
        np.testing.assert_array_equal(decoded.times()[0], expected[2][0])
        assert decoded.times()[1] == expected[2][1]


def test_a_damaged_frame_is_noticed(tmp_path):
    path = encode(tmp_path / "groups.avi", frames=60, options=LONG)
    data = bytearray(path.read_bytes())
    keyframe = data.index(b"\0\0\1\x65", len(data) // 2)
    data[keyframe + 40 : keyframe + 200] = bytes(range(160))
    path.write_bytes(data)
    with (
        open_video(path, limits=Limits(), threads=1, quick=True) as opened,
        pytest.raises(VideoError, match="damaged"),
    ):
        DecodeSession(opened, accept_damaged=False).frames(np.arange(60))


def test_packets_without_a_picture_and_places_that_are_taken_have_no_order(clip_file):
    with open_video(clip_file("h264_raw"), limits=Limits(), quick=True) as opened:
        extradata = opened.stream.codec_context.extradata
        packets = [bytes(packet) for packet in opened.packets()]

    def order(packets: list[bytes], extradata: bytes):
        together = PacketBytes.joined(b"".join(packets), [len(packet) for packet in packets])
        counts = parser_for("h264", extradata, counts=True)(together).counts
        return counts and picture_order(counts, np.zeros(len(packets), bool))

    assert sorted(order(packets, extradata).tolist()) == list(range(40))
    assert order([*packets, b"\0\0\1\x09\xf0"], extradata) is None
    assert order([*packets, packets[-1]], extradata) is None
    assert order(packets, b"") is None


def test_a_stream_of_frames_is_in_the_order_of_pictures(tmp_path, monkeypatch):
    path = encode(tmp_path / "groups.avi", frames=60, options=LONG)
    monkeypatch.setattr(session, "decode_fully", lambda *given, **named: pytest.fail("whole"))
    indices = np.arange(5, 50, 3)
    with open_video(path, limits=Limits(), threads=1, quick=True) as opened:
        decoded = DecodeSession(opened, accept_damaged=False)
        numbers, frames = zip(*decoded.stream(indices), strict=True)
        assert list(numbers) == indices.tolist()
        np.testing.assert_array_equal(np.stack(frames), decoded.frames(indices))


@pytest.mark.parametrize("name", ["fields_h264", "fields_h264_ts", "fields_mpeg2_ts"])
def test_fields_of_long_files_are_read_again(name, clip_file, monkeypatch):
    """Their packets are not kept in memory."""
    whole, _, _ = sequential(clip_file(name))
    monkeypatch.setattr(packet_index, "MAX_PACKETS", 5)
    monkeypatch.setattr(session, "decode_fully", lambda *given, **named: pytest.fail("whole"))
    read_by = session_of(clip_file(name))
    assert read_by.container.packet_index.packets is None
    for wanted in ([26], [13, 2], range(27)):
        frames = read_by.frames(np.array(wanted))
        np.testing.assert_array_equal(frames, np.stack([whole[index] for index in wanted]))
    numbers, frames = zip(*read_by.stream(np.arange(1, 27, 4)), strict=True)
    np.testing.assert_array_equal(np.stack(frames), np.stack([whole[n] for n in numbers]))
