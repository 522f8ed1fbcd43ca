"""The right frames of a video file: `read`, `read_sampled` and `probe`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data.container import Container, open_video
from data.decoders import Pass, Unexpected, by_index, one_pass, upright
from data.frames import FrameBatch, Limits, VideoError, VideoInfo
from data.sampling import Sampling, TooShort

__all__ = [
    "DECODERS", "FrameBatch", "Limits", "VideoError", "VideoInfo", "describe", "probe", "read",
    "read_sampled",
]  # fmt: skip

DECODERS = {"pyav": None}


def read(
    path: Path | str,
    indices: Sequence[int] | npt.NDArray[np.int64],
    *,
    decoder: str = "pyav",
    accept_damaged: bool = False,
    limits: Limits = Limits(),
) -> FrameBatch:
    """The frames at `indices` (places among the shown frames), in that order, repeats included."""
    with open_video(path, limits=limits) as container:
        info, full = _info(container, accept_damaged=accept_damaged)
        places = np.asarray(indices, dtype=np.int64).reshape(-1)
        return _batch(container, info, full, places)


def read_sampled(
    path: Path | str,
    sampling: Sampling,
    *,
    start: float | None = None,
    end: float | None = None,
    decoder: str = "pyav",
    accept_damaged: bool = False,
    limits: Limits = Limits(),
) -> tuple[FrameBatch, VideoInfo]:
    """The frames that `sampling` picks between `start` and `end` (seconds)."""
    with open_video(path, limits=limits) as container:
        info, full = _info(container, accept_damaged=accept_damaged)
        times = info.pts_seconds
        first = 0 if start is None else int(np.searchsorted(times, start - 1e-6))
        last = len(times) if end is None else int(np.searchsorted(times, end - 1e-6))
        try:
            picked = sampling.indices(times[first:last], claimed=info.claimed_frames)
        except TooShort as error:
            raise VideoError(path, str(error)) from None
        return _batch(container, info, full, picked + first), info


def probe(
    path: Path | str, *, decode: bool = True, accept_damaged: bool = True, limits: Limits = Limits()
) -> VideoInfo:
    """What is known of a file; `decode` decodes it whole to know what it really holds."""
    with open_video(path, limits=limits) as container:
        return _info(container, accept_damaged=True)[0]


def describe(info: VideoInfo) -> str:
    return "\n".join(f"{key}: {value}" for key, value in info.to_json().items())


def _info(container: Container, *, accept_damaged: bool) -> tuple[VideoInfo, Pass | None]:
    index, stream = container.index, container.stream
    context = stream.codec_context
    full = None
    if accept_damaged or not index.distinct:
        full, _ = one_pass(container)
    if full is not None:
        pts = [0 if p is None else p for p in full.pts]
    else:
        pts = index.pts[index.order].tolist()
    ticks = np.array(pts, np.int64)
    seconds = (ticks - ticks[:1]) * float(stream.time_base)
    damage = index.damage
    if damage and not accept_damaged:
        raise VideoError(container.path, "; ".join(damage))
    gaps = np.diff(np.append(np.flatnonzero(index.entry), len(index.pts)))
    info = VideoInfo(
        path=container.path,
        bytes=container.bytes,
        format=container.input.format.name,
        codec=context.codec.canonical_name,
        pixel_format=context.pix_fmt or "unknown",
        stream=stream.index,
        streams=tuple(f"{s.index}: {s.type}" for s in container.input.streams),
        width=context.width,
        height=context.height,
        rotation=0,
        pixel_aspect=str(context.sample_aspect_ratio or 1),
        interlaced=False,
        frames_per_second=float(stream.average_rate) if stream.average_rate else None,
        claimed_frames=stream.frames or None,
        presented_frames=int((~index.hidden).sum()),
        decodable_frames=None if full is None else len(full.pts),
        shown_frames=len(pts),
        pts_seconds=seconds,
        times_from="timestamps",
        keyframes=int(index.key.sum()),
        longest_gop=int(gaps.max(initial=0)),
        random_access=index.distinct,
        damage=damage,
    )
    return info, full


def _batch(
    container: Container, info: VideoInfo, full: Pass | None, places: npt.NDArray[np.int64]
) -> FrameBatch:
    if len(places) and not (0 <= places.min() and places.max() < info.shown_frames):
        raise VideoError(
            container.path, f"shows {info.shown_frames} frames: no index {places.max()}"
        )
    distinct = np.unique(places)
    frames: dict[int, npt.NDArray[np.uint8]]
    if full is None:
        numbers = container.index.order[distinct]
        try:
            got = by_index(container, np.sort(numbers))
            frames = {int(p): got[int(n)] for p, n in zip(distinct, numbers, strict=True)}
        except Unexpected as error:
            full, frames = one_pass(container, distinct)
            if len(full.pts) != info.shown_frames or full.failed or full.corrupt:
                raise VideoError(
                    container.path,
                    f"damaged: {info.presented_frames} frames are presented, {len(full.pts)} "
                    f"decode ({error})",
                ) from None
    else:
        frames = one_pass(container, distinct)[1]
    if not len(places):
        shape = (0, info.height, info.width, 3)
        return FrameBatch(np.zeros(shape, np.uint8), places, info.pts_seconds[places])
    stacked = np.stack([frames[int(p)] for p in places])
    return FrameBatch(stacked, places, info.pts_seconds[places])
