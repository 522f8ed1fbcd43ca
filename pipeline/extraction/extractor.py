"""What an actor on a node of a cluster or of a device does: clips that come a few at a time.

An `Extractor` has a backbone, decoder processes and a writer of shards (`JoinedStore`). The driver
(`pipeline.extraction.actors`) hands it clips by `exchange`, and takes what became of others.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from backbones import Backbone, machine_error
from data.cache import Features, JoinedStore
from data.clips import Clip
from data.errors import HeliographError
from data.video import Limits, Sampling
from pipeline.cluster import portable
from pipeline.extraction.stages import ExtractionJournal, JobSource, made_with, run_stages
from pipeline.extraction.summary import ExtractionSummary

EXCHANGE_SECONDS = 0.5  # that `exchange` takes, unless clips or all work are at an end
LOOK_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class ExtractorSettings:
    """What all actors of an extraction have in common; fields are those of `extract`."""

    sampling: Sampling
    decoder: str
    accept_damaged: bool
    dtype: str
    batch: int | None
    rehash: bool
    retry_failed: bool
    limits: Limits


@dataclass(frozen=True)
class ClipOutcome:
    """What became of a clip: `done`, `kept` or `failed`."""

    clip: str
    outcome: str
    reason: str = ""
    source_sha256: str = ""
    frames: int = 0
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """The news of an actor.

    Attributes:
        outcomes: of the clips since the last report. They are in a shard when it has ended.
        waiting: clips that it has and has not begun.
        waited_seconds: as in `ExtractionSummary`, since it began.
        blocked_seconds: as well.
        ended: whether all clips are done and written, after the last of them was handed over.
    """

    outcomes: Sequence[ClipOutcome]
    waiting: int
    waited_seconds: float
    blocked_seconds: float
    ended: bool


class Feed:
    """Clips that are still coming: a sequence of which nothing is known but the next one."""

    def __init__(self) -> None:
        self._clips: queue.SimpleQueue[Clip | None] = queue.SimpleQueue()

    def put(self, clips: Sequence[Clip]) -> None:
        """Add clips."""
        for clip in clips:
            self._clips.put(clip)

    def end(self) -> None:
        """Let the last of the clips be the last one."""
        self._clips.put(None)

    def __len__(self) -> int:
        return self._clips.qsize()

    def __iter__(self) -> Iterator[Clip]:
        while (clip := self._clips.get()) is not None:
            yield clip


class _Store(JoinedStore):
    """The store of an actor: it takes the clips that it is handed, and tells what became of each.

    Its ledger says where that was. Of a cache at an address it needs no copy: the driver has one.
    """

    _reads_target = False

    def __init__(
        self, target: Path, outcomes: deque[ClipOutcome], where: Mapping[str, str], **made: Any
    ) -> None:
        self._outcomes, self._where = outcomes, where
        super().__init__(target, **made)

    def offer(
        self, clips: Sequence[Clip], known: Callable[[Clip, str | None], None]
    ) -> Iterator[Clip]:
        """Yield the clips as they come: the driver holds the claims."""
        yield from clips

    def _keep(self, clip: Clip, row: Features, details: Mapping[str, Any]) -> None:
        super()._keep(clip, row, {**details, **self._where})
        outcome = ClipOutcome(
            clip.id,
            "done",
            source_sha256=row.source_sha256[0],
            frames=details["decoded_frames"],
            notes=details["notes"],
        )
        self._outcomes.append(outcome)

    def _record(self, clip: Clip, outcome: str, **details: Any) -> None:
        super()._record(clip, outcome, **details, **self._where)
        source_sha256 = details.get("source_sha256", "")
        self._outcomes.append(
            ClipOutcome(clip.id, outcome, details.get("reason", ""), source_sha256)
        )


class Extractor:
    """Extracts clips as they are handed over; an actor is one of these."""

    def __init__(
        self,
        load: Callable[[], Backbone],
        settings: ExtractorSettings,
        *,
        cores: int,
        where: Mapping[str, str],
    ) -> None:
        """Do nothing yet.

        Args:
            load: gives the backbone.
            settings: of the extraction.
            cores: how many decoders there are, and how many passes run at once on a CPU.
            where: names of the `node` or the `device`, for the ledger, which has the `host`, too.
        """
        self._load, self._settings, self._cores = load, settings, cores
        self._where = {"host": socket.gethostname(), **where}
        self._outcomes: deque[ClipOutcome] = deque()
        self._ended = threading.Event()
        self._error: Exception | None = None

    def describe(self) -> tuple[dict[str, Any], tuple[int, int]]:
        """Load the backbone; return how features are made, and the shape (steps, dim) of a clip's.

        Raises:
            HeliographError: the backbone cannot be had, or there is no such decoder.
        """
        torch.set_num_threads(self._cores)
        settings = self._settings
        with self._portable_errors():
            self._backbone = self._load()
            self._made = made_with(
                self._backbone, settings.sampling, settings.decoder, settings.batch
            )
            self._shape = self._backbone.steps(settings.sampling.frames), self._backbone.dim
        return self._made, self._shape

    def begin(self, target: Path, seen: Sequence[Path]) -> None:
        """Start to work on clips that `exchange` will hand over.

        Args:
            target: the cache.
            seen: files that the driver sees.

        Raises:
            HeliographError: this node does not see one of them, or the cache is made otherwise.
        """
        for path in seen:
            if not path.exists():
                raise HeliographError(
                    f"{socket.gethostname()} does not see {path}: clips and --out must be in "
                    "folders that all nodes of the cluster share, or at addresses (s3://, gs://)"
                )
        settings = self._settings
        with self._portable_errors():
            store = _Store(
                target,
                self._outcomes,
                self._where,
                **self._made,
                retry_failed=settings.retry_failed,
            )
            with _closed_on_error(store):
                store.check_shape(self._shape, settings.dtype)
        self._ended, self._feed = threading.Event(), Feed()
        self._summary = ExtractionSummary(target, 0)
        journal = ExtractionJournal(store, self._summary, None)
        self._source = JobSource(
            cast(Sequence[Clip], self._feed),
            journal,
            {
                "sampling": settings.sampling,
                "decoder": settings.decoder,
                "accept_damaged": settings.accept_damaged,
                "limits": settings.limits,
            },
            {},
            rehash=settings.rehash,
            retry_failed=settings.retry_failed,
        )
        threading.Thread(target=self._work, args=(store, journal), daemon=True).start()

    def _work(self, store: JoinedStore, journal: ExtractionJournal) -> None:
        settings = self._settings
        try:
            with store:
                run_stages(
                    self._source,
                    journal,
                    self._backbone,
                    sampling=settings.sampling,
                    dtype=settings.dtype,
                    workers=self._cores,
                    batch=settings.batch,
                )
                store.flush()
        except Exception as error:
            self._error = error
        finally:
            self._ended.set()

    def exchange(self, clips: Sequence[Clip], *, last: bool = False, stop: bool = False) -> Report:
        """Take clips, and return the news of others after a moment, for each call costs both sides.

        Args:
            clips: to do.
            last: whether no more will come.
            stop: whether to leave out the clips that are not begun.

        Raises:
            HeliographError: it had to end: a lack of memory, a full disk.
        """
        self._feed.put(clips)
        if stop:
            self._source.close()
        if last or stop:
            self._feed.end()
        deadline = time.monotonic() + EXCHANGE_SECONDS
        while not self._ended.wait(LOOK_SECONDS):
            is_out_of_clips = not (len(self._feed) or last or stop)
            if (is_out_of_clips and self._outcomes) or time.monotonic() > deadline:
                break
        ended = self._ended.is_set()  # before the outcomes are taken
        if self._error is not None:
            with self._portable_errors():
                raise self._error
        outcomes = []
        while self._outcomes:
            outcomes.append(self._outcomes.popleft())
        return Report(
            outcomes,
            waiting=len(self._feed),
            waited_seconds=self._summary.waited_seconds,
            blocked_seconds=self._summary.blocked_seconds,
            ended=ended,
        )

    @contextmanager
    def _portable_errors(self) -> Iterator[None]:
        """Raise an error of which another process can make the same, with where it was."""
        try:
            yield
        except Exception as error:
            found = machine_error(error) or error
            if isinstance(found, HeliographError):
                raise portable(found, self._where.get("device", self._where["host"])) from None
            raise


@contextmanager
def _closed_on_error(store: JoinedStore) -> Iterator[None]:
    try:
        yield
    except BaseException:
        store.close()
        raise
