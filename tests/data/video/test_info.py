"""The table and the JSON of what is known about a video file."""

import json
from typing import Any

import pytest

from data.video import describe, probe
from data.video.info import VARIES
from tests.helpers import clips


def test_the_table_has_a_line_for_each_property(clip_file):
    info = probe(clip_file("rotated_90"), decoders=())
    lines = {line[:10].strip(): line[11:] for line in describe(info).splitlines()}
    assert lines["video"] == "stream 0: h264, yuv420p, 8 bits"
    assert lines["size"].startswith("96x64, rotated by ")
    assert lines["frames"] == "40 shown; claimed by the header: 40; decodable: 40"
    assert lines["times"] == (
        "1.625 s from first to last frame, 24 frames per second, from timestamps"
    )
    assert lines["structure"].endswith("random access possible")
    assert lines["damage"] == "none found"


def test_notes_and_agreements_are_in_the_table(clip_file):
    text = describe(probe(clip_file("two_streams"), decoders=["decord"]))
    assert "\ndecord     " in text
    assert "\nnote       of 2 video streams FFmpeg's best, " in text


def test_json_has_everything_but_the_times(clip_file):
    info = probe(clip_file("h264_no_count"), decode=False)
    record = json.loads(json.dumps(info.to_json()))
    assert record["claimed_frames"] is None
    assert record["decodable_frames"] is None
    assert record["shown_frames"] == 40
    assert record["duration_seconds"] == info.pts_seconds[-1]
    assert "pts_seconds" not in record


@pytest.mark.parametrize(
    ("name", "condition"),
    [
        ("rotated_90", "turned by the rotation"),
        ("uneven_pixels", "pixels are not square"),
        ("h264_interlaced", "interlaced: "),
        ("h264_raw", "timestamps are no use: times are counted"),
        ("dropped_mjpeg_avi", "there are gaps in the times"),
        ("h264_no_b", "colour is not tagged: read as BT.601"),
    ],
)
def test_what_a_recording_is_like_is_said(name, condition, clip_file):
    info = probe(clip_file(name), decoders=())
    assert [found for found in info.conditions if found.startswith(condition)]
    assert info.to_json()["conditions"] == list(info.conditions)
    assert f"note       {condition}" in describe(info)


def test_a_rate_that_varies_is_said_and_a_steady_one_is_not(tmp_path):
    ticks = [*range(0, 40, 2), *range(40, 60)]  # half as fast at first
    uneven = clips.encode(tmp_path / "uneven.mkv", pts=ticks, options={"bf": "0"})
    assert VARIES in probe(uneven, decode=False).conditions
    assert f"note       {VARIES}" in describe(probe(uneven, decode=False))
    assert VARIES not in probe(clips.encode(tmp_path / "even.mkv"), decode=False).conditions


def test_colour_tags_and_high_dynamic_range(clip_file, tmp_path):
    def tag(stream: Any) -> None:
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = 9, 9, 16

    path = clips.encode(tmp_path / "hdr.mp4", pixels="yuv420p10le", options=clips.X264, setup=tag)
    for decode in (False, True):
        info = probe(path, decode=decode, decoders=())
        assert info.bit_depth == 10
        tags = {"matrix": "bt2020nc", "primaries": "bt2020", "transfer": "smpte2084"}
        assert {name: info.colour[name] for name in tags} == tags
        assert info.conditions == ("high dynamic range (PQ): shown without tone mapping",)
        assert "matrix bt2020nc, primaries bt2020, transfer smpte2084, range " in describe(info)
    assert probe(clip_file("gif"), decoders=()).conditions == ()


def test_what_was_not_checked_is_said(clip_file):
    info = probe(clip_file("h264_no_b"), decode=False)
    assert info.notes == (
        "not decoded: damage inside frames, and whether other decoders agree, are unknown (--full)",
    )
    info = probe(clip_file("apng_alpha"), decode=False)
    assert info.notes[-1] == "how many frames it shows is known after decoding it (--full)"
