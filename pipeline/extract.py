"""Clips to a feature cache: decoding and the backbone overlap, and nothing that is done is lost."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np

from backbones import Backbone
from data.clips import Clip
from data.container import checked
from data.errors import HeliographError
from data.files import sha256_file
from data.frames import FrameBatch, VideoInfo
from data.sampling import Sampling
from data.store import Store
from data.video import read_sampled

DTYPES = ("float16", "float32")


@dataclass
class Summary:
    """What an extraction did; `failed` maps clip ids to reasons."""

    target: Path
    clips: int
    done: int = 0
    kept: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    frames: int = 0
    seconds: float = 0.0
    interrupted: bool = False

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return vars(self) | {"target": str(self.target)}


def extract(
    clips: Sequence[Clip],
    target: Path,
    *,
    backbone: Backbone,
    sampling: Sampling,
    accept_damaged: bool = False,
    dtype: str = "float16",
    workers: int = 2,
    progress: Callable[[Summary], None] | None = None,
) -> Summary:
    """Adds the features of clips to the cache `target`; those that it has already are kept.

    Args:
        clips: with distinct ids.
        target: the `.h5` file; until it is written, shards stand in `<target>.parts`.
        backbone: gives (steps, dim) per clip.
        sampling: `frames` must be a multiple of the backbone's `frames_per_step`.
        accept_damaged: keep clips with damage that the decoder notices; they fail otherwise.
        dtype: of the features on disk.
        workers: clips that are decoded at the same time.
        progress: called after every clip.

    Ctrl-C leaves a cache of what is done. Raises HeliographError where the cache was made with
    another backbone, sampling or decoder, or cannot be written; a clip's own failure is only
    recorded.
    """
    if sampling.frames % backbone.frames_per_step:
        raise HeliographError(
            f"{backbone.name} takes {backbone.frames_per_step} frames a step, "
            f"so {sampling.frames} frames cannot be divided among its steps"
        )
    began = time.monotonic()
    summary = Summary(Path(target), len(clips))
    with Store(
        target,
        fingerprint=backbone.fingerprint,
        sampler=sampling.describe(),
        decoder=decoder_record("pyav"),
    ) as store:
        try:
            for clip, outcome in _decoded(clips, store, sampling, accept_damaged, workers):
                if isinstance(outcome, HeliographError):
                    reason = _without_path(str(outcome), clip)
                    store.fail(clip, reason)
                    summary.failed[clip.id] = reason
                elif outcome is None:
                    summary.kept += 1
                else:
                    _add(store, backbone, clip, outcome, dtype)
                    summary.done += 1
                    summary.frames += len(outcome.batch)
                summary.seconds = time.monotonic() - began
                if progress is not None:
                    progress(summary)
        except KeyboardInterrupt:
            summary.interrupted = True
        if summary.done or summary.kept:
            store.consolidate(clips)
    return summary


def decoder_record(name: str) -> dict[str, Any]:
    """What a cache remembers of its decoder: pixels may change with the FFmpeg behind it."""
    libraries = {
        library: ".".join(str(part) for part in version)
        for library, version in sorted(av.library_versions.items())
        if library in ("libavcodec", "libavformat", "libswscale")
    }
    return {"name": name, "version": av.__version__, "ffmpeg": libraries}


@dataclass(frozen=True)
class _Decoded:
    batch: FrameBatch
    info: VideoInfo
    source_sha256: str
    seconds: float


def _decoded(
    clips: Sequence[Clip], store: Store, sampling: Sampling, accept_damaged: bool, workers: int
) -> Iterator[tuple[Clip, _Decoded | HeliographError | None]]:
    """Clips with their frames, with None where the store has them, or with an error."""

    def decode(clip: Clip, source: str) -> _Decoded | HeliographError:
        began = time.monotonic()
        try:
            batch, info = read_sampled(
                clip.path,
                sampling,
                start=clip.start,
                end=clip.end,
                accept_damaged=accept_damaged,
            )
        except HeliographError as error:
            return error
        return _Decoded(batch, info, source, time.monotonic() - began)

    waiting: deque[tuple[Clip, Future[_Decoded | HeliographError]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for clip in clips:
                try:
                    checked(clip.path)
                    source = sha256_file(clip.path)
                except HeliographError as error:
                    yield clip, error
                    continue
                if store.done(clip, source):
                    yield clip, None
                    continue
                waiting.append((clip, pool.submit(decode, clip, source)))
                if len(waiting) > 2 * workers:  # a bounded queue: memory does not grow with clips
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _add(store: Store, backbone: Backbone, clip: Clip, decoded: _Decoded, dtype: str) -> None:
    batch, info = decoded.batch, decoded.info
    features = backbone.forward(backbone.preprocess(batch.frames)[None])[0].numpy()
    store.add(
        clip,
        features.astype(np.dtype(dtype)),
        batch.index,
        batch.pts_seconds,
        source_sha256=decoded.source_sha256,
        claimed_frames=info.claimed_frames,
        shown_frames=info.shown_frames,
        seconds=round(decoded.seconds, 3),
        bytes=info.bytes,
    )


def _without_path(sentence: str, clip: Clip) -> str:
    """A reason beside a clip's name need not name it again."""
    return sentence.removeprefix(f"{clip.path}: ")
