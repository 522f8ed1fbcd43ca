"""What the videos of clips give away without any network: how they move, and how they are filed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.video import DecoderPool, FrameBatch, Outcome
from data.wording import counted
from pipeline.dataset import RunInputs, find_clips, video_jobs
from pipeline.extraction import default_workers

CELLS = 16
"""Along each side, of which the optical flow is the mean."""
LONG_SIDE, SHORT_SIDE = 256, 32
"""Pixels: the longer side of a frame when flow is measured, and the least of the shorter one."""
FLOW, SHORTCUTS = NAMES = ("optical_flow", "shortcuts")
NAMED = 3
"""Clips without a readable video that a sentence names."""
NO_OPENCV = "OpenCV is not installed: pip install 'heliograph[flow]'"

Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Recordings:
    """What the videos of a run's clips show.

    Attributes:
        features: What a regression reads, by baseline: arrays (N, ...), zeros for clips that are in
            no split; none where something is missing. `optical_flow` has the mean (x, y, size) of
            the flow in cells from one sampled frame to the next, in pixels of the frames as it was
            measured; `shortcuts` has seconds, frames a second, width, height, bytes of the file.
        missing: By baseline, what it lacks.
    """

    features: dict[str, list[NDArray[np.generic]]]
    missing: dict[str, str]


def read_recordings(
    inputs: RunInputs,
    clips: NDArray[np.int64],
    given: Sequence[Path],
    progress: Progress = lambda _: None,
) -> Recordings:
    """Decode the videos of a run's clips again, and measure what they show.

    Of several caches each way of sampling frames counts once.

    Args:
        inputs: The caches of the run.
        clips: The clips to read, their numbers.
        given: Manifests, folders or videos; none: the videos are looked for where they were.
        progress: Called with what is being done.

    Raises:
        HeliographError: A manifest cannot be read, or a sampling cannot be repeated.
    """
    has_opencv = _has_opencv()
    flows: list[NDArray[np.generic]] = []
    shortcuts = np.zeros((len(inputs.clips), 5))
    seen: list[Any] = []
    for source, cache, path in zip(inputs.sources, inputs.caches, inputs.paths, strict=True):
        if source.sampler in seen:
            continue
        seen.append(source.sampler)
        found = find_clips(cache, path, given)
        names = [cache.clip_id[clip] for clip in clips]
        planned = video_jobs(names, cache, found, source.sampler)
        if planned.others:
            return _lacking(planned.others, len(names), given)
        failed: dict[str, str] = {}
        rows = dict(zip(names, clips.tolist(), strict=True))
        flow: NDArray[np.float32] | None = None
        with DecoderPool(workers=default_workers()) as pool:
            for done, outcome in enumerate(
                pool.map(planned.jobs, transform=_flow_of if has_opencv else _nothing), 1
            ):
                if outcome.error is not None or outcome.info is None:
                    failed[outcome.job.tag] = str(outcome.error)
                    continue
                row = rows[outcome.job.tag]
                shortcuts[row] = _shortcuts_of(outcome)
                if outcome.result is not None:
                    if flow is None:
                        flow = np.zeros((len(cache), *outcome.result.shape), np.float32)
                    flow[row] = outcome.result
                if done % 100 == 0:
                    progress(f"videos: {done} of {len(names)} read")
        if failed:
            return _lacking(failed, len(names), given)
        if flow is not None and flow.size:
            flows.append(flow)
    missing = {} if has_opencv else {FLOW: NO_OPENCV}
    return Recordings({FLOW: flows, SHORTCUTS: [shortcuts]}, missing)


def _lacking(reasons: Mapping[str, str], clips: int, given: Sequence[Path]) -> Recordings:
    """Return nothing, and which clips have no readable video, each with its reason.

    Args:
        reasons: By clip.
        clips: Of the run.
        given: What --clips named.
    """
    shown = [f"{name}: {reason}" for name, reason in list(reasons.items())[:NAMED]]
    more = [f"and {len(reasons) - NAMED} more"] if len(reasons) > NAMED else []
    why = (
        f"{len(reasons)} of {counted(clips, 'clip')} cannot be read from their videos "
        f"({'; '.join([*shown, *more])})"
    )
    if not given:
        why += "; name a manifest or a folder with --clips"
    elif len(reasons) == clips:
        where = " and ".join(map(str, given))
        why += f"; nothing in {where} is a clip of the run, by its id or by its bytes"
    return Recordings({name: [] for name in NAMES}, dict.fromkeys(NAMES, why))


def _shortcuts_of(outcome: Outcome) -> tuple[float, ...]:
    """Return seconds, frames a second, width, height and bytes of what a clip is filed as."""
    info, job = outcome.info, outcome.job
    assert info is not None
    start, end = getattr(job, "start", None), getattr(job, "end", None)
    seconds = (info.duration_seconds if end is None else end) - (start or 0.0)
    return (seconds, info.frames_per_second or 0.0, info.width, info.height, info.bytes)


def _has_opencv() -> bool:
    try:
        import cv2
    except ImportError:
        return False
    cv2.setNumThreads(1)  # what several threads find depends on their number
    return True


def _nothing(batch: FrameBatch) -> None:
    return None


def _flow_of(batch: FrameBatch) -> NDArray[np.float32]:
    """Return the flow between successive frames: (F - 1, 16, 16, 3), means of x, y and size."""
    import cv2

    height, width = batch.frames.shape[1:3]
    scale = LONG_SIDE / max(height, width)
    size = tuple(max(SHORT_SIDE, round(scale * side)) for side in (width, height))
    grey = [
        cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
        for frame in batch.frames
    ]
    method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    means = np.zeros((max(0, len(grey) - 1), CELLS, CELLS, 3), np.float32)
    for step, (before, after) in enumerate(pairwise(grey)):
        flow = method.calc(before, after, None)  # (height, width, 2)
        sized = np.dstack([flow, np.hypot(flow[..., 0], flow[..., 1])])
        means[step] = cv2.resize(sized, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return means
