"""A pinhole camera that keeps a box of the scene in its picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# What a hand does to a camera: deviations of yaw, pitch and roll (radians) and of the shift (parts
# of the width), and the frequencies (Hz) of its slow swaying and of its tremor, a sixth as large.
SWAY = (0.02, 0.015, 0.012, 0.015, 0.015)
SLOW_HZ, TREMOR_HZ = (0.3, 1.2), (3.0, 7.0)
WAVES = 3  # of each kind


def sample_sway(rng: np.random.Generator, frames: int, fps: float) -> NDArray[np.float64]:
    """Sample what a hand adds to yaw, pitch, roll and shift of a camera: (frames, 5)."""
    shape = (len(SWAY), WAVES, 1)
    seconds = np.arange(frames) / fps
    sway = np.zeros((len(SWAY), frames))
    for band, part in ((SLOW_HZ, 1.0), (TREMOR_HZ, 1 / 6)):
        angles = rng.uniform(*band, shape) * seconds + rng.uniform(size=shape)
        sway += part * np.sin(2 * math.pi * angles).sum(axis=1) / math.sqrt(WAVES / 2)
    return sway.T * SWAY


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Position (3,) in metres; axes (3, 3): rows right, up, forward; focal length in pixels."""

    position: NDArray[np.float64]
    axes: NDArray[np.float64]
    focal_pixels: float
    size: int

    @classmethod
    def around(
        cls, view: tuple[float, float, float, float], *, size: int, yaw: float, pitch: float,
        roll: float, field: float, zoom: float, shift: tuple[float, float],
    ) -> Camera:  # fmt: skip
        """Return a camera aimed at the middle of `view`, as far away as its corners need.

        Angles in radians (`field`: the whole field of view); `zoom` > 1 leaves a margin; `shift`
        moves the picture, as a fraction of its width.
        """
        left, bottom, right, top = view
        forward = np.array(
            [-math.sin(yaw) * math.cos(pitch), -math.sin(pitch), -math.cos(yaw) * math.cos(pitch)]
        )
        level = np.array([math.cos(yaw), 0.0, -math.sin(yaw)])
        above = np.cross(level, forward)
        x_axis = level * math.cos(roll) + above * math.sin(roll)
        y_axis = np.cross(x_axis, forward)
        axes = np.stack([x_axis, y_axis, forward])
        focal = size / 2 / math.tan(field / 2)
        middle = np.array([(left + right) / 2, (bottom + top) / 2, 0.0])
        corners = np.array([[x, y, 0.0] for x in (left, right) for y in (bottom, top)])
        across, up, deep = ((corners - middle) @ axes.T).T  # each (4,)
        reach = np.maximum(np.abs(across), np.abs(up)) * focal / (size / 2)
        distance = float(np.max(reach - deep)) * zoom
        slip = distance * size / focal
        position = middle - distance * forward - slip * (shift[0] * x_axis + shift[1] * y_axis)
        return cls(position=position, axes=axes, focal_pixels=focal, size=size)

    def project(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        """Project points (..., 3) in metres to pixel x, pixel y and depth in metres, each (...)."""
        x, y, depth = np.moveaxis((points - self.position) @ self.axes.T, -1, 0)
        middle = self.size / 2
        return middle + self.focal_pixels * x / depth, middle - self.focal_pixels * y / depth, depth

    def rays(self) -> NDArray[np.float64]:
        """Return a matrix (3, 3) that takes pixel positions (1, x, y) to directions of rays.

        A step of 1 along a ray is 1 m deep.
        """
        right, up, forward = self.axes
        right, down = right / self.focal_pixels, -up / self.focal_pixels
        return np.stack([forward - self.size / 2 * (right + down), right, down], axis=1)
