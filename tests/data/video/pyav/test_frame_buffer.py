"""Rotation and size of decoded frames."""

from fractions import Fraction

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
from data.video.pyav.frame_buffer import FrameBuffer
from tests.helpers import clips


def test_frames_are_rotated_as_the_display_matrix_says(clip_file):
    for name, turns in (("rotated_90", 1), ("rotated_180", 2), ("rotated_270", 3)):
        upright = read(clips.without_change(clip_file(name)), [3]).frames[0]
        assert upright.shape == (64, 96, 3)
        np.testing.assert_array_equal(
            read(clip_file(name), [3]).frames[0], np.rot90(upright, turns)
        )
        assert probe(clip_file(name), decoders=()).rotation in (90 * turns, 90 * turns - 360, -180)


@pytest.mark.parametrize("ending", ["h264", "ts", "mkv", "mp4"])
def test_a_change_of_size_in_mid_stream(ending, tmp_path):
    parts = [
        clips.encode(tmp_path / f"{n}.h264", size=size, frames=12, options={"bf": "0"})
        for n, size in enumerate([(96, 64), (64, 48)])
    ]
    path = tmp_path / "changes.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))

    def stamp(n, packet):
        packet.time_base, packet.pts, packet.dts = Fraction(1, 1000), 40 * n, 40 * n
        return True

    if ending != "h264":
        path = clips.remuxed(path, tmp_path / f"changes.{ending}", change=stamp)
    words = "its frame size changes from 96x64 to 64x48 in mid-stream"
    with pytest.raises(VideoError, match=f"changes.{ending}: {words}$"):
        read_sampled(path, Sampling(frames=8))
    before = read_sampled(path, Sampling(frames=4), end=0.4)[0]
    assert before.frames.shape == (4, 64, 96, 3)


def test_frames_of_another_shape_than_the_header_says_are_refused_too(tmp_path):
    buffer = FrameBuffer(tmp_path / "x.avi", np.arange(8), limits=Limits())
    with pytest.raises(VideoError, match=r"x\.avi: its frames of 65535x1 are 65,535 times as long"):
        buffer.store(0, np.empty((1, 65_535, 3), np.uint8))
    assert buffer.frames is None


def test_a_rotation_by_another_angle_is_refused(tmp_path):
    path = clips.encode(
        tmp_path / "askew.mp4", setup=lambda stream: stream.set_display_rotation(33)
    )
    with pytest.raises(VideoError, match="no multiple of 90 degrees"):
        read(path, [0])
