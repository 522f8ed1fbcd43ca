"""The stages of an extraction: jobs for the decoders, the backbone, and the cache on disk.

Threads: the decoder pool draws jobs from `JobSource` in its own threads and shrinks frames in one
per decoder; the backbone has threads of its own (`BackboneBatcher`), as many as a CPU has cores;
one more writes shards (`ShardWriter`). What they share is the `ExtractionJournal`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backbones import Backbone, BackboneError, GpuError, machine_error
from data.cache import ShardStore, source_details
from data.clips import Clip, window_of
from data.digests import DigestTable, digest_of
from data.errors import HeliographError, OutOfMemoryError
from data.files import Address, HashedFile, Version, version_of
from data.remote import listed_version
from data.video import (
    KILLED,
    TIMEOUT,
    DecoderEnded,
    DecoderPool,
    FrameBatch,
    Job,
    Outcome,
    Sampling,
    VideoError,
    VideoInfo,
    WindowsJob,
    decoder_record,
)
from data.windows import Window, Windows, video_of
from data.wording import counted
from pipeline.extraction.summary import ExtractionSummary
from pipeline.extraction.thumbnails import thumbnails_of

MOST_DEATHS = 2  # of processes that decode, after which a clip is put aside
UNWRITTEN_CLIPS = 32  # how far the writer may lag behind the backbone


@dataclass(frozen=True)
class ClipPixels:
    """A clip as the backbone takes it.

    Attributes:
        pixels: uint8 (T, 3, h, w).
        index: int64 (T,), the indices of the frames.
        pts_seconds: float64 (T,), their times.
        thumbnails: uint8 (T, 16, 16), the same pixels small and grey.
    """

    pixels: torch.Tensor
    index: np.ndarray
    pts_seconds: np.ndarray
    thumbnails: np.ndarray


@dataclass(frozen=True)
class DecodedClip:
    """A clip with its pixels, the hash of its file, and the seconds that decoding took."""

    clip: Clip
    source: HashedFile
    frames: ClipPixels
    info: VideoInfo
    seconds: float

    @property
    def details(self) -> dict[str, Any]:
        """What the ledger has about the clip."""
        return {
            "seconds": round(self.seconds, 4),
            "decoded_frames": len(self.frames.index),
            **_stream_details(self.info),
            **source_details(self.source),
        }


@dataclass(frozen=True)
class ClipFeatures:
    """The features (steps, dim) of a clip, and the seconds that they took the backbone."""

    decoded: DecodedClip
    features: np.ndarray
    seconds: float


class ExtractionJournal:
    """The store and the summary of one extraction, shared by its threads.

    The store takes one call at a time. Failures may come from any thread; they are noted, and
    `record_failures` hands them to the store in the main thread.
    """

    def __init__(
        self,
        store: ShardStore,
        summary: ExtractionSummary,
        progress: Callable[[ExtractionSummary], None] | None,
    ) -> None:
        """Start the clock; `progress` is called by `report`."""
        self.summary = summary
        self._store = store
        self._progress = progress
        self._began = time.monotonic()
        self._store_lock = threading.Lock()
        self._progress_lock = threading.Lock()
        self._failures: deque[tuple[Clip, str, dict[str, Any]]] = deque()
        self._kept = DigestTable([("kept", "?")])  # by the id of a clip
        self._notes: list[Sequence[str]] = []  # that differ, of the files decoded so far
        self._numbers: dict[tuple[str, ...], int] = {}  # of notes in that list
        self._noted = DigestTable([("notes", "i8")])  # their number, by the hash of a file

    def cut(self, clip: Clip, source: HashedFile, parts: Sequence[Clip]) -> None:
        """Note that a clip of this file is cut into windows."""
        with self._store_lock:
            self._store.cut(clip, parts=parts, **source_details(source))
            self.summary.clips += len(parts) - 1

    def parts_of(self, clip: Clip) -> list[Clip]:
        """Return the windows of a clip that another process has cut; else the clip."""
        parts = self._store.parts_of(clip)
        self.summary.clips += len(parts) - 1
        return parts

    def report(self) -> None:
        """Call the progress callback, from one thread at a time."""
        with self._progress_lock:
            self.summary.seconds = time.monotonic() - self._began
            if self._progress is not None:
                self._progress(self.summary)

    def recorded_source(self, path: Path, version: Version | None = None) -> HashedFile | None:
        """Return the hash of a file that is as it was when it was hashed; None if it is not.

        Its version is looked up, unless it is given, as that of a file at an address is.
        """
        return self._store.sources.find(path, version)

    def deaths(self, clip: Clip, source: HashedFile) -> int:
        """Return how often a process has died while it decoded a clip of this file."""
        return self._store.deaths.get((clip.id, source.sha256), 0)

    def record_source(self, path: Path, source: HashedFile) -> None:
        """Note the hash of a file, which need not be read again."""
        self._store.sources.add(path, source)

    def keep(self, clip: Clip, source: HashedFile) -> bool:
        """Return whether the store has a clip's features already; if so they count as kept."""
        with self._store_lock:
            kept = self._store.is_done(clip, **source_details(source))
            if kept:
                self.note_kept(clip.id, source.sha256)
        if kept:
            self.report()
        return kept

    def offered(self, clips: Sequence[Clip]) -> Iterator[Clip]:
        """Yield the clips that are to be done here; others do, or have done, the rest."""
        return self._store.offer(clips, self.note_known)

    def note_known(self, clip: Clip, reason: str | None) -> None:
        """Count a clip that another process has done, or that failed there for a reason."""
        if reason is None:
            self.note_kept(clip.id)
        else:
            self.summary.failed[clip.id] = reason
        self.report()

    def note_kept(self, clip_id: str, source_sha256: str | None = None) -> None:
        """Count a clip whose features were there already; its file may be one that was decoded."""
        self._kept[digest_of(clip_id)] = (True,)
        self.summary.kept += 1
        noted = self._noted.get(digest_of(source_sha256)) if source_sha256 else None
        for note in self._notes[noted[0]] if noted else ():
            self.summary.add_note(clip_id, note)

    def note_done(
        self, clip_id: str, source_sha256: str, frames: int, notes: Sequence[str]
    ) -> None:
        """Count a clip that was extracted, with what is worth knowing about its file."""
        self.summary.done += 1
        self.summary.frames += frames
        if notes:
            number = self._numbers.setdefault(tuple(notes), len(self._notes))
            if number == len(self._notes):
                self._notes.append(tuple(notes))
            self._noted[digest_of(source_sha256)] = (number,)
        for note in notes:
            self.summary.add_note(clip_id, note)

    def add(self, decoded: DecodedClip, features: np.ndarray, details: Mapping[str, Any]) -> None:
        """Write a clip's features (steps, dim) to the store, with details for the ledger."""
        frames = decoded.frames
        with self._store_lock:
            self._store.add(
                decoded.clip,
                features,
                frames.index,
                frames.pts_seconds,
                thumbnails=frames.thumbnails,
                **details,
            )
        self.note_done(
            decoded.clip.id, decoded.source.sha256, len(frames.index), _notes(decoded.info)
        )

    def fail(self, clip: Clip, reason: str, details: Mapping[str, Any] | None = None) -> None:
        """Note that a clip failed, with details for the ledger."""
        self._failures.append((clip, reason, dict(details or {})))

    def withdraw(self, clip_id: str, reason: str) -> None:
        """Count a clip that was done or kept as failed: the store left it out."""
        self.uncount(clip_id)
        self.summary.failed[clip_id] = reason

    def uncount(self, clip_id: str) -> None:
        """Count a clip no longer that was done, kept or failed."""
        conditions = self.summary.conditions
        for note in [note for note, ids in conditions.items() if clip_id in ids]:
            conditions[note].remove(clip_id)
            if not conditions[note]:
                del conditions[note]
        if self.summary.failed.pop(clip_id, None) is not None:
            return
        if self._kept.get(digest_of(clip_id)) == (True,):
            self._kept[digest_of(clip_id)] = (False,)
            self.summary.kept -= 1
        else:
            self.summary.done -= 1

    def record_failures(self) -> None:
        """Bring the store and the summary up to date with the failures so far."""
        while self._failures:
            clip, reason, details = self._failures.popleft()
            with self._store_lock:
                self._store.fail(clip, reason, **details)
            self.summary.failed[clip.id] = reason


class JobSource:
    """Jobs for the decoders, one for each clip whose features the store does not have.

    With windows each clip is a video that becomes many clips, from one job.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        journal: ExtractionJournal,
        settings: Mapping[str, Any],
        expected_sha256: Mapping[str, str],
        windows: Windows | None = None,
        objects: Mapping[str, str] | None = None,
        *,
        rehash: bool = False,
        retry_failed: bool = False,
    ) -> None:
        """Prepare the jobs.

        Args:
            clips: what to extract.
            journal: of this extraction.
            settings: fields of `data.video.Job` that all jobs have.
            expected_sha256: id of a clip -> hash that its file must have; empty: it may have any.
            windows: how each clip is cut; None: it is not.
            objects: id of a clip -> object of its windows, as `objects_of_videos` gives it.
            rehash: whether to read also files that are as they were when they were hashed.
            retry_failed: whether to decode clips of which several processes have died.
        """
        self._clips = clips
        self._journal = journal
        self._settings = settings
        self._expected_sha256 = expected_sha256
        self._windows = windows
        self._objects = objects or {}
        self._rehash, self._retry_failed = rehash, retry_failed
        self._sources: dict[str, HashedFile] = {}  # of the clips that are being decoded
        self._cut: dict[str, list[Clip]] = {}  # the windows of each clip that could be cut
        self._info: dict[str, VideoInfo] = {}  # what is known of its file
        self._closed = False

    def close(self) -> None:
        """End `jobs`, which would otherwise look at all clips that follow."""
        self._closed = True

    def jobs(self) -> Iterator[Job]:
        """Yield the jobs; a clip that is found to need none is recorded in the journal."""
        for clip in self._journal.offered(self._clips):
            if self._closed:
                return
            listed = listed_version(clip.path)
            source = None if self._rehash else self._journal.recorded_source(clip.path, listed)
            if source is not None and not self._is_wanted(clip, source):
                continue
            if listed is not None:  # the server is asked again when it is fetched
                source = None
            fields: dict[str, Any] = {
                "path": clip.path.joinpath(),  # the clip's own would keep what is asked of it
                "start": clip.start,
                "end": clip.end,
                "tag": clip,
                "wanted": partial(self._is_wanted, clip) if source is None else None,
                "recorded": None
                if self._rehash
                else partial(self._journal.recorded_source, clip.path),
                **self._settings,
            }
            if self._windows is not None:
                choose = partial(self._choose, clip)
                yield WindowsJob(windows=self._windows, choose=choose, **fields)
            else:
                yield Job(**fields)

    def _is_wanted(self, clip: Clip, source: HashedFile) -> bool:
        """Return whether a clip of this file is to be decoded; called by several threads."""
        if self._closed:
            return False
        if self._expected_sha256.get(clip.id) not in (None, "", source.sha256):
            reason = f"{clip.path} is another file than the one that it was extracted from"
            self._journal.fail(clip, reason)
            return False
        self._journal.record_source(clip.path, source)
        deaths = self._journal.deaths(clip, source)
        if deaths >= MOST_DEATHS and not self._retry_failed:
            reason = f"{deaths} decoders died of it: it is put aside (--retry-failed tries again)"
            self._journal.fail(clip, reason, {**source_details(source), "deaths": deaths})
            return False
        if self._windows is None and self._journal.keep(clip, source):
            return False
        self._sources[clip.id] = source
        return True

    def clips(self) -> Sequence[Clip]:
        """Return the clips of the cache: those given, windows in place of each that was cut."""
        for clip in self._clips:
            if clip.id not in self._cut and (parts := self._journal.parts_of(clip)) != [clip]:
                self._cut[clip.id] = parts
        if not self._cut:
            return self._clips
        return [part for clip in self._clips for part in self._cut.get(clip.id, [clip])]

    def cut_otherwise(self, known: Iterable[str]) -> list[str]:
        """Return those of the ids that are windows of a clip that was cut, and not these ones."""
        if not self._cut:
            return []
        cut = {part.id for parts in self._cut.values() for part in parts}
        return [one for one in known if video_of(one) in self._cut and one not in cut]

    def _choose(self, clip: Clip, windows: Sequence[Window]) -> Sequence[Window]:
        """Return the windows whose features the store does not have."""
        object, source = self._objects[clip.id], self._sources[clip.id]
        self._cut[clip.id] = parts = [window_of(clip, w, object=object) for w in windows]
        self._journal.cut(clip, source, parts)
        return [
            window
            for window, part in zip(windows, parts, strict=True)
            if not self._closed and not self._journal.keep(part, source)
        ]

    def result(self, outcome: Outcome) -> DecodedClip | None:
        """Return the decoded clip of a job; None, recorded in the journal, if it failed."""
        clip, info = outcome.job.tag, outcome.info
        find = self._sources.pop if self._windows is None else self._sources.get
        source = find(clip.id, None)  # None: the file could not be read
        if outcome.window is not None:
            if info is not None:
                self._info[clip.id] = info
            info = self._info.get(clip.id)
            clip = window_of(clip, outcome.window, object=self._objects[clip.id])
        error = outcome.error or outcome.result
        if isinstance(outcome.result, ClipPixels) and info is not None and source is not None:
            if isinstance(clip.path, Address) or version_of(clip.path) == source.version:
                return DecodedClip(clip, source, outcome.result, info, outcome.seconds)
            error = VideoError(clip.path, "the file changed while it was read")
        details: dict[str, Any] = {"seconds": round(outcome.seconds, 4)}
        if info is not None:
            details |= _stream_details(info)
        if source is not None:
            details |= source_details(source)
            died = isinstance(error, DecoderEnded) and not error.reason.startswith(TIMEOUT)
            if died and outcome.window is None:
                details["deaths"] = self._journal.deaths(clip, source) + 1
        self._journal.fail(clip, _reason(error), details)
        return None


class BackboneBatcher:
    """Decoded clips through the backbone, and on to the writer; use it in a `with` block.

    A GPU takes a batch of clips in one pass, while the next batch is on its way; where its memory
    is too small for a pass, passes take half as many clips from then on. A CPU takes clips one by
    one, several at a time, so that all its cores have something to do. What the backbone does to a
    clip costs that clip; a batch that fails is tried clip by clip.
    """

    def __init__(
        self, backbone: Backbone, writer: ShardWriter, journal: ExtractionJournal, batch: int
    ) -> None:
        """Start with nothing to do; `batch` is the number of clips in one pass of a GPU."""
        self._backbone, self._writer, self._journal = backbone, writer, journal
        self._size = 1 if backbone.device.type == "cpu" else batch
        self._at_once = backbone.calls_at_once
        self._halving = threading.Lock()
        self._threads = ThreadPoolExecutor(self._at_once, "backbone")
        self._running: set[Future[list[ClipFeatures]]] = set()
        self._waiting: list[DecodedClip] = []

    def __enter__(self) -> BackboneBatcher:
        """Return itself."""
        return self

    @property
    def clips_in_a_pass(self) -> int:
        """How many clips a pass takes now."""
        return self._size

    def __exit__(self, *exception: object) -> None:
        """Leave out what has not begun, and wait for the rest."""
        self._threads.shutdown(cancel_futures=True)

    def shrink(self, batch: FrameBatch) -> ClipPixels | Exception:
        """Return the pixels for the backbone; runs in a thread of each decoder.

        The frames lie in memory that the decoder uses again. An error is returned, not raised.
        """
        try:
            pixels = self._backbone.preprocess(batch.frames)
            thumbnails = thumbnails_of(pixels.numpy())
        except Exception as error:
            return error
        return ClipPixels(pixels, batch.index, batch.pts_seconds, thumbnails)

    def put(self, decoded: DecodedClip) -> None:
        """Take a clip; wait where the backbone has enough to do.

        Raises:
            Exception: what no clip is to blame for: a lack of memory, a full disk.
        """
        self._waiting.append(decoded)
        if len(self._waiting) >= self._size:
            self._start()
            self._collect(FIRST_COMPLETED)

    def flush(self) -> None:
        """Finish the clips so far.

        Raises:
            Exception: as for `put`.
        """
        if self._waiting:
            self._start()
        self._collect(ALL_COMPLETED)

    def _start(self) -> None:
        decoded, self._waiting = self._waiting, []
        self._running.add(self._threads.submit(self._run, decoded))

    def _collect(self, until: str) -> None:
        """Pass what is finished to the writer; wait for it first if as much as may runs."""
        if len(self._running) >= self._at_once or until == ALL_COMPLETED:
            wait(self._running, return_when=until)
        for future in [future for future in self._running if future.done()]:
            self._running.remove(future)
            for features in future.result():
                self._writer.put(features)

    def _run(self, decoded: Sequence[DecodedClip]) -> list[ClipFeatures]:
        """Return the features of clips, without those that fail."""
        began, size = time.monotonic(), self._size
        try:
            features = self._features(decoded, size)
        except OutOfMemoryError:
            if size == 1:
                raise
            smaller = self._halve(size)
            parts = [decoded[at : at + smaller] for at in range(0, len(decoded), smaller)]
            return [features for part in parts for features in self._run(part)]
        except GpuError:
            raise
        except Exception as error:
            if len(decoded) == 1:
                self._journal.fail(decoded[0].clip, _reason(error), decoded[0].details)
                return []
            return [features for clip in decoded for features in self._run([clip])]
        seconds = (time.monotonic() - began) / len(decoded)
        return [
            ClipFeatures(clip, of_clip, seconds)
            for clip, of_clip in zip(decoded, features, strict=True)
        ]

    def _halve(self, size: int) -> int:
        """Return how many clips a pass takes from now on, after one of so many did not fit."""
        with self._halving:
            if self._size == size:  # another thread may have found it, too
                self._size = size // 2
                if self._backbone.device.type == "mps":
                    torch.mps.empty_cache()
                else:
                    torch.cuda.empty_cache()
            return self._size

    def _features(self, decoded: Sequence[DecodedClip], size: int) -> np.ndarray:
        """Return features (clips, steps, dim) of a pass of `size` clips."""
        pixels = [clip.frames.pixels for clip in decoded]
        # All passes have one shape, and so the same kernels: a batch is filled up.
        pixels += [pixels[-1]] * (size - len(pixels))
        features = self._backbone.forward(torch.stack(pixels))[: len(decoded)].numpy()
        frames = pixels[0].shape[0]
        expected = (len(decoded), self._backbone.steps(frames), self._backbone.dim)
        if features.shape != expected:
            raise BackboneError(f"the backbone gave features {features.shape}, not {expected}")
        return features


class ShardWriter:
    """Writes shards in a thread of its own, at most a few clips behind the backbone."""

    def __init__(self, journal: ExtractionJournal, dtype: np.dtype[Any]) -> None:
        """Start the thread; `dtype` is that of the features on disk."""
        self._journal, self._dtype = journal, dtype
        self._thread = ThreadPoolExecutor(1, "writer")
        self._unwritten: deque[Future[None]] = deque()

    def put(self, computed: ClipFeatures) -> None:
        """Queue the features of a clip.

        Raises:
            Exception: what the writing of an earlier clip raised.
        """
        self._unwritten.append(self._thread.submit(self._write, computed))
        while len(self._unwritten) > UNWRITTEN_CLIPS or self._unwritten[0].done():
            self._unwritten.popleft().result()
            if not self._unwritten:
                break

    def finish(self) -> None:
        """Wait until everything is written.

        Raises:
            Exception: what the writing raised.
        """
        self._thread.shutdown()
        while self._unwritten:
            self._unwritten.popleft().result()

    def _write(self, computed: ClipFeatures) -> None:
        decoded = computed.decoded
        details = decoded.details | {"backbone_seconds": round(computed.seconds, 4)}
        with np.errstate(over="ignore"):  # an overflow is found below
            features = computed.features.astype(self._dtype)
        if np.isfinite(features).all():
            self._journal.add(decoded, features, details)
        else:
            reason = f"its features are not finite numbers in {self._dtype}"
            self._journal.fail(decoded.clip, reason, details)


def made_with(
    backbone: Backbone, sampling: Sampling, decoder: str, batch: int | None
) -> dict[str, dict[str, Any]]:
    """Return what a store has to know of how features are made.

    What changes them by rounding is among the versions: recorded, but no part of a clip's key.
    """
    if backbone.device.type != "cpu":
        clips = counted(batch or backbone.batch(sampling.frames), "clip")
        is_apple = backbone.device.type == "mps"
        device = "Apple GPU" if is_apple else torch.cuda.get_device_name(backbone.device)
        versions = {"device": device, "pass": f"{clips}, fewer where memory ran out"}
    else:
        versions = {"device": "CPU", "pass": f"{backbone.pass_rule}, one thread"}
    return {
        "fingerprint": backbone.fingerprint,
        "sampler": sampling.describe(),
        "decoder": decoder_record(decoder),
        "versions": versions,
    }


def run_stages(
    source: JobSource,
    journal: ExtractionJournal,
    backbone: Backbone,
    *,
    sampling: Sampling,
    dtype: str,
    workers: int,
    batch: int | None,
) -> None:
    """Take the clips of a source through decoders and backbone to the store, until Ctrl-C.

    Args:
        source: of the clips.
        journal: of the extraction.
        backbone: what is applied to them.
        sampling: of their frames.
        dtype: of the features on disk.
        workers: processes that decode.
        batch: clips in one pass of a GPU; None: as many as `Backbone.batch` says.
    """
    batch = batch or backbone.batch(sampling.frames)
    writer = ShardWriter(journal, np.dtype(dtype))
    try:
        with BackboneBatcher(backbone, writer, journal, batch) as batcher:
            gpu = backbone.device.index if backbone.device.type == "cuda" else None
            _decode_all(source, batcher, journal, workers, gpu=gpu)
            batcher.flush()
        if (fits := batcher.clips_in_a_pass) < batch and backbone.device.type != "cpu":
            journal.summary.notes.append(
                f"the GPU's memory did not hold a pass of {counted(batch, 'clip')}: the last "
                f"ones had {fits}, with which --batch {fits} begins"
            )
    except KeyboardInterrupt:
        journal.summary.interrupted = True
    finally:
        writer.finish()
    journal.record_failures()
    journal.report()


def _decode_all(
    source: JobSource,
    batcher: BackboneBatcher,
    journal: ExtractionJournal,
    workers: int,
    *,
    gpu: int | None,
) -> None:
    """Decode every clip and pass it to the backbone."""
    summary = journal.summary
    with (
        DecoderPool(workers=workers, gpu=gpu) as pool,
        closing(pool.map(source.jobs(), transform=batcher.shrink)) as outcomes,
        closing(source),
    ):
        asked = time.monotonic()
        for outcome in outcomes:
            summary.waited_seconds += time.monotonic() - asked
            summary.blocked_seconds = pool.blocked_seconds / workers
            decoded = source.result(outcome)
            if decoded is not None:
                batcher.put(decoded)
            journal.record_failures()
            journal.report()
            asked = time.monotonic()


def _notes(info: VideoInfo) -> list[str]:
    """Return what is worth knowing about a file that is accepted."""
    return [*info.damage, *info.notes, *info.conditions]


def _stream_details(info: VideoInfo) -> dict[str, Any]:
    return {
        "claimed_frames": info.claimed_frames,
        "shown_frames": info.shown_frames,
        "bytes": info.bytes,
        "notes": _notes(info),
    }


def _reason(error: Exception) -> str:
    """Return why a clip failed; it is shown next to the clip's name, so it need not name it."""
    if isinstance(error, VideoError):
        return f"{KILLED}: try fewer --workers" if error.reason == KILLED else error.reason
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, HeliographError):
        return str(error)
    if isinstance(error, MemoryError) or machine_error(error):
        return "there is too little memory for its frames: try fewer --workers"
    return f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")
