"""decord: the fast path for plain clips, and what it refuses."""

import numpy as np
import pytest

from data.video import (
    CannotAgree,
    Sampling,
    read,
    read_sampled,
)
from data.video.backends import crosscheck


def test_decord_is_the_fast_path_for_plain_clips(clip_file):
    """The rows of frames of this width need no padding, whatever the CPU's vectors."""
    pytest.importorskip("decord")
    _, info = read_sampled(clip_file("h264_128_wide"), Sampling(frames=4), decoder="decord")
    assert info.decoder == "decord"
    assert info.notes == ()


def test_frames_that_decord_cannot_return_are_read_by_the_reference(clip_file):
    """Rows of two pixels are padded on every CPU, those of 96 pixels on one with AVX-512."""
    pytest.importorskip("decord")
    path = clip_file("h264_2x2")
    batch, info = read_sampled(path, Sampling(frames=4), decoder="decord")
    assert info.decoder == "pyav"
    assert info.notes[0].startswith(
        "read by pyav: decord fails: Check failed: from_size == to_size"
    )
    np.testing.assert_array_equal(batch.frames, read_sampled(path, Sampling(frames=4))[0].frames)
    path = clip_file("h264_short_gop")
    batch, info = read_sampled(path, Sampling(frames=4), decoder="decord")
    reference = read_sampled(path, Sampling(frames=4))[0].frames.astype(int)
    assert np.abs(batch.frames - reference).max() <= 2
    if info.decoder == "pyav":
        assert info.notes[0].startswith("read by pyav: decord fails: Check failed: from_size")


def test_the_error_of_decord_is_the_same_each_time(clip_file):
    """Its messages begin with the time of day, and caches store notes."""
    pytest.importorskip("decord")
    with pytest.raises(CannotAgree, match=r"decord fails: Check failed: from_size == to_size"):
        read(clip_file("h264_2x2"), [0], decoder="decord")


def test_decord_is_asked_for_growing_indices(clip_file, monkeypatch):
    """Of others some versions return other frames than are asked; the caller's order is kept."""
    decord, asked = pytest.importorskip("decord"), []
    whole = decord.VideoReader.get_batch

    def get_batch(self, indices):
        asked.append(list(indices))
        return whole(self, indices)

    monkeypatch.setattr(decord.VideoReader, "get_batch", get_batch)
    path, wanted = clip_file("h264_128_wide"), [31, 2, 17, 31, 39, 0]
    frames = read(path, wanted, decoder="decord").frames.astype(int)
    assert asked == [[0, 2, 17, 31, 39]]
    assert np.abs(frames - read(path, wanted).frames).max() <= 2


def test_interlaced_frames_are_never_decords(clip_file, monkeypatch):
    """Even where the one frame that is compared is right, as one without motion may be."""
    pytest.importorskip("decord")
    monkeypatch.setattr(crosscheck, "largest_difference", lambda *_: 0)
    with pytest.raises(CannotAgree, match=r"decord (is not used on interlaced frames|fails)"):
        read(clip_file("h264_interlaced"), [3, 9], decoder="decord")
