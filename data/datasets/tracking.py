"""Tracking of a falling object in the video of a fixed camera, against the first frame.

scene = background(frames, seconds)
masks = [moved(frame, scene, noise_threshold(frames)) for frame in frames]
track = lowest_faller(masks)                                # frame -> Patch
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEFT_AFTER_SECONDS = 0.25  # after the first movement the object has left its place
GREY_LEVELS = 20  # by which something has to differ from the background
SHORTEST_DROP = 0.15  # of the height of the picture


def background(frames: NDArray[np.uint8], seconds: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the first frame without the object: uint8 (H, W, 3).

    A patch in which the first frame differs from most others is where the object was at the start,
    or where it is at the end. If the patch looks as in most others soon after the first movement,
    the object was there and has left, and most others show what is behind it. Where the first frame
    is only darker than most others, the object's shadow was, which is removed in the same way.
    """
    from scipy import ndimage

    first, median, level = frames[0], np.median(frames, 0).astype(np.uint8), noise_threshold(frames)
    sizes = np.array([moved(frame, first, level).sum() for frame in frames])
    moving = np.flatnonzero(sizes >= _smallest(first[..., 0]))
    scene = first.copy()
    if not len(moving):
        return scene
    since = seconds - seconds[moving[0]]
    soon = np.flatnonzero((since >= LEFT_AFTER_SECONDS) & (since <= LEFT_AFTER_SECONDS + 0.08))
    if not len(soon):
        return scene
    left = ~np.all([moved(frames[number], median, level) for number in soon], 0)
    patches, count = ndimage.label(moved(first, median, level))
    shares = np.atleast_1d(ndimage.mean(left, patches, np.arange(1, count + 1)))
    occupied = np.isin(patches, np.flatnonzero(shares > 0.8) + 1) | _shade(first, median)
    occupied = ndimage.binary_dilation(occupied, iterations=3)
    scene[occupied] = median[occupied]
    return scene


def _shade(frame: NDArray[np.uint8], scene: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where (H, W) a frame shows the colours of the scene, only darker."""
    from scipy import ndimage

    lit, dark = scene.astype(np.float32) + 1, frame.astype(np.float32) + 1
    ratio = dark.sum(-1) / lit.sum(-1)
    same = np.abs(dark - ratio[..., None] * lit).max(-1) < 10
    darker = same & (ratio > 0.3) & (ratio < 0.97)
    return np.asarray(ndimage.binary_opening(darker, np.ones((3, 3))))


def noise_threshold(frames: NDArray[np.uint8]) -> float:
    """Return the grey levels above which a difference is no noise."""
    pairs = np.abs(np.diff(frames[:: max(1, len(frames) // 8)].astype(np.int16), axis=0))
    return max(float(GREY_LEVELS), 6 * float(np.median(pairs)))


def moved(frame: NDArray[np.uint8], scene: NDArray[np.uint8], level: float) -> NDArray[np.bool_]:
    """Return where (H, W) a frame differs from the scene by more than `level`, specks left out."""
    from scipy import ndimage

    different = np.abs(frame.astype(np.int16) - scene).max(-1) > level
    return np.asarray(ndimage.binary_opening(different, np.ones((3, 3))))


@dataclass(frozen=True)
class Patch:
    """Connected moving pixels: upper edge and middle in pixels, and their number."""

    top: float
    middle: float
    area: int


def _smallest(mask: NDArray[Any]) -> int:
    """Return the least number of pixels of an object."""
    return max(12, mask.size // 4000)


def _patches(mask: NDArray[np.bool_]) -> list[Patch]:
    """Return the connected patches that are large enough to be an object."""
    from scipy import ndimage

    labelled, _ = ndimage.label(mask)
    patches = []
    for number, where in enumerate(ndimage.find_objects(labelled), start=1):
        pixels = labelled[where] == number
        area = int(pixels.sum())
        if area < _smallest(mask):
            continue
        rows = pixels.sum(1)
        # The row above which a fiftieth of the patch is: an edge that a speck does not move.
        share = np.cumsum(rows) / area
        row = int(np.searchsorted(share, 0.02))
        before = share[row - 1] if row else 0.0
        top = where[0].start + row + (0.02 - before) / (share[row] - before)
        columns = np.flatnonzero(pixels.any(0)) + where[1].start
        patches.append(Patch(float(top), float(columns.mean()), area))
    return patches


def lowest_faller(masks: list[NDArray[np.bool_]]) -> dict[int, Patch] | None:
    """Return the patch that moves down the furthest, by frame; None if none moves far."""
    height = masks[0].shape[0]
    tracks = _linked(masks)
    falls = [(_drop([patch.top for patch in track.values()]), track) for track in tracks]
    best, track = max(falls, key=lambda fall: fall[0], default=(0.0, {}))
    return track if best >= SHORTEST_DROP * height else None


def _drop(tops: list[float]) -> float:
    """Return the furthest way down within a track, in pixels."""
    values = np.array(tops)
    return float((values - np.minimum.accumulate(values)).max())


def _linked(masks: list[NDArray[np.bool_]]) -> list[dict[int, Patch]]:
    """Link patches of consecutive frames that are near the expected position, and as large."""
    height = masks[0].shape[0]
    tracks: list[dict[int, Patch]] = []
    for number, mask in enumerate(masks):
        free = _patches(mask)
        pairs = sorted(
            (
                (cost, index, patch)
                for index, track in enumerate(tracks)
                for patch in free
                if (cost := _cost(track, number, patch, height)) < math.inf
            ),
            key=lambda pair: pair[0],
        )
        taken: set[int] = set()
        for _, index, patch in pairs:
            if patch in free and index not in taken:
                tracks[index][number] = patch
                taken.add(index)
                free.remove(patch)
        tracks += [{number: patch} for patch in free]
    return tracks


def _cost(track: dict[int, Patch], number: int, patch: Patch, height: int) -> float:
    """Return how far a patch is from the expected position; infinite if it cannot be the object."""
    (*_, before), latest = [None, *list(track)[:-1]], list(track)[-1]
    gap = number - latest
    if gap > 4:
        return math.inf
    last = track[latest]
    if not 0.3 <= patch.area / last.area <= 3.3:
        return math.inf
    speed = 0.0
    if before is not None:
        speed = (last.top - track[before].top) / (latest - before)
    expected = last.top + speed * gap
    distance = min(abs(patch.top - expected), abs(patch.top - last.top))
    distance += abs(patch.middle - last.middle)
    return distance if distance <= (0.15 * height + abs(speed)) * gap else math.inf
