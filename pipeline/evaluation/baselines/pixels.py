"""What the thumbnails of clips show without any network: the pixels of baselines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data.cache import Features
from data.wording import counted
from pipeline.dataset import RunInputs

Pixels = NDArray[np.uint8]

NAMES = ("pixels", "differences", "first_frame")


def thumbnails_of(inputs: RunInputs, clips: NDArray[np.int64]) -> tuple[list[Pixels], str]:
    """Return the thumbnails of a run's caches, or why there are none.

    Caches with the same frames of all clips count once; one that lacks some of the clips asked for
    does not count.

    Args:
        inputs: The caches of the run.
        clips: The clips that must have some, their numbers.

    Returns:
        uint8 (N, F, h, w) of each cache that counts; and a phrase, "" where one counts.
    """
    found: list[Pixels] = []
    reasons = []
    for source, cache in zip(inputs.sources, inputs.caches, strict=True):
        if reason := lacking(cache, clips, source.name):
            reasons.append(reason)
            continue
        thumbnails = np.asarray(cache.thumbnails)
        if not any(np.array_equal(thumbnails, other) for other in found):
            found.append(thumbnails)
    return found, "" if found else "; ".join(reasons)


def lacking(cache: Features, clips: NDArray[np.int64], name: str) -> str:
    """Return how many of these clips of a cache have no thumbnails; "" where all have some.

    Args:
        cache: of the clips.
        clips: their numbers.
        name: what the sentence calls the cache.
    """
    count = int((~cache.has_thumbnails[clips]).sum())
    if not count:
        return ""
    return (
        f"{count} of {counted(len(clips), 'clip')} of {name} have no thumbnails, as their features "
        "were imported, or made before caches had any: extract them into a new cache"
    )


def missing(thumbnails: Sequence[Pixels], reason: str) -> dict[str, str]:
    """Return why each baseline on pixels is missing; empty where none is.

    Args:
        thumbnails: uint8 (N, F, h, w) of each cache that counts.
        reason: why there are none; "" where there are some.

    >>> missing([np.zeros((9, 1, 4, 4), np.uint8)], "")["differences"]
    'each clip has one frame, in which nothing moves'
    """
    if reason:
        return dict.fromkeys(NAMES, reason)
    if any(frames.shape[1] > 1 for frames in thumbnails):
        return {}
    return dict.fromkeys(NAMES[1:], "each clip has one frame, in which nothing moves")


def pixel_features(thumbnails: Sequence[Pixels]) -> dict[str, list[Pixels]]:
    """Return what a regression reads, by baseline: arrays (N, ...); none where there is nothing.

    - `pixels`: the thumbnails of all sampled frames.
    - `differences`: how much each pixel changes from one sampled frame to the next, its size alone.
    - `first_frame`: the first sampled frame, before anything moves.

    Args:
        thumbnails: uint8 (N, F, h, w) of each cache.
    """
    moving = [frames for frames in thumbnails if frames.shape[1] > 1]
    return {
        "pixels": list(thumbnails),
        "differences": [
            np.maximum(frames[:, 1:], frames[:, :-1]) - np.minimum(frames[:, 1:], frames[:, :-1])
            for frames in moving
        ],
        "first_frame": [frames[:, 0] for frames in moving],
    }
