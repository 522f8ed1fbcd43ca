"""Frames and fields: what parameter sets and slice headers tell, and what is read at random."""

import numpy as np
import pytest

from data.video import Limits, VideoError, read
from data.video.pyav import DecodeSession, open_video, session
from data.video.pyav.picture_structure import FrameCoding, frame_coding, picture_order
from data.video.pyav.sequential import decode_fully
from tests.helpers.clips import X264, encode


def session_of(path) -> DecodeSession:
    return DecodeSession(open_video(path, limits=Limits(), quick=True), accept_damaged=False)


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
def test_fields_are_no_frames(name, clip_file):
    with open_video(clip_file(name), limits=Limits(), quick=True) as container:
        assert not container.packet_index.whole


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


@pytest.mark.parametrize("escaped", [False, True])
def test_the_flag_of_a_field_comes_after_the_number_of_its_frame(escaped):
    bits = 16 if escaped else 4
    coding = FrameCoding(frames_only=False, frame_number_bits=bits, planes=False)
    for field in (0, 1):
        # first_mb 0, type 0, parameter set 0, then 0 as the frame's number
        text = ("111" + "0" * bits + str(field) + "1").ljust(32, "0")
        data = b"\x41" + int(text, 2).to_bytes(4, "big")
        if escaped:
            data = b"\x41" + bytes(8) + b"\0"  # no code ends
            assert not coding.is_frame(data)
            continue
        assert coding.is_frame(data) == (not field)
    assert not coding.is_frame(b"\x41")
    assert FrameCoding(frames_only=True, frame_number_bits=4, planes=False).is_frame(b"\x41")


def test_escapes_before_the_flag_are_taken_out():
    """Eight bits, then 0 0 3 stands for 0 0."""
    coding = FrameCoding(frames_only=False, frame_number_bits=16, planes=True)
    for field in (0, 1):
        # Codes of 1, 1 and 9 bits leave 5 of the second byte.
        text = "1" + "1" + "000010000" + "00" + "0" * 16 + str(field) + "1"
        plain = int(text.ljust(40, "0"), 2).to_bytes(5, "big")
        escaped = plain.replace(b"\0\0", b"\0\0\3")
        assert (b"\0\0" in plain) == (escaped != plain)
        assert coding.is_frame(b"\x41" + escaped) == (not field)


def test_groups_with_a_time_of_their_own_keep_random_access(clip_file):
    """MPEG-4 in AVI has the time of day before each group, which is no parameter."""
    session = session_of(clip_file("mpeg4_avi"))
    assert session.random_access
    frames = session.frames(np.array([30, 3]))
    assert session.full is None
    everything = read(clip_file("mpeg4_avi"), np.arange(40)).frames
    np.testing.assert_array_equal(frames, everything[[30, 3]])


# The order of pictures whose times do not tell it: as a decode from the start shows them.
LONG = X264 | {"g": "12", "bf": "3", "b-pyramid": "normal", "refs": "4"}
RECORDINGS = {
    "groups.avi": LONG,
    "groups.h264": LONG,
    "open.avi": LONG | {"x264-params": "open-gop=1"},
    "one_group.avi": LONG | {"g": "600"},
    "interlaced.avi": LONG | {"flags": "+ildct+ilme"},
    "in_order.h264": X264 | {"bf": "0"},
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_frames_and_times_are_those_of_a_whole_decode(name, tmp_path, monkeypatch):
    path = encode(tmp_path / name, frames=150, options=RECORDINGS[name])
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


def test_fields_and_packets_without_a_picture_have_no_order(clip_file):
    with open_video(clip_file("h264_paff"), limits=Limits(), quick=True) as opened:
        assert opened.packet_index.rank is None
    with open_video(clip_file("h264_raw"), limits=Limits(), quick=True) as opened:
        extradata = opened.stream.codec_context.extradata
        packets = [bytes(packet) for packet in opened.packets()]
    order = picture_order(packets, extradata)
    assert sorted(order.tolist()) == list(range(40))
    assert picture_order([*packets, b"\0\0\1\x09\xf0"], extradata) is None
    assert picture_order([*packets, packets[-1]], extradata) is None
    assert picture_order(packets, b"") is None


def test_a_stream_of_frames_is_in_the_order_of_pictures(tmp_path, monkeypatch):
    path = encode(tmp_path / "groups.avi", frames=60, options=LONG)
    monkeypatch.setattr(session, "decode_fully", lambda *given, **named: pytest.fail("whole"))
    indices = np.arange(5, 50, 3)
    with open_video(path, limits=Limits(), threads=1, quick=True) as opened:
        decoded = DecodeSession(opened, accept_damaged=False)
        numbers, frames = zip(*decoded.stream(indices), strict=True)
        assert list(numbers) == indices.tolist()
        np.testing.assert_array_equal(np.stack(frames), decoded.frames(indices))
