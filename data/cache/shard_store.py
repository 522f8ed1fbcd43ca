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
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from data.cache.batches import Batch
from data.cache.consolidation import ChosenRows, Surveyed, choose_rows, relabelled_rows
from data.cache.errors import INDEX, CacheError, DamagedCacheError, shards_of
from data.cache.features import Features, clip_key
from data.cache.hdf5_reader import blank_features, screen_all
from data.cache.hdf5_writer import WRITERS, write_cache
from data.cache.joining import IDENTITY_FIELDS
from data.cache.ledger import (
    append_entries,
    compact_ledger,
    entry_of,
    ledger_entries,
    ledger_path,
    now,
    read_deaths,
)
from data.cache.parts import (
    HERE,
    PartFiles,
    columns_of,
    content_of,
    finish_staging,
    write_as_it_fits,
)
from data.cache.recorded_sources import RecordedSources
from data.cache.rows import NewCache
from data.cache.shards import Shards, read_shard
from data.cache.stored_clips import StoredClips, version_of_cache
from data.cache.verification import is_intact
from data.clips import Clip
from data.differences import first_difference
from data.digests import DigestMap, DigestTable, digest_of
from data.duplicates import Contradiction
from data.errors import HeliographError
from data.files import (
    UnsafeFileError,
    atomic_write,
    open_regular,
    remove_own_file,
    require_own_file,
    sweep_temporaries,
    sync_folder,
)
from data.lock import Lock
from data.versions import package_versions

NOTE = "store.json"
_ANOTHER = "choose another output or remove it"


class ShardStore:
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
    ) -> None:
        self.target = Path(target)
        if not self.target.name:
            raise CacheError(f"{str(target)!r} is a folder, not the name of a cache")
        self._in_place = bool(repair)
        self.parts = self._folder()
        self._identity = _as_json(
            {"fingerprint": fingerprint, "sampler": sampler, "decoder": decoder}
        )
        self._versions = {**package_versions(*WRITERS), **(versions or {})}
        self._shape: tuple[tuple[int, ...], np.dtype[Any]] | None = None
        self._guard = threading.RLock()
        self._batch = Batch()
        self._timer: threading.Timer | None = None
        self._shards = Shards(self._shard, self._damaged, self._check_shape)
        self._sound: set[str] = set()  # shards whose features were checked, or written here
        self._lost: dict[int, Path] = {}  # key -> the damaged shard in which it was
        self._keys = DigestMap()  # id of a clip that is done -> its key
        self._failures: dict[str, str] = {}
        self.sources = RecordedSources()
        """The hashes of sources that the ledger has."""
        self.deaths: dict[tuple[str, str], int] = {}
        """Clip id and hash of its file -> how often a process that decoded it has died."""
        self.contradictions: dict[str, str] = {}
        """Clips that `consolidate` left out for their objects -> why; they are among `failures`."""
        self.object_note = ""
        """What `consolidate` has to say about clips that share an object now."""
        self.replaced: Features | None = None
        """What `clips` was before it was written here; None where it was not, or had no clips."""
        self._videos: dict[str, str] = {}  # clips that are cut, or failed -> hash of their file
        self._outdated: set[str] = set()  # clips whose features in `target` are not kept
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

    @property
    def output(self) -> Path:
        """The cache, as the user names it."""
        return self.target

    def _folder(self) -> Path:
        return shards_of(self.target)

    def _acquire(self) -> None:
        self._lock = Lock(self.parts / "lock", self.target)

    def _read_target(self) -> None:
        try:
            self._stored = StoredClips(self.target, but_lost=self._in_place)
        except DamagedCacheError:
            raise
        except CacheError as error:
            raise CacheError(f"{error}; {_ANOTHER}") from error
        if self._stored.shape is not None:
            self._refuse_other(self.output, self._stored.identity)
            shape, dtype = self._stored.shape
            self._check_shape("", blank_features((0, *shape), dtype))

    @property
    def _files_of_parts(self) -> PartFiles:
        return HERE

    @property
    def _staging(self) -> Path:
        return self.parts / "consolidated"

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
        sound = compact_ledger(self.target, self._read_earlier)
        if not sound:
            self.sources, self.deaths = RecordedSources(), {}
        self._list_shards(has_ledger=sound)

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

    def _refuse_other(self, path: Path, identity: Mapping[str, Any]) -> None:
        if difference := first_difference(identity, self._identity):
            raise CacheError(
                f"{path} was made with {difference.option} {difference.left!r}, and this run has "
                f"{difference.right!r}; {_ANOTHER}"
            )

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

    @property
    def failures(self) -> dict[str, str]:
        """The reason of each clip that failed in this run, by clip id."""
        return dict(self._failures)

    def check_shape(self, shape: tuple[int, int], dtype: DTypeLike) -> None:
        """Raise `CacheError` if features (T, D) of this shape and type do not fit the cache."""
        self._check_shape("", blank_features((0, *shape), np.dtype(dtype)))

    def key(self, clip: Clip, source_sha256: str) -> str:
        """Return the hash of everything that the features of a clip depend on."""
        return clip_key(self._identity, source_sha256, clip.start, clip.end)

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

    def _note_failure(self, clip_id: str, reason: str, source_sha256: str | None) -> None:
        self._failures[clip_id] = reason
        self._keys.pop(digest_of(clip_id))
        if source_sha256 is not None:
            self._outdated.add(clip_id)
            self._videos[clip_id] = source_sha256

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

    def consolidate(self, clips: Sequence[Clip]) -> Path:
        """Write `target`: its earlier clips that are not among `clips`, then `clips` in this order.

        Objects, scenarios, labels and units are those that the table of a clip says. A clip of no
        table, which was found in a folder or named by itself, keeps what `target` knows of it and
        it does not say. Clips of equal content have one object, and of two with different ones that
        of `clips` which comes later fails. Of a clip that is neither done nor failed (after
        Ctrl-C), or whose file could not be read, `target` keeps what it has. Memory holds the
        features of one clip at a time. The shards that are in the new file are removed. Without a
        single clip there is no file.

        Raises:
            CacheError: A shard or an earlier row is damaged, or a label has two units.
            WriteError: The disk is full or not writable; `target` stays as it was.
        """
        self.flush()
        if version_of_cache(self.target) != self._stored.version:
            self._read_target()  # on a file system without locks another process may have written
        new = self._with_objects(self._rows(clips), clips)
        if not len(new) and not self.target.is_dir():
            remove_own_file(self.target)
            sync_folder(self.target.parent)
            self._read_target()
            return self.target
        changed = self._write(new)
        del new  # before `target` is read
        if changed:
            self._read_target()
        self._remove_shards(self._stored.keys)
        self.flush()  # clips that were left out for their objects
        return self.target

    def _with_objects(self, rows: ChosenRows, clips: Sequence[Clip]) -> NewCache:
        """Return what is to be written, with the objects that clips of equal content share."""
        new, surveyed = self._survey(rows, clips)
        if self._in_place:  # a repair changes no object
            return new
        shared = surveyed.shared_objects(rows, self._identity)
        if self._leave_out(shared.contradictions, clips):
            rows = rows.but(self.contradictions)
            new, surveyed = self._survey(rows, clips)
            shared = surveyed.shared_objects(rows, self._identity)
        self.object_note = shared.note
        return replace(new, objects=shared.objects)

    def _remove_shards(self, keys: DigestTable) -> None:
        """Remove the shards all of whose clips `target` has."""
        for name in self._shards.forget_within(keys):
            remove_own_file(self._shard(name))
        sync_folder(self.parts)

    def relabel(self, clips: Sequence[Clip], *, prune: bool = False) -> None:
        """Write `target` with the objects, scenarios, labels and units of `clips`, found by id.

        Other clips stay as they are, unless `prune` removes them. Features and keys stay.

        Raises:
            CacheError: An earlier row is damaged, or a label has two units.
            WriteError: The disk is full or not writable; `target` stays as it was.
        """
        if not len(self._stored):
            return
        rows = relabelled_rows(clips, self._stored, self._shards, prune=prune)
        new, _ = self._survey(rows, clips)
        if prune:
            given = {clip.id for clip in clips}
            new = replace(new, failures=[one for one in new.failures if one[0] in given])
        if self._write(new):
            self._read_target()

    def _write(self, new: NewCache) -> bool:
        """Write `target`, unless it is this already; return whether it was written."""
        if self._is_current(new):
            return False
        self._note_removed(new)
        self.replaced = self.clips
        write_as_it_fits(self.target, new, staging=self._staging, files=self._files_of_parts)
        return True

    def _note_removed(self, new: NewCache) -> None:
        """Have the ledger say which clips leave `target`, so that nobody looks for them."""
        if not isinstance(new.rows, ChosenRows) or not os.path.lexists(ledger_path(self.target)):
            return
        gone = (one for one, _ in self._stored.names(new.rows.left_out().tolist()))
        entries = [
            {"time": now(), "clip": clip, "outcome": "removed"}
            for clip in gone
            if clip not in self._failures
        ]
        if entries:
            append_entries(ledger_path(self.target), entries)

    @property
    def clips(self) -> Features | None:
        """All clips of `target` without their features, in memory; None where it has none."""
        return self._stored.columns()

    @property
    def has_clips(self) -> bool:
        """Whether `target` has any."""
        return len(self._stored) > 0

    def unnamed(self, clips: Sequence[Clip]) -> tuple[str, ...]:
        """Return the ids of the clips of `target` that are not among `clips`."""
        numbers = self._stored.others(digest_of(clip.id) for clip in clips)
        return tuple(clip_id for clip_id, _ in self._stored.names(numbers.tolist()))

    @property
    def clip_ids(self) -> Iterator[str]:
        """The ids of the clips of `target`."""
        return (clip_id for clip_id, _ in self._stored.names())

    def require_one_unit(self, clips: Sequence[Clip]) -> None:
        """Raise `CacheError` if a label would have two units once these clips are extracted."""
        units: dict[str, str] = {}
        if self._stored.units:
            given = {clip.id for clip in clips if clip.table_sha256}
            if not given.issuperset(self.clip_ids):
                units |= self._stored.units
        for clip in clips:
            for label, unit in clip.units.items():
                if units.setdefault(label, unit) != unit:
                    raise CacheError(
                        f"{self.output}: {label} is in {units[label]!r}, and in {unit!r} for "
                        f"{clip.id}: a cache has one unit of a label; {_ANOTHER}"
                    )

    def _rows(self, clips: Sequence[Clip]) -> ChosenRows:
        """Return what `target` has of other clips, then what there is of `clips`."""
        return choose_rows(
            clips,
            self._stored,
            self._shards,
            self._keys,
            outdated=self._outdated,
            videos=self._videos,
            in_place=self._in_place,
        )

    def _survey(self, rows: ChosenRows, clips: Sequence[Clip]) -> tuple[NewCache, Surveyed]:
        """Return rows as a cache, with the failures of `clips` and of those before them."""
        failed = dict(self._stored.failures)
        for clip_id in self._videos:
            failed.pop(clip_id, None)
        given = [clip.id for clip in clips if clip.id in failed or clip.id in self._failures]
        order = list(dict.fromkeys([*(one for one in failed if one not in set(given)), *given]))
        failed |= self._failures
        surveyed = Surveyed.of(rows, failed)
        shape, dtype = self._shape or ((0, 0), np.dtype(np.float32))
        new = NewCache(
            rows=rows,
            shape=shape,
            dtype=dtype,
            identity=self._identity,
            failures=[(one, failed[one]) for one in order if one not in surveyed.extracted],
            versions=self._versions,
            common=surveyed.common,
        )
        return new, surveyed

    def _leave_out(self, contradictions: Sequence[Contradiction], clips: Sequence[Clip]) -> bool:
        """Fail clips whose object contradicts an earlier one; return whether there are any."""
        named = {contradiction.later.clip for contradiction in contradictions}
        by_id = {clip.id: clip for clip in clips if clip.id in named}
        for contradiction in contradictions:
            earlier, later = contradiction.earlier, contradiction.later
            if clip := by_id.get(later.clip):
                reason = (
                    f"same content as {earlier.clip!r} of object {earlier.object!r}, but object "
                    f"{later.object!r}: give both one object, or change the objects of the cache "
                    "(heliograph cache label CACHE TABLE)"
                )
                self.fail(clip, reason, source_sha256=later.source)
                self.contradictions[clip.id] = reason
        return bool(self.contradictions)

    def _is_current(self, new: NewCache) -> bool:
        """Return whether `target` holds exactly this already, intact, written by any version.

        Another table with the same values is no reason to write it again: runs know it by its hash.
        """
        if not self._stored.is_up_to_date or not len(new) or len(new) != len(self._stored):
            return False
        rows = new.rows
        if not isinstance(rows, ChosenRows) or not rows.are_where_they_were():
            return False
        before = self._stored.tables
        tables = {label: before[label] for label in new.common.labels if label in before}
        as_it_was = replace(new, common=replace(new.common, tables=tables))
        content = as_it_was.content_sha256(self.parts)
        return content == content_of(self.target) and is_intact(self.target)

    def _check_shape(self, prefix: str, features: NDArray[Any]) -> None:
        shape = (features.shape[1:], features.dtype)
        if self._shape is None:
            self._shape = shape
        if shape != self._shape:
            kept = self._shape[1]
            way_out = f"; go on with --dtype {kept}" if shape[0] == self._shape[0] else ""
            raise CacheError(
                f"{prefix}features of {shape[1]} {shape[0]}, and the cache {self.output} has "
                f"{kept} {self._shape[0]}{way_out}"
            )

    def _shard(self, name: str) -> Path:
        return self.parts / f"{name}.h5"

    def _damaged(self, shard: Path) -> DamagedCacheError:
        return DamagedCacheError(shard, f"{shard} is damaged or gone")


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
        raise CacheError(f"{path.parent}: {path.name} is damaged; {_ANOTHER}") from error


def sweep_shards(target: Path) -> None:
    """Remove the shards of a sound cache that are in it already: a killed run may leave them.

    Raises:
        CacheError: The shards were made otherwise than the cache.
        BusyError: Another process writes the same cache.
    """
    if not shards_of(target).is_dir():
        return
    made = columns_of(target)
    with ShardStore(target, **{name: getattr(made, name) for name in IDENTITY_FIELDS}) as store:
        store._remove_shards(store._stored.keys)


def _as_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value as JSON reads it back: lists for tuples, nothing shared."""
    return json.loads(json.dumps(value, sort_keys=True, allow_nan=False))
