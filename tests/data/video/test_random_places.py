"""Frames at random places of real videos, by every decoder, against a decode from the start."""

from pathlib import Path

import numpy as np
import pytest

from data.video import DECODERS, Sampling, VideoError, read_sampled
from tests.helpers.decoding import sequential
from tests.helpers.recordings import RECORDINGS

SHARED = Path(__file__).resolve().parents[4] / "shared"
NAMES = sorted(
    path.relative_to(SHARED).as_posix()
    for folder in ("videos", "cases/frames")
    for path in (SHARED / folder).glob("*.*")
    if path.suffix != ".md"
)
DAMAGED = "corrupted_49_of_50.mp4"


def assert_same(path: Path, decoder: str, rng: np.random.Generator) -> None:
    """Compare frames of windows at random places, read in one call each, with those expected."""
    expected, _, _ = sequential(path)
    whole, info = read_sampled(path, Sampling(frames=len(expected)), decoder=decoder)
    times = info.pts_seconds
    assert len(times) == len(expected)
    assert (np.diff(times) >= 0).all()
    worst = 0 if info.decoder == "pyav" else 2
    for _ in range(4):
        first, last = np.sort(rng.integers(0, len(times), 2))
        start, end = float(times[first]), float(times[last]) + 1e-4
        shown = int(((times >= start - 1e-6) & (times < end - 1e-6)).sum())
        sampling = Sampling(name="window", frames=min(shown, 3))
        batch, _ = read_sampled(path, sampling, start=start, end=end, decoder=decoder)
        for index, frame in zip(batch.index, batch.frames, strict=True):
            assert np.abs(frame.astype(int) - expected[index]).max() <= worst
    for index in rng.integers(0, len(expected), 5):
        assert np.abs(whole.frames[index].astype(int) - expected[index]).max() <= worst


@pytest.mark.slow
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", NAMES or [None])
def test_a_real_video_at_random_places(name, decoder, shared):
    if name is None:
        pytest.skip("there are no videos in ../shared")
    path, rng = shared / name, np.random.default_rng(7)
    if path.name == DAMAGED:
        with pytest.raises(VideoError, match="damaged: header claims 50 frames"):
            read_sampled(path, Sampling(frames=8), decoder=decoder)
        return
    assert_same(path, decoder, rng)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", [name for name in DECODERS if name != "pyav"])
@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_at_random_places(name, decoder, clip_file):
    assert_same(clip_file(name), decoder, np.random.default_rng(8))
