"""The folder of shards of a cache that is being extracted: resumable, and never half-written.

While clips are being extracted, these are next to `spring.h5`:

    spring.h5.parts/<hash>.h5    a shard: a batch of clips, itself a small cache under the hash of
                                 its content, published whole by rename
    spring.h5.parts/store.json   fingerprint, sampler and decoder with which all shards were made
    spring.h5.parts/lock         held by the process that writes; it only saves duplicate work
    spring.h5.ledger.jsonl       what became of each clip: outcome, reason, frames, seconds, bytes

A batch is written once it has `BATCH_CLIPS` clips or is `BATCH_SECONDS` old. Earlier versions wrote
a shard for each clip, under the clip's key; such shards are read as well.

`consolidate` streams shards and earlier clips into one new `spring.h5`, and then removes the shards
that are in it: the next run resumes from the consolidated file. There is no `spring.h5` without a
single clip. The folder is removed once it is empty; the ledger stays. Every run tries failed clips
again.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from data.cache.batches import Batch
from data.cache.consolidated_cache import ANOTHER, ConsolidatedCache
from data.cache.errors import INDEX, CacheError, shards_of
from data.cache.features import Features
from data.cache.hdf5_reader import screen_all
from data.cache.hdf5_writer import WRITERS, write_cache
from data.cache.ledger import (
    append_entries,
    compact_ledger,
    entry_of,
    ledger_entries,
    ledger_path,
    read_deaths,
    warn_of_damage,
)
from data.cache.parts import (
    columns_of,
    finish_staging,
    refuse_lone_parts,
)
from data.cache.recorded_sources import RecordedSources
from data.cache.shards import read_shard
from data.cache.verification import is_intact
from data.clips import Clip
from data.digests import digest_of
from data.errors import HeliographError
from data.files import (
    UnsafeFileError,
    atomic_write,
    open_regular,
    remove_own_file,
    require_own_file,
    sweep_temporaries,
)
from data.lock import Lock
from data.versions import package_versions

NOTE = "store.json"


class ShardStore(ConsolidatedCache):
    """Collector of the features of clips for the cache `target`; use it in a `with` block.

    What `is_done`, `add` and `fail` are told is written with its batch, at the latest where the
    block ends. Any thread may call.

    Args:
        target: The cache to write, which may be a folder of parts; what it holds is kept.
        fingerprint: What all features of the cache share, with `sampler` and `decoder`.
        sampler: How frames are chosen.
        decoder: What decodes them.
        versions: Versions of packages to record, with those of the packages that write.
        repair: Ids of clips of `target` whose features are computed again; the order of the clips
            in `target` then stays, and so does what else it has, but for parts that are lost.
        part_bytes: Features and thumbnails of a file at most, as for `extract`.

    Raises:
        CacheError: `target` or its folder of shards was made with another fingerprint, sampler or
            decoder (the message names the field), or is damaged.
        BusyError: Another process writes the same cache.
        UnsafeFileError: A link, FIFO, device or folder is where `target`, its ledger or a file in
            its folder of shards is to be written, or a file with several names.
        WriteError: The folder of shards cannot be made.
    """

    def __init__(
        self,
        target: Path | str,
        *,
        fingerprint: Mapping[str, Any],
        sampler: Mapping[str, Any],
        decoder: Mapping[str, Any],
        versions: Mapping[str, str] | None = None,
        repair: Collection[str] = (),
        part_bytes: int | None = None,
    ) -> None:
        self.target = Path(target)
        if not self.target.name:
            raise CacheError(f"{str(target)!r} is a folder, not the name of a cache")
        made = {"fingerprint": fingerprint, "sampler": sampler, "decoder": decoder}
        super().__init__(
            self.target,
            self._folder(),
            identity=_as_json(made),
            versions={**package_versions(*WRITERS), **(versions or {})},
            in_place=bool(repair),
            part_bytes=part_bytes,
        )
        self._guard = threading.RLock()
        self._batch = Batch()
        self._timer: threading.Timer | None = None
        self._sound: set[str] = set()  # shards whose features were checked, or written here
        self._lost: dict[int, Path] = {}  # key -> the damaged shard in which it was
        self.sources = RecordedSources()
        """The hashes of sources that the ledger has."""
        self.deaths: dict[tuple[str, str], int] = {}
        """Clip id and hash of its file -> how often a process that decoded it has died."""
        refuse_lone_parts(self.target)
        if not (self.target / INDEX).exists():
            require_own_file(self.target)  # now, and not after hours of extraction
        require_own_file(ledger_path(self.target))
        if self.parts.is_symlink() or (self.parts.exists() and not self.parts.is_dir()):
            kind = "a symbolic link" if self.parts.is_symlink() else "something else"
            raise UnsafeFileError(
                f"{self.parts} is {kind}, not a folder of shards; remove it, or choose another "
                "output"
            )
        self._lock: Lock | None = None
        try:
            self._acquire()
            if self._lock is not None:
                finish_staging(self._staging, self.target)
            self._read_target()
            self._open_parts()
            self.forget(repair)
        except BaseException:
            self.close()
            raise

    def _folder(self) -> Path:
        return shards_of(self.target)

    def _acquire(self) -> None:
        self._lock = Lock(self.parts / "lock", self.target)

    def _open_parts(self) -> None:
        sweep_temporaries(self.parts)
        sweep_temporaries(self.target.parent, of=self.target.name)
        note = self.parts / NOTE
        require_own_file(note)
        if os.path.lexists(note):
            self._refuse_other(self.parts, read_note(note))
        else:
            if not len(self._stored):
                remove_own_file(ledger_path(self.target))
            atomic_write(note, json.dumps(self._identity, indent=1, sort_keys=True))
        damage = compact_ledger(self.target, self._read_earlier)
        if damage:
            self.sources, self.deaths = RecordedSources(), {}
            warn_of_damage(damage)
        self._list_shards(has_ledger=not damage)

    def _read_earlier(self, entry: Mapping[str, Any]) -> None:
        """Learn from an entry of the ledger of earlier runs."""
        self.sources.read(entry)
        read_deaths(entry, self.deaths)

    def _list_shards(self, *, has_ledger: bool) -> None:
        """Learn what is in the shards; damaged ones are removed, and their clips done again."""
        shards = sorted(self.parts.glob("[0-9a-f]*.h5"))
        refused = screen_all(shards)
        damaged: set[str] = set()
        for shard in shards:
            metadata = None if shard in refused else read_shard(shard)
            if metadata is None:
                remove_own_file(shard)
                damaged.add(shard.stem)
                continue
            self._shards.add(shard.stem, metadata.clips.key)
            if self._shape is None:
                self._check_shape("", metadata.clips.features)
        if damaged and has_ledger:
            for entry in ledger_entries(self.target):
                if (name := shard_of(entry)) in damaged:
                    self._lost[digest_of(entry["key"])] = self._shard(name)

    def __getstate__(self) -> NoReturn:
        """Refuse to be copied into another process, which would not hold the lock."""
        raise TypeError(f"the store of {self.target} cannot be pickled: it holds a lock")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.flush()
        except HeliographError:
            if error is None:
                raise
        finally:
            self.close()

    def close(self) -> None:
        """Release the lock; remove the folder of shards if no shard is left in it.

        What is not flushed is lost.
        """
        with self._guard:
            self._begin_anew()
        if self._lock is None:
            return
        if self._lock.held and next(self.parts.glob("*.h5"), None) is None:
            with suppress(UnsafeFileError):  # what somebody else put there stays
                remove_own_file(self.parts / NOTE)
        self._lock.release()

    def is_done(self, clip: Clip, source_sha256: str, **details: Any) -> bool:
        """Return whether the features of this clip are there already.

        If so the ledger notes it, with more details. A damaged shard of the clip is removed.
        """
        with self._guard:
            key = self.key(clip, source_sha256)
            if not self._has(key):
                if shard := self._lost.pop(digest_of(key), None):
                    self._record(clip, "damaged", key=key, reason=f"{shard} is damaged")
                return False
            self._keys[digest_of(clip.id)] = digest_of(key)
            details["source_sha256"] = source_sha256
            self._record(clip, "kept", key=key, **details)
            return True

    def _has(self, key: str) -> bool:
        """Return whether the features of a key are there; damaged shards are removed."""
        digest = digest_of(key)
        if key in self._batch.keys or digest in self._stored.keys:
            return True
        name = self._shards.name_of(digest)
        return name is not None and self._require_sound(name)

    def _require_sound(self, name: str) -> bool:
        """Return whether a shard has the features that were written; it is removed if not."""
        if name not in self._sound:
            shard = self._shard(name)
            if not is_intact(shard):
                remove_own_file(shard)
                self._lost |= dict.fromkeys(self._shards.forget(name), shard)
                return False
            self._sound.add(name)
        return True

    def _record(self, clip: Clip, outcome: str, **details: Any) -> None:
        """Have the ledger note what became of a clip, with the next batch."""
        self._start_batch()
        self._batch.entries.append(entry_of(clip, outcome, **details))
        self._flush_if_due()

    def forget(self, clip_ids: Collection[str]) -> None:
        """Have the features of these clips computed again: `is_done` becomes False for them."""
        if clip_ids:
            self._outdated.update(clip_ids)
            self._stored.forget(clip_ids)

    def add(
        self,
        clip: Clip,
        features: NDArray[Any],
        frame_index: NDArray[np.int64],
        pts_seconds: NDArray[np.float64],
        *,
        source_sha256: str,
        thumbnails: NDArray[np.uint8] | None = None,
        **details: Any,
    ) -> None:
        """Have the features of a clip written to a shard.

        Args:
            clip: The clip; its identity and labels go into the shard.
            features: Features (T, D).
            frame_index: Indices (F,) of the frames that they are of.
            pts_seconds: Presentation times (F,) of these frames.
            source_sha256: Hash of the bytes of the clip's file.
            thumbnails: The frames (F, h, w), small and grey; None: there are none.
            details: More for the ledger (claimed and decoded frames, seconds, bytes).

        Raises:
            CacheError: The features are not finite, or not of the shape of the others.
            WriteError: The disk is full or not writable.
        """
        features = np.asarray(features)
        row = Features(
            features=features[None],
            clip_id=[clip.id],
            object=[clip.object],
            scenario=[clip.scenario],
            labels={name: np.array([value]) for name, value in clip.labels.items()},
            frame_index=np.asarray(frame_index)[None],
            pts_seconds=np.asarray(pts_seconds)[None],
            source_sha256=[source_sha256],
            key=[self.key(clip, source_sha256)],
            start=np.array([clip.start], dtype=np.float64),
            end=np.array([clip.end], dtype=np.float64),
            thumbnails=np.empty((0, 0, 0, 0), np.uint8) if thumbnails is None else thumbnails[None],
            versions=self._versions,
            **self._identity,
        )
        self._check_shape(f"{clip.id}: ", row.features)
        if not np.isfinite(features).all():
            raise CacheError(f"{clip.id}: its features are not finite numbers")
        self._keep(clip, row, details)

    def _keep(self, clip: Clip, row: Features, details: Mapping[str, Any]) -> None:
        """Have a clip's features, a cache of one row, written with the next batch."""
        with self._guard:
            if not self._batch.fits(row):
                self.flush()
            self._start_batch()
            self._batch.add(clip, row, details)
            self._keys[digest_of(clip.id)] = digest_of(row.key[0])
            self._failures.pop(clip.id, None)
            self._flush_if_due()

    def _start_batch(self) -> None:
        if self._timer is None:
            self._batch.began = time.monotonic()
            self._timer = threading.Timer(self._batch.seconds_left, self._flush_late)
            self._timer.daemon = True
            self._timer.start()

    def _flush_late(self) -> None:
        with suppress(HeliographError, OSError):  # whoever adds the next clip is told
            self.flush()

    def _flush_if_due(self) -> None:
        if self._batch.is_due:
            self.flush()

    def _begin_anew(self) -> None:
        self._batch = Batch()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def flush(self) -> None:
        """Write what was added as one shard, and then what the ledger says of it.

        Raises:
            WriteError: The disk is full or not writable; the next `flush` tries again.
        """
        with self._guard:
            if not self._batch:
                return
            shard, name = self._batch.shard(), ""
            if shard is not None:
                name = shard.content_sha256
                write_cache(self._shard(name), shard, [shard.features], [shard.thumbnails])
                self._shards.add(name, shard.key)
                self._sound.add(name)
            entries = self._batch.all_entries(name)
            self._append(entries)
            self._begin_anew()

    def _append(self, entries: Sequence[dict[str, Any]]) -> None:
        """Append entries to the ledger."""
        append_entries(ledger_path(self.target), entries)

    def fail(
        self, clip: Clip, reason: str, *, source_sha256: str | None = None, **details: Any
    ) -> None:
        """Record that a clip could not be extracted, and why.

        Without `source_sha256` (its file could not be read) features that `target` has of it stay:
        nothing shows that they are out of date. With it the clip's windows of another file go.
        """
        if source_sha256 is not None:
            details["source_sha256"] = source_sha256
        with self._guard:
            self._note_failure(clip.id, reason, source_sha256)
            self._record(clip, "failed", reason=reason, **details)

    def refresh(self) -> None:
        """Learn what other processes have done: nothing."""

    def offer(
        self, clips: Sequence[Clip], known: Callable[[Clip, str | None], None]
    ) -> Iterator[Clip]:
        """Yield the clips that are to be done here: all of them."""
        yield from clips

    def finish(
        self, clips: Sequence[Clip], known: Callable[[Clip, str | None], None]
    ) -> list[Clip]:
        """Return the clips that are left to others: none."""
        return []

    def parts_of(self, clip: Clip) -> list[Clip]:
        """Return the windows of a clip that another process has cut; else the clip."""
        return [clip]

    def cut(self, clip: Clip, source_sha256: str, parts: Sequence[Clip], **details: Any) -> None:
        """Note that a clip is cut into windows, with details for a ledger that others read.

        That it failed in an earlier run is forgotten, and so are its windows of another file.
        """
        self._videos[clip.id] = source_sha256


def shard_of(entry: Mapping[str, Any]) -> str:
    """Return the name of the shard in which a clip is by its entry; of older ones it is the key."""
    return str(entry.get("shard") or entry.get("key") or "")


def read_note(path: Path) -> dict[str, Any]:
    """Return how the shards of a folder were made, by its note.

    Raises:
        CacheError: It is damaged.
    """
    try:
        with open_regular(path) as file:
            return dict(json.loads(file.read()))
    except (ValueError, TypeError) as error:
        raise CacheError(f"{path.parent}: {path.name} is damaged; {ANOTHER}") from error


def sweep_shards(target: Path) -> None:
    """Remove the shards of a sound cache that are in it already: a killed run may leave them.

    Raises:
        CacheError: The shards were made otherwise than the cache.
        BusyError: Another process writes the same cache.
    """
    if not shards_of(target).is_dir():
        return
    made = columns_of(target)
    with ShardStore(target, **made.identity) as store:
        store._remove_shards(store._stored.keys)


def _as_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value as JSON reads it back: lists for tuples, nothing shared."""
    return json.loads(json.dumps(value, sort_keys=True, allow_nan=False))
