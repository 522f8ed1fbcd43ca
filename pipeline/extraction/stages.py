"""The parts of an extraction: clips to decoders, what they decode through the backbone, to disk."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backbones import Backbone, BackboneError
from data.cache import Store
from data.clips import Clip
from data.errors import HeliographError
from data.files import sha256_file, version_of
from data.video import FrameBatch, Job, Outcome, VideoError, VideoInfo, check_regular_file

UNWRITTEN_BATCHES = 2  # how far the writer may lag behind the backbone


@dataclass
class Summary:
    """What an extraction did, so far; `failed` maps clip ids to reasons.

    `waited_seconds` is how long the backbone stood still for want of frames, `blocked_seconds` how
    long a decoder, on average, for want of a backbone that takes them.
    """

    target: Path
    clips: int
    done: int = 0
    kept: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    frames: int = 0
    seconds: float = 0.0
    waited_seconds: float = 0.0
    blocked_seconds: float = 0.0
    interrupted: bool = False

    @property
    def finished(self) -> int:
        """Clips of which nothing is left to do."""
        return self.done + self.kept + len(self.failed)

    @property
    def frames_per_second(self) -> float:
        return self.frames / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the pace of the clips that were worked on; None before the first."""
        worked_on = self.done + len(self.failed)
        if not worked_on:
            return None
        return self.seconds / worked_on * (self.clips - self.finished)

    @property
    def bottleneck(self) -> str | None:
        """The side that the other waits for: `decode` or `backbone`; None before the first clip."""
        if not self.done:
            return None
        return "decode" if self.waited_seconds > self.blocked_seconds else "backbone"

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values, and what follows from them."""
        names = ("frames_per_second", "bottleneck")
        return {
            **vars(self),
            "target": str(self.target),
            **{name: getattr(self, name) for name in names},
        }


@dataclass(frozen=True)
class Pixels:
    """What is left of a decoded clip: uint8 (T, 3, h, w), and which frames they are."""

    pixels: torch.Tensor
    index: np.ndarray
    pts_seconds: np.ndarray


@dataclass(frozen=True)
class Decoded:
    clip: Clip
    source_sha256: str
    seen: Pixels
    info: VideoInfo
    seconds: float


class Feed:
    """Hands clips to the decoders, and keeps account of those that need none.

    The decoder pool takes jobs in threads of its own, hence the lock around the store.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        store: Store,
        summary: Summary,
        report: Callable[[], None],
        settings: Mapping[str, Any],
        expected: Mapping[str, str],
    ) -> None:
        self.clips = clips
        self.store = store
        self.summary = summary
        self.report = report
        self.settings = settings
        self.expected = expected
        self.lock = threading.Lock()
        self.errors: deque[tuple[Clip, str, dict[str, Any]]] = deque()
        self.closed = False

    def close(self) -> None:
        """Ends `jobs`, which else would look through all clips that need none."""
        self.closed = True

    def jobs(self) -> Iterator[Job]:
        """A job for each clip whose features the store does not have."""
        for clip in self.clips:
            if self.closed:
                return
            try:
                check_regular_file(clip.path)
                version = version_of(clip.path)
                source = sha256_file(clip.path)
            except (HeliographError, OSError) as error:
                self.errors.append((clip, _reason(error), {}))
                continue
            if self.expected.get(clip.id, source) != source:
                reason = f"{clip.path} is another file than the one that it was extracted from"
                self.errors.append((clip, reason, {}))
                continue
            with self.lock:
                done = self.store.done(clip, source)
            if done:
                self.summary.kept += 1
                self.report()
                continue
            yield Job(
                path=clip.path,
                start=clip.start,
                end=clip.end,
                tag=(clip, source, version),
                **self.settings,
            )

    def settle(self, outcome: Outcome) -> Decoded | None:
        """What a decoder brought, or None where it failed."""
        clip, source, version = outcome.job.tag
        error = outcome.error or outcome.result
        if isinstance(outcome.result, Pixels) and outcome.info is not None:
            if version_of(clip.path) == version:
                return Decoded(clip, source, outcome.result, outcome.info, outcome.seconds)
            error = VideoError(clip.path, "the file changed while it was read")
        details: dict[str, Any] = {"source_sha256": source, "seconds": round(outcome.seconds, 4)}
        if outcome.info is not None:
            details |= _what_was_seen(outcome.info)
        self.errors.append((clip, _reason(error), details))
        return None

    def drain(self) -> None:
        """Brings store and summary up to date with failures."""
        while self.errors:
            clip, reason, details = self.errors.popleft()
            with self.lock:
                self.store.fail(clip, reason, **details)
            self.summary.failed[clip.id] = reason


class Line:
    """Decoded clips, through the backbone in batches, to the writer."""

    def __init__(self, backbone: Backbone, writer: Writer, size: int) -> None:
        self.backbone = backbone
        self.writer = writer
        self.size = size
        self.waiting: list[Decoded] = []

    def pixels(self, batch: FrameBatch) -> Pixels | BackboneError:
        """Small pixels of frames that lie in shared memory; runs in a thread of each decoder."""
        try:
            pixels = self.backbone.preprocess(batch.frames)
        except BackboneError as error:
            return error
        return Pixels(pixels, batch.index, batch.pts_seconds)

    def put(self, decoded: Decoded) -> None:
        """Takes a clip; where it fills the batch, the batch passes through the backbone."""
        self.waiting.append(decoded)
        if len(self.waiting) >= self.size:
            self.flush()

    def flush(self) -> None:
        """Passes the clips that wait, if any, through the backbone."""
        decoded, self.waiting = self.waiting, []
        if decoded:
            began = time.monotonic()
            pixels = [one.seen.pixels for one in decoded]
            # All passes have one shape, and so the same kernels: the last one is filled up.
            pixels += [pixels[-1]] * (self.size - len(pixels))
            features = self.backbone.forward(torch.stack(pixels))[: len(decoded)]
            self.writer.put(decoded, features.numpy(), time.monotonic() - began)


class Writer:
    """Writes shards in a thread of its own, a few batches behind the backbone at most."""

    def __init__(self, feed: Feed, dtype: np.dtype[Any]) -> None:
        self.feed, self.dtype = feed, dtype
        self.thread = ThreadPoolExecutor(1, "writer")
        self.unwritten: deque[Future[None]] = deque()

    def put(self, decoded: Sequence[Decoded], features: np.ndarray, seconds: float) -> None:
        """Takes features (clips, steps, dim) that took the backbone so long.

        Raises what the writing of an earlier batch raised.
        """
        self.unwritten.append(self.thread.submit(self._write, decoded, features, seconds))
        while len(self.unwritten) > UNWRITTEN_BATCHES or self.unwritten[0].done():
            self.unwritten.popleft().result()
            if not self.unwritten:
                break

    def finish(self) -> None:
        """Waits until everything is written; raises what that raised."""
        self.thread.shutdown()
        while self.unwritten:
            self.unwritten.popleft().result()

    def _write(self, decoded: Sequence[Decoded], features: np.ndarray, seconds: float) -> None:
        with np.errstate(over="ignore"):  # what overflows is found below
            rows = features.astype(self.dtype)
        for one, own in zip(decoded, rows, strict=True):
            details = {
                "source_sha256": one.source_sha256,
                "seconds": round(one.seconds, 4),
                "backbone_seconds": round(seconds / len(decoded), 4),
                "decoded_frames": len(one.seen.index),
                **_what_was_seen(one.info),
            }
            if not np.isfinite(own).all():
                reason = f"its features are not finite numbers in {self.dtype}"
                self.feed.errors.append((one.clip, reason, details))
                continue
            with self.feed.lock:
                self.feed.store.add(
                    one.clip,
                    own,
                    one.seen.index,
                    one.seen.pts_seconds,
                    **details,
                )
            self.feed.summary.done += 1
            self.feed.summary.frames += len(one.seen.index)


def _what_was_seen(info: VideoInfo) -> dict[str, Any]:
    return {
        "claimed_frames": info.claimed_frames,
        "shown_frames": info.shown_frames,
        "bytes": info.bytes,
        "notes": [*info.damage, *info.notes],
    }


def _reason(error: Exception) -> str:
    """Why a clip failed; beside its name the sentence need not name the file again."""
    if isinstance(error, VideoError):
        return error.reason
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
