"""TODO"""

from data.video.backends.other import (
    DEVICES,
    GREY_LEVELS,
    CannotAgree,
    decord_frames,
    largest_difference,
    torchcodec_frames,
)

__all__ = [
    "DEVICES",
    "GREY_LEVELS",
    "CannotAgree",
    "decord_frames",
    "largest_difference",
    "torchcodec_frames",
]
