"""Thumbnails: the frames that a backbone saw, small and grey, exact to the bit.

A cache keeps them beside the features, so that an evaluation can say what is there without any
network.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIDE = 16
"""Cells along each side of a thumbnail."""
LUMA = (299, 587, 114)
"""Thousandths of red, green and blue in grey: Rec. 601."""


def thumbnails_of(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the mean grey of 16 x 16 cells of equal area, rounded half up.

    A pixel on the border of cells counts in each by its share; frames of fewer than 16 pixels along
    a side are enlarged. All sums are of integers that their type holds, so their order, and with it
    the machine, changes no bit.

    Args:
        pixels: uint8 (T, 3, h, w), RGB.

    Returns:
        uint8 (T, 16, 16).
    """
    height, width = pixels.shape[2:]
    rows = _sums_of_bands(pixels)  # (T, 3, 16, w)
    cells = rows.astype(np.float64) @ _shares(width).T  # (T, 3, 16, 16), 255 h w at most
    grey = np.tensordot(cells, np.array(LUMA, np.float64), axes=(1, 0)).astype(np.int64)
    area = sum(LUMA) * height * width
    return ((2 * grey + area) // (2 * area)).astype(np.uint8)


def _sums_of_bands(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the sums of 16 bands of rows, in sixteenths of a row: (T, 3, 16, w)."""
    frames, channels, height, width = pixels.shape
    thick, rest = divmod(height, SIDE)
    if rest or thick > 256:  # 257 rows of 255 are the most that uint16 holds
        sums = _shares(height).astype(np.float32) @ pixels.astype(np.float32)  # below 2^24
        return sums.astype(np.float64)
    bands = pixels.reshape(frames, channels, SIDE, thick, width)
    return bands.sum(axis=3, dtype=np.uint16).astype(np.float64) * SIDE


def _shares(pixels: int) -> NDArray[np.float64]:
    """Return how many sixteenths of each of some pixels are in each of 16 cells: (16, pixels)."""
    begins, cells = SIDE * np.arange(pixels), pixels * np.arange(SIDE)[:, None]
    shared = np.minimum(begins + SIDE, cells + pixels) - np.maximum(begins, cells)
    return np.maximum(0.0, shared)
