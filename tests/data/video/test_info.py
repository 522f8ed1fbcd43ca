"""The table and the JSON of what is known about a video file."""

import json

from data.video import describe, probe


def test_the_table_has_a_line_for_each_property(clip_file):
    info = probe(clip_file("rotated_90"), decoders=())
    lines = {line[:10].strip(): line[11:] for line in describe(info).splitlines()}
    assert lines["video"] == "stream 0: h264, yuv420p"
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
