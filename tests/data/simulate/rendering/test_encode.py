from pathlib import Path

import numpy as np
import pytest

from data.files import WriteError
from data.simulate.rendering import encode
from data.simulate.rendering.encode import encode_video
from data.simulate.rendering.render import render_frames
from tests.helpers.trials import (
    FPS,
    SIZE,
    appearance_of,
    decoded,
    drawn_frames,
    trial_of,
)


def test_encoding_is_close_to_what_was_drawn(tmp_path: Path) -> None:
    trial = trial_of("ramp", (0.5, 0.2), seed=0)
    drawn = drawn_frames(trial, 1).astype(float)
    path = tmp_path / "clip.mp4"
    encode_video(render_frames(trial, appearance_of(trial, 1), size=SIZE), path, fps=FPS, size=SIZE)
    back = decoded(path).astype(float)
    assert back.shape == drawn.shape
    noise = np.mean((back.mean(axis=-1) - drawn.mean(axis=-1)) ** 2)
    assert 10 * np.log10(255**2 / noise) > 32  # PSNR of grey, dB


def test_pictures_and_rgb_frames_are_written_alike(tmp_path: Path) -> None:
    trial = trial_of("fall", (0.5, 1.0), seed=0)
    drawn = render_frames(trial, appearance_of(trial, 1), size=SIZE)
    encode_video(drawn, tmp_path / "planes.mp4", fps=FPS, size=SIZE)
    encode_video(drawn_frames(trial, 1), tmp_path / "rgb.mp4", fps=FPS, size=SIZE)
    planes, shown = (decoded(tmp_path / name).astype(int) for name in ("planes.mp4", "rgb.mp4"))
    assert np.abs(planes - shown).mean() < 2


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    (tmp_path / "no").touch()
    with pytest.raises(WriteError, match="no cannot be written: something else"):
        encode_video(frames, tmp_path / "no" / "a.mp4", fps=FPS, size=32)


@pytest.mark.parametrize(("flags", "limited"), [("fma avx2 avx512f", True), ("fma avx2", False)])
def test_avx512_is_not_used(tmp_path: Path, monkeypatch, flags: str, limited: bool) -> None:
    """With it, x264 may encode the same frames differently from run to run."""
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}")
    monkeypatch.setattr(encode, "CPU_FLAGS", tmp_path / "cpuinfo")
    encode._x264_options.cache_clear()
    try:
        assert encode._x264_options()["x264-params"].endswith(":asm=AVX2") == limited
        frames = np.zeros((2, 32, 32, 3), np.uint8)
        encode_video(frames, tmp_path / "a.mp4", fps=FPS, size=32)
        assert len(decoded(tmp_path / "a.mp4")) == 2
    finally:
        encode._x264_options.cache_clear()
