"""Pictures of clips that show their motion: every frame that an agent saw, laid over one another.

Each pixel is taken from the frame in which it differs most from its median over time, as in
chronophotography: what stands still is seen once, what moves is seen everywhere it was.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.cache import Features, read_ledger
from data.clips import Clip
from data.errors import HeliographError
from data.files import sha256_file
from data.manifests import list_clips
from data.video import DecoderPool, FrameBatch, Job, Sampling

SIDE = 112  # pixels of a thumbnail's longer side
QUALITY = 72  # of the JPEG


@dataclass(frozen=True)
class Wanted:
    """A picture of one clip as one agent sees it: the frames `first` up to `last` of its sample."""

    clip: str
    first: int
    last: int


@dataclass
class Pictures:
    """Thumbnails as data URIs, and why some are missing."""

    shown: dict[Wanted, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)  # sentences
    unchecked: bool = False  # the cache holds no hashes to know the videos by

    def __repr__(self) -> str:
        return f"Pictures({len(self.shown)} shown, missing {self.missing})"


def find_clips(features: Features, cache: Path, given: Sequence[Path]) -> dict[str, Clip]:
    """Where the videos of a cache's clips are, by id.

    `given` are manifests, folders or videos; without them the cache's ledger knows where the clips
    were when their features were made. Clips whose file is not there are left out. Raises ClipError
    for a manifest or folder that cannot be read.
    """
    if given:
        candidates: Iterable[Clip] = list_clips(given)
    else:
        candidates = [
            Clip(id=line["clip"], path=line["path"], start=line.get("start"), end=line.get("end"))
            for line in read_ledger(cache)
            if "path" in line
        ]
    wanted = set(features.clip_id)
    return {clip.id: clip for clip in candidates if clip.id in wanted and clip.path.is_file()}


def pictures(
    wanted: Sequence[Wanted],
    features: Features,
    clips: Mapping[str, Clip],
    sampling: Mapping[str, Any],
) -> Pictures:
    """Thumbnails of clips, decoded anew by the sampling of their cache.

    A video whose bytes are no longer those that the features were made of is not shown.
    """
    made = Pictures()
    rows = {clip: row for row, clip in enumerate(features.clip_id)}
    jobs = []
    for name in dict.fromkeys(one.clip for one in wanted):
        if name not in clips:
            continue
        expected = features.source_sha256[rows[name]]
        if expected and sha256_file(clips[name].path) != expected:
            made.missing.append(f"{clips[name].path} is not the video that {name} was made from")
            continue
        made.unchecked |= not expected
        clip = clips[name]
        jobs.append(
            Job(
                path=clip.path,
                sampling=_sampling(sampling),
                start=clip.start,
                end=clip.end,
                accept_damaged=True,
                tag=name,
            )
        )
    with DecoderPool(workers=1) as pool:
        for outcome in pool.map(jobs):
            if outcome.batch is None:
                made.missing.append(str(outcome.error))
                continue
            for one in wanted:
                if one.clip == outcome.job.tag:
                    made.shown[one] = _data_uri(_overlay(outcome.batch, one.first, one.last))
    return made


def overlay(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(T, H, W, 3) -> (H, W, 3): each pixel from the frame where it is farthest from the median.

    >>> frames = np.zeros((3, 1, 4, 3), np.uint8)
    >>> for time in range(3):
    ...     frames[time, 0, time] = 200
    >>> overlay(frames)[0, :, 0].tolist()
    [200, 200, 200, 0]
    """
    if len(frames) < 3:  # a median of two frames tells neither from the other
        return frames[len(frames) // 2]
    median = np.median(frames, axis=0)
    apart = np.abs(frames - median).sum(-1)  # (T, H, W)
    return np.take_along_axis(frames, apart.argmax(0)[None, ..., None], axis=0)[0]


def _overlay(batch: FrameBatch, first: int, last: int) -> NDArray[np.uint8]:
    small = [_shrink(frame) for frame in batch.frames[first:last]]
    return overlay(np.stack(small))


def _shrink(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    picture = Image.fromarray(frame)
    picture.thumbnail((2 * SIDE, 2 * SIDE), Image.Resampling.BOX)
    return np.asarray(picture)


def _data_uri(pixels: NDArray[np.uint8]) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _sampling(described: Mapping[str, Any]) -> Sampling:
    if not described:  # imported features say nothing of it
        return Sampling(frames=8, pad=True)
    try:
        return Sampling(**described)
    except (TypeError, ValueError) as error:
        raise HeliographError(f"the cache's sampling cannot be repeated: {error}") from error
