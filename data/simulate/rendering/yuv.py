"""Frames and colours as H.264 stores them, so that nothing has to be converted per frame.

Colours are Y'CbCr of BT.601, which readers assume for video that states nothing else: brightness
Y 16..235 of every pixel, and the colour differences U and V 16..240 of every 2 x 2 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

BLACK = np.float32(16)  # Y of black
GREY = np.float32(128)  # U and V of grey
_OF_RGB = np.array(
    [[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]
)


@dataclass(frozen=True, kw_only=True)
class YuvFrame:
    """A frame: `luma` uint8 (n, n), and `chroma` uint8 (2, n / 2, n / 2): U and V."""

    luma: NDArray[np.uint8]
    chroma: NDArray[np.uint8]

    @classmethod
    def from_floats(cls, luma: Floats, chroma: Floats) -> YuvFrame:
        """Return the frame of values without offsets: (n, n) and (2, n / 2, n / 2)."""
        half = np.float32(0.5)
        return cls(
            luma=np.clip(luma + (BLACK + half), 16, 235).astype(np.uint8),
            chroma=np.clip(chroma + (GREY + half), 16, 240).astype(np.uint8),
        )

    def copy_from(self, other: YuvFrame) -> None:
        """Become a copy of `other`."""
        np.copyto(self.luma, other.luma)
        np.copyto(self.chroma, other.chroma)


def to_yuv(colours: NDArray[np.float64], *, warmth: float) -> NDArray[np.float64]:
    """Return colours (..., 3), RGB 0..1 in a light of some warmth, as Y, U, V without offsets."""
    return colours * (1 + warmth, 1, 1 - warmth) @ _OF_RGB.T


def downsample(values: Floats) -> Floats:
    """Return the means (..., h / 2, w / 2) of 2 x 2 pixels of (..., h, w)."""
    rows = values[..., ::2, :] + values[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]) * np.float32(0.25)
