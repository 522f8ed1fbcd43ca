"""Small trials, drawn and decoded, for tests of the renderer."""

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from data.simulate import SCENES
from data.simulate.rendering.appearance import Appearance, sample_appearance
from data.simulate.rendering.render import render_frames
from data.simulate.rendering.yuv import YuvFrame
from data.simulate.scenes import Trial

SIZE, FRAMES, FPS = 128, 12, 24.0


def trial_of(scene: str, values: tuple[float, float], seed: int) -> Trial:
    return SCENES[scene].simulate(*values, np.random.default_rng(seed), FRAMES, FPS)


def appearance_of(trial: Trial, seed: int) -> Appearance:
    blocks = 1 + max((prism.surface for prism in trial.prisms), default=-1)
    return sample_appearance(np.random.default_rng(seed), blocks=blocks, pucks=len(trial.pucks))


def drawn_frames(trial: Trial, seed: int, size: int = SIZE) -> NDArray[np.uint8]:
    """Frames uint8 (T, size, size, 3), RGB."""
    return np.stack(
        [rgb(frame) for frame in render_frames(trial, appearance_of(trial, seed), size=size)]
    )


def rgb(frame: YuvFrame) -> NDArray[np.uint8]:
    planes = np.concatenate([frame.luma.ravel(), frame.chroma.ravel()])
    rows = planes.reshape(-1, frame.luma.shape[1])  # (3 size / 2, size)
    return av.VideoFrame.from_ndarray(rows, format="yuv420p").to_ndarray(format="rgb24")


def decoded(path: Path) -> NDArray[np.uint8]:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
