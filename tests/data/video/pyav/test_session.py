"""Frames counted and given times."""

import av
import numpy as np
import pytest

from data.video import (
    Limits,
    Sampling,
    VideoError,
    probe,
    read,
    read_sampled,
)
from data.video.pyav import container as container_module
from tests.helpers import clips, recordings
from tests.helpers.decoding import sequential


def test_a_frame_with_a_wrong_timestamp_is_noticed(clip_file, monkeypatch):
    """Were the index wrong, the full decode would be asked, not the index believed."""
    path = clip_file("h264_short_gop")
    expected = read(path, [20]).frames
    made = container_module.read_packet_index

    def wrong(*arguments, **options):
        index = made(*arguments, **options)
        index.entry[20] = 2  # a packet in the middle of a group, said to be a start
        return index

    monkeypatch.setattr(container_module, "read_packet_index", wrong)
    np.testing.assert_array_equal(read(path, [20]).frames, expected)


def test_times_follow_the_timestamps_of_a_variable_rate(clip_file):
    info = probe(clip_file("h264_vfr"), decoders=())
    np.testing.assert_allclose(info.pts_seconds, np.array(clips.vfr_ticks(40)) / 90, atol=1e-4)
    assert info.times_from == "timestamps"


def test_negative_times_count_from_the_first_shown_frame(clip_file):
    info = probe(clip_file("h264_negative_times"), decoders=())
    assert info.pts_seconds[0] == 0
    assert (np.diff(info.pts_seconds) > 0).all()


def test_without_timestamps_times_are_counted_and_say_so(clip_file):
    info = probe(clip_file("h264_raw"), decoders=())
    assert info.times_from == "counted at 25 per second"
    np.testing.assert_allclose(np.diff(info.pts_seconds), 1 / 25)


def test_edit_lists_are_honoured(clip_file):
    batch, info = read_sampled(clip_file("edit_list"), Sampling(frames=2))
    assert (info.claimed_frames, info.shown_frames) == (120, 50)
    assert info.damage == ()
    whole = read(clips.without_change(clip_file("edit_list")), [30, 79])
    np.testing.assert_array_equal(batch.frames, whole.frames)
    assert batch.pts_seconds[0] == 0


@pytest.mark.parametrize("missing", [False, True])
def test_duplicate_and_missing_timestamps(missing, clip_file, tmp_path):
    earlier = []

    def change(n, packet):
        earlier.append(packet.pts)
        if n == 7:
            packet.pts = packet.dts = earlier[6]
        return True

    source = clip_file("h264_no_b")
    if missing:
        path = clip_file("h264_raw")
    else:
        path = clips.remuxed(source, tmp_path / "twice.mkv", change=change)
    with av.open(str(path)) as opened:
        reference = [frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)]
    assert len(reference) == 40
    batch, info = read_sampled(path, Sampling(frames=40))
    np.testing.assert_array_equal(batch.frames, np.stack(reference))
    assert (np.diff(batch.pts_seconds) >= 0).all()
    assert any("timestamp" in note for note in info.notes)


CUT = {
    "h264.ts": {"options": clips.X264 | {"g": "12"}},
    "mpeg2.ts": recordings.MPEG2,
    "hevc.ts": {"codec": "libx265", "options": {"x265-params": "log-level=none:bframes=0"}},
    "mpeg2.mpg": recordings.MPEG2,
    "h264.flv": {"options": clips.X264 | {"g": "12"}},
    "vp8.ivf": recordings.VP8,
    "mpeg4.nut": {"codec": "mpeg4"},
    "raw.h264": {"options": clips.X264 | {"g": "12", "bf": "0"}},
    "raw.m2v": recordings.MPEG2,
    "raw.hevc": {"codec": "libx265", "options": {"x265-params": "log-level=none:bframes=0"}},
    "raw.mjpeg": {"codec": "mjpeg", "pixels": "yuvj420p", "format": "mjpeg"},
}


@pytest.mark.parametrize("name", CUT)
def test_a_frame_that_was_cut_off_is_left_out(name, tmp_path):
    """Whatever is asked for: the frames that are counted are the whole ones."""
    whole = clips.encode(tmp_path / name, rate=25, size=(320, 240), **CUT[name])
    path = recordings.cut_in_last_frame(whole, tmp_path / f"cut_{name}")
    frames, pts, _ = sequential(whole)
    with av.open(str(path)) as opened:
        *there, _ = [packet.pts for packet in opened.demux(video=0) if packet.size]
    count = len(there)
    assert 36 <= count <= 39
    if None not in there:
        frames = [frame for frame, time in zip(frames, pts, strict=True) if time in there]
    for sampling in (Sampling(frames=count), Sampling(name="middle", frames=1)):
        batch, info = read_sampled(path, sampling)
        assert (info.shown_frames, info.damage) == (count, ())
        assert "its last frame is cut off, and left out" in info.notes
        for index, frame in zip(batch.index, batch.frames, strict=True):
            np.testing.assert_array_equal(frame, frames[index])
    with pytest.raises(VideoError, match=f"no frame {count}: it shows {count}"):
        read(path, [count])


def test_a_fault_before_the_end_is_damage_and_not_a_cut(tmp_path):
    whole = clips.encode(tmp_path / "a.ts", rate=25, size=(320, 240), options=clips.X264)
    data = bytearray(whole.read_bytes())
    for at in range(len(data) // 2, len(data) // 2 + 20 * 188, 188):
        data[at + 60 : at + 80] = bytes(20)
    path = tmp_path / "b.ts"
    path.write_bytes(data)
    with pytest.raises(VideoError, match="damaged: 40 are presented"):
        read_sampled(path, Sampling(frames=8))


def test_frames_that_last_no_time_are_counted(clip_file):
    """FFmpeg shows those that its reading of the edit list leaves; the note says so."""
    info = probe(clip_file("no_durations_mp4"), decoders=())
    assert info.shown_frames == 50
    assert info.times_from.startswith("counted at ")
    assert (np.diff(info.pts_seconds) > 0).all()
    info = probe(clip_file("no_durations_reordered_mp4"), decoders=())
    assert info.shown_frames < 50
    assert f"header claims 50 frames, {info.shown_frames} are shown" in info.notes


def test_times_go_on_where_the_clock_goes_back(clip_file):
    info = probe(clip_file("restarted_twice_mpeg2_ts"), decoders=())
    np.testing.assert_allclose(info.pts_seconds, np.arange(75) / 25, atol=1e-4)
    assert info.times_from == "timestamps of 3 parts"
    assert info.notes[:2] == (
        "3 transport streams are joined",
        "its clock goes back at frame 25, 50: from there times go on",
    )
    batch, _ = read_sampled(clip_file("restarted_ts"), Sampling(frames=4), start=1.0, end=1.2)
    assert batch.index.tolist() == [25, 26, 27, 29]


def test_a_wrapped_clock_that_started_anew_does_not_last_a_day(clip_file):
    info = probe(clip_file("restarted_from_an_hour_ts"), decoders=())
    assert info.duration_seconds == pytest.approx(1.96)
    limits = Limits(seconds=3)
    assert len(read(clip_file("restarted_from_an_hour_ts"), [49], limits=limits)) == 1


@pytest.mark.parametrize("name", ["late_h264_ts", "late_mpeg2_ts", "late_mpeg2_mpg"])
def test_a_recording_that_began_in_mid_group_is_counted_from_its_first_shown_frame(name, clip_file):
    info = probe(clip_file(name), decoders=())
    assert info.damage == ()
    assert any("pictures need earlier ones, and are not shown" in note for note in info.notes)


def test_a_first_keyframe_that_is_none_is_damage(clip_file, tmp_path):
    """The container begins with one."""

    path = clip_file("h264_short_gop")
    with av.open(str(path)) as opened:
        first = next(packet for packet in opened.demux(video=0))
        at, end = first.pos, first.pos + first.size

    def spoil(data: bytearray) -> None:
        unit = at
        while unit < end:
            data[unit + 4] = {0x65: 0x41}.get(data[unit + 4], data[unit + 4])
            unit += 4 + int.from_bytes(data[unit : unit + 4], "big")

    spoilt = clips.patched(path, tmp_path / "a.mp4", spoil)
    with pytest.raises(VideoError, match="damaged: header claims 60 frames, 60 are presented"):
        read(spoilt, [0])


def test_frames_that_are_lost_in_a_later_part_are_damage(tmp_path):
    """They have the times of frames of the first part, and are no pictures at its start."""
    whole = clips.encode(tmp_path / "a.ts", rate=25, options=clips.X264 | {"g": "20"})
    late = clips.remuxed(whole, tmp_path / "b.ts", change=lambda n, _: n >= 25)
    path = tmp_path / "c.ts"
    path.write_bytes(whole.read_bytes() + late.read_bytes())
    with pytest.raises(VideoError, match=r"damaged: .* frames do not decode"):
        read(path, [0])
