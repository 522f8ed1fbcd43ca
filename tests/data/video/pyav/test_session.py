"""Frames counted and given times."""

import av
import numpy as np
import pytest

from data.video import (
    Sampling,
    probe,
    read,
    read_sampled,
)
from data.video.pyav import container as container_module
from tests.helpers import clips


def test_a_frame_with_a_wrong_timestamp_is_noticed(clip_file, monkeypatch):
    """Were the index wrong, the full decode would be asked, not the index believed."""
    path = clip_file("h264_short_gop")
    expected = read(path, [20]).frames
    made = container_module.read_packet_index

    def wrong(*arguments):
        index = made(*arguments)
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
