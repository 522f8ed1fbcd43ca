"""What falls in a film from a camera that stands still, found against the first frame.

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

LEFT_AFTER_SECONDS = 0.25  # from the first movement on the object has left where it stood
GREY_LEVELS = 20  # by which something has to differ from the background
SHORTEST_DROP = 0.15  # of the height of the picture


def background(frames: NDArray[np.uint8], seconds: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The first frame without the object: uint8 (H, W, 3).

    A patch in which the first frame differs from most others is where the object stood, or where
    it lies at the end. If the patch looks as in most others soon after anything begins to move, the
    object stood there and has left; then most others show what is behind it. Where the first frame
    is only darker than most others the object's shadow fell, and is taken out alike.
    """
    from scipy import ndimage

    first, usual, level = frames[0], np.median(frames, 0).astype(np.uint8), noise_threshold(frames)
    sizes = np.array([moved(frame, first, level).sum() for frame in frames])
    begun = np.flatnonzero(sizes >= _smallest(first[..., 0]))
    scene = first.copy()
    if not len(begun):
        return scene
    since = seconds - seconds[begun[0]]
    soon = np.flatnonzero((since >= LEFT_AFTER_SECONDS) & (since <= LEFT_AFTER_SECONDS + 0.08))
    if not len(soon):
        return scene
    left = ~np.all([moved(frames[number], usual, level) for number in soon], 0)
    patches, count = ndimage.label(moved(first, usual, level))
    shares = np.atleast_1d(ndimage.mean(left, patches, np.arange(1, count + 1)))
    stood = np.isin(patches, np.flatnonzero(shares > 0.8) + 1) | _shade(first, usual)
    stood = ndimage.binary_dilation(stood, iterations=3)
    scene[stood] = usual[stood]
    return scene


def _shade(frame: NDArray[np.uint8], scene: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where a frame shows the colours of the scene, only darker: (H, W)."""
    from scipy import ndimage

    lit, dark = scene.astype(np.float32) + 1, frame.astype(np.float32) + 1
    ratio = dark.sum(-1) / lit.sum(-1)
    same = np.abs(dark - ratio[..., None] * lit).max(-1) < 10
    darker = same & (ratio > 0.3) & (ratio < 0.97)
    return np.asarray(ndimage.binary_opening(darker, np.ones((3, 3))))


def noise_threshold(frames: NDArray[np.uint8]) -> float:
    """Grey levels beyond which a difference is no noise."""
    pairs = np.abs(np.diff(frames[:: max(1, len(frames) // 8)].astype(np.int16), axis=0))
    return max(float(GREY_LEVELS), 6 * float(np.median(pairs)))


def moved(frame: NDArray[np.uint8], scene: NDArray[np.uint8], level: float) -> NDArray[np.bool_]:
    """Where a frame differs from the scene by more than `level`, specks left out: (H, W)."""
    from scipy import ndimage

    apart = np.abs(frame.astype(np.int16) - scene).max(-1) > level
    return np.asarray(ndimage.binary_opening(apart, np.ones((3, 3))))


@dataclass(frozen=True)
class Patch:
    top: float
    middle: float
    area: int


def _smallest(mask: NDArray[Any]) -> int:
    """Pixels that an object has at least."""
    return max(12, mask.size // 4000)


def _patches(mask: NDArray[np.bool_]) -> list[Patch]:
    """Connected patches that are large enough to be an object."""
    from scipy import ndimage

    labelled, _ = ndimage.label(mask)
    found = []
    for number, where in enumerate(ndimage.find_objects(labelled), start=1):
        own = labelled[where] == number
        area = int(own.sum())
        if area < _smallest(mask):
            continue
        rows = own.sum(1)
        # The row above which lies a hundredth of the patch: an edge that a speck does not move.
        below = np.cumsum(rows) / area
        at = int(np.searchsorted(below, 0.02))
        before = below[at - 1] if at else 0.0
        top = where[0].start + at + (0.02 - before) / (below[at] - before)
        columns = np.flatnonzero(own.any(0)) + where[1].start
        found.append(Patch(float(top), float(columns.mean()), area))
    return found


def lowest_faller(masks: list[NDArray[np.bool_]]) -> dict[int, Patch] | None:
    """The patch that goes down the furthest, by frame; None where none goes far."""
    height = masks[0].shape[0]
    tracks = _linked(masks)
    falls = [(_drop([patch.top for patch in track.values()]), track) for track in tracks]
    best, track = max(falls, key=lambda fall: fall[0], default=(0.0, {}))
    return track if best >= SHORTEST_DROP * height else None


def _drop(tops: list[float]) -> float:
    """The furthest way down within a track, in pixels."""
    values = np.array(tops)
    return float((values - np.minimum.accumulate(values)).max())


def _linked(masks: list[NDArray[np.bool_]]) -> list[dict[int, Patch]]:
    """Patches of consecutive frames that are one thing: near where it would be, and as large."""
    height = masks[0].shape[0]
    tracks: list[dict[int, Patch]] = []
    for number, mask in enumerate(masks):
        free = _patches(mask)
        pairs = sorted(
            (
                (cost, place, patch)
                for place, track in enumerate(tracks)
                for patch in free
                if (cost := _cost(track, number, patch, height)) < math.inf
            ),
            key=lambda pair: pair[0],
        )
        taken: set[int] = set()
        for _, place, patch in pairs:
            if patch in free and place not in taken:
                tracks[place][number] = patch
                taken.add(place)
                free.remove(patch)
        tracks += [{number: patch} for patch in free]
    return tracks


def _cost(track: dict[int, Patch], number: int, patch: Patch, height: int) -> float:
    """How far a patch is from where the track should be now; infinite where it cannot be it."""
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
    away = min(abs(patch.top - expected), abs(patch.top - last.top))
    away += abs(patch.middle - last.middle)
    return away if away <= (0.15 * height + abs(speed)) * gap else math.inf
