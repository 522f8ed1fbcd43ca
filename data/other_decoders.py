"""The decoders beside the reference: decord, and torchcodec where it is installed.

Neither is believed. The reference's index (or its full decode) says which frames a file shows and
when; a decoder that counts others, or dates them otherwise, is refused for that file, and one frame
of each batch is compared with the reference's.
"""

from __future__ import annotations

import numpy as np

from data.decoders import Frames, Places
from data.frames import VideoError
from data.reading import Reading

GREY_LEVELS = 2  # how far apart the pixels of two decoders may be


class CannotAgree(VideoError):
    """A decoder that cannot, or would not, return the frames that the reference returns."""


def largest_difference(a: Frames, b: Frames) -> int:
    """The largest difference of two pixels, 256 where the shapes differ."""
    if a.shape != b.shape:
        return 256
    return int(np.maximum(a, b).__isub__(np.minimum(a, b)).max(initial=0))


def decord_frames(reading: Reading, places: Places) -> Frames:
    raise CannotAgree(reading.container.path, "todo")


def torchcodec_frames(reading: Reading, places: Places) -> Frames:
    raise CannotAgree(reading.container.path, "todo")
