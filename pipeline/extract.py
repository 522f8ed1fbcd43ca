"""Clips to a feature cache: decoding and the backbone overlap, and nothing that is done is lost."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from backbones import Backbone
from data.clips import Clip
from data.container import checked
from data.errors import HeliographError
from data.files import sha256_file
from data.frames import FrameBatch, VideoError, VideoInfo
from data.sampling import Sampling
from data.sandbox import DecoderPool, Job, Outcome
from data.store import Store
from data.video import DECODERS

GPU_BATCH = 16  # clips in one forward pass; one on a CPU, where more gain nothing


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
    decoder: str = "pyav",
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
        decoder: a key of `data.video.DECODERS`.
        accept_damaged: keep clips with damage that the decoder notices; they fail otherwise.
        dtype: of the features on disk.
        workers: processes that decode.
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
    size = GPU_BATCH if backbone.device.type == "cuda" else 1

    def report() -> None:
        summary.seconds = time.monotonic() - began
        if progress is not None:
            progress(summary)

    with Store(
        target,
        fingerprint=backbone.fingerprint,
        sampler=sampling.describe(),
        decoder=decoder_record(decoder),
    ) as store:
        feed = _Feed(clips, store, sampling, decoder, accept_damaged)
        waiting: list[_Decoded] = []
        try:
            with DecoderPool(workers=workers) as pool:
                for outcome in pool.map(feed.jobs()):
                    found = feed.settle(outcome)
                    if found is not None:
                        waiting.append(found)
                    if len(waiting) == size:
                        _add(feed, backbone, waiting, dtype, summary)
                        waiting = []
                    feed.drain(summary)
                    report()
            if waiting:
                _add(feed, backbone, waiting, dtype, summary)
        except KeyboardInterrupt:
            summary.interrupted = True
        feed.drain(summary)
        report()
        store.consolidate(clips)
    return summary


def decoder_record(name: str) -> dict[str, Any]:
    """What a cache remembers of its decoder: pixels may change with the FFmpeg behind it.

    Raises HeliographError for an unknown decoder, or one that is not installed.
    """
    if name not in DECODERS:
        raise HeliographError(f"no decoder {name!r}: choose one of {', '.join(DECODERS)}")
    if name != "pyav":
        try:
            return {"name": name, "version": import_module(name).__version__}
        except (ImportError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise HeliographError(f"the decoder {name} cannot be used here: {reason}") from error
    libraries = {
        library: ".".join(str(part) for part in number)
        for library, number in sorted(av.library_versions.items())
        if library in ("libavcodec", "libavformat", "libswscale")
    }
    return {"name": name, "version": av.__version__, "ffmpeg": libraries}


@dataclass(frozen=True)
class _Decoded:
    clip: Clip
    source_sha256: str
    batch: FrameBatch
    info: VideoInfo


class _Feed:
    """Hands clips to the decoders, and keeps account of those that need none.

    The decoder pool takes jobs in a thread of its own, hence the lock around the store.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        store: Store,
        sampling: Sampling,
        decoder: str,
        accept_damaged: bool,
    ) -> None:
        self.clips = clips
        self.store = store
        self.settings: dict[str, Any] = {
            "sampling": sampling,
            "decoder": decoder,
            "accept_damaged": accept_damaged,
        }
        self.lock = threading.Lock()
        self.kept = 0
        self.errors: deque[tuple[Clip, str]] = deque()

    def jobs(self) -> Iterator[Job]:
        """A job for each clip whose features the store does not have."""
        for clip in self.clips:
            try:
                checked(clip.path)
                source = sha256_file(clip.path)
            except (HeliographError, OSError) as error:
                self.errors.append((clip, _reason(error)))
                continue
            with self.lock:
                done = self.store.done(clip, source)
            if done:
                self.kept += 1
                continue
            yield Job(
                path=clip.path,
                start=clip.start,
                end=clip.end,
                tag=(clip, source),
                **self.settings,
            )

    def settle(self, outcome: Outcome) -> _Decoded | None:
        """What a decoder brought, or None where it failed."""
        clip, source = outcome.job.tag
        if outcome.batch is None or outcome.info is None:
            assert outcome.error is not None
            self.errors.append((clip, _reason(outcome.error)))
            return None
        return _Decoded(clip, source, outcome.batch, outcome.info)

    def drain(self, summary: Summary) -> None:
        """Brings store and summary up to date with failures and kept clips."""
        summary.kept = self.kept
        while self.errors:
            clip, reason = self.errors.popleft()
            with self.lock:
                self.store.fail(clip, reason)
            summary.failed[clip.id] = reason


def _add(
    feed: _Feed, backbone: Backbone, decoded: list[_Decoded], dtype: str, summary: Summary
) -> None:
    pixels = torch.stack([backbone.preprocess(one.batch.frames) for one in decoded])
    with np.errstate(over="ignore"):  # what overflows is found below
        features = backbone.forward(pixels).numpy().astype(np.dtype(dtype))
    for one, own in zip(decoded, features, strict=True):
        if not np.isfinite(own).all():
            feed.errors.append((one.clip, f"its features are not finite numbers in {dtype}"))
            continue
        with feed.lock:
            feed.store.add(
                one.clip,
                own,
                one.batch.index,
                one.batch.pts_seconds,
                source_sha256=one.source_sha256,
                claimed_frames=one.info.claimed_frames,
                shown_frames=one.info.shown_frames,
                bytes=one.info.bytes,
                notes=[*one.info.damage, *one.info.notes],
            )
        summary.done += 1
        summary.frames += len(one.batch)


def _reason(error: Exception) -> str:
    """Why a clip failed; beside its name the sentence need not name the file again."""
    if isinstance(error, VideoError):
        return error.reason
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
