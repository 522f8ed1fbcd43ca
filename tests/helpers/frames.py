"""Frames for the tests of backbones, as a decoder returns them."""

import numpy as np


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Return uint8 noise of a shape."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def waves(height: int, width: int) -> np.ndarray:
    """Return one frame uint8 (1, height, width, 3), smooth and detailed like a photograph."""
    y, x = np.mgrid[:height, :width]
    channels = [np.sin(x * a + y * b) for a, b in [(0.02, 0.05), (0.3, 0.1), (0.7, 0.5)]]
    return np.stack([127 + 80 * channel for channel in channels], -1).astype(np.uint8)[None]
