"""Frames and fields: what parameter sets and slice headers tell, and what is read at random."""

import numpy as np
import pytest

from data.video import Limits, read
from data.video.pyav import DecodeSession, open_video
from data.video.pyav.picture_structure import FrameCoding, frame_coding
from data.video.pyav.sequential import decode_fully


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
