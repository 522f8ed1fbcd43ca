"""A cache that is written from shards and from what it has: which clips it then has, and how."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from data.cache.consolidation import ChosenRows, Surveyed, choose_rows, relabelled_rows
from data.cache.errors import CacheError, DamagedCacheError
from data.cache.features import Features, clip_key
from data.cache.hdf5_reader import blank_features
from data.cache.hdf5_writer import WRITERS
from data.cache.label_changes import LabelChanges, label_changes
from data.cache.ledger import append_entries, ledger_path, now
from data.cache.parts import HERE, PartFiles, content_of, write_as_it_fits
from data.cache.rows import NewCache
from data.cache.shards import Shards
from data.cache.stored_clips import StoredClips, version_of_cache
from data.cache.verification import is_intact
from data.clips import Clip
from data.differences import first_difference
from data.digests import DigestMap, DigestTable, digest_of
from data.duplicates import Contradiction
from data.files import remove_own_file, sync_folder
from data.versions import common_versions, package_versions

ANOTHER = "choose another output or remove it"


class ConsolidatedCache:
    """The cache `target` between what it has and what the shards in the folder `parts` have.

    Memory holds the columns of one part at a time; digests of ids and keys are in files.

    Args:
        target: The cache, which may be a folder of parts.
        parts: The folder of shards.
        identity: Fingerprint, sampler and decoder.
        versions: Of packages and devices, to record of features that are added.
        in_place: Whether the clips of `target` stay in their order, and lost parts are left out.
        part_bytes: As for `data.cache.parts.write_as_it_fits`.
    """

    def __init__(
        self,
        target: Path,
        parts: Path,
        *,
        identity: Mapping[str, Any],
        versions: Mapping[str, str],
        in_place: bool,
        part_bytes: int | None = None,
    ) -> None:
        self.target, self.parts, self._part_bytes = target, parts, part_bytes
        self._identity, self._versions, self._in_place = identity, versions, in_place
        self._shape: tuple[tuple[int, ...], np.dtype[Any]] | None = None
        self._shards = Shards(self._shard, self._damaged, self._check_shape)
        self._keys = DigestMap()  # id of a clip that is done -> its key
        self._failures: dict[str, str] = {}
        self._videos: dict[str, str] = {}  # clips that are cut, or failed -> hash of their file
        self._outdated: set[str] = set()  # clips whose features in `target` are not kept
        self.contradictions: dict[str, str] = {}
        """Clips that `consolidate` left out for their objects -> why; they are among `failures`."""
        self.object_note = ""
        """What `consolidate` has to say about clips that share an object now."""
        self.changes: LabelChanges | None = None
        """What writing `target` changed of its clips; None where it was not, or had none."""

    def flush(self) -> None:
        """Write what was added."""
        raise NotImplementedError

    def fail(
        self, clip: Clip, reason: str, *, source_sha256: str | None = None, **details: Any
    ) -> None:
        """Record that a clip could not be extracted, and why."""
        raise NotImplementedError

    @property
    def output(self) -> Path:
        """The cache, as the user names it."""
        return self.target

    @property
    def failures(self) -> dict[str, str]:
        """The reason of each clip that failed in this run, by clip id."""
        return dict(self._failures)

    @property
    def earlier_failures(self) -> Sequence[tuple[str, str]]:
        """The clips that `target` says to have failed, and why."""
        return self._stored.failures

    @property
    def clips(self) -> Features | None:
        """All clips of `target` without their features, in memory; None where it has none."""
        return self._stored.columns()

    @property
    def has_clips(self) -> bool:
        """Whether `target` has any."""
        return len(self._stored) > 0

    @property
    def clip_ids(self) -> Iterator[str]:
        """The ids of the clips of `target`."""
        return (clip_id for clip_id, _ in self._stored.names())

    def unnamed(self, clips: Sequence[Clip]) -> tuple[str, ...]:
        """Return the ids of the clips of `target` that are not among `clips`."""
        numbers = self._stored.others(digest_of(clip.id) for clip in clips)
        return tuple(clip_id for clip_id, _ in self._stored.names(numbers.tolist()))

    @property
    def _files_of_parts(self) -> PartFiles:
        return HERE

    @property
    def _staging(self) -> Path:
        return self.parts / "consolidated"

    def _shard(self, name: str) -> Path:
        return self.parts / f"{name}.h5"

    def _damaged(self, shard: Path) -> DamagedCacheError:
        return DamagedCacheError(shard, f"{shard} is damaged or gone")

    def _read_target(self) -> None:
        try:
            self._stored = StoredClips(self.target, but_lost=self._in_place)
        except DamagedCacheError:
            raise
        except CacheError as error:
            raise CacheError(f"{error}; {ANOTHER}") from error
        if self._stored.shape is not None:
            self._refuse_other(self.output, self._stored.identity)
            shape, dtype = self._stored.shape
            self._check_shape("", blank_features((0, *shape), dtype))

    def _refuse_other(self, path: Path, identity: Mapping[str, Any]) -> None:
        if difference := first_difference(identity, self._identity):
            raise CacheError(
                f"{path} was made with {difference.option} {difference.left!r}, and this run has "
                f"{difference.right!r}; {ANOTHER}"
            )

    def check_shape(self, shape: tuple[int, int], dtype: DTypeLike) -> None:
        """Raise `CacheError` if features (T, D) of this shape and type do not fit the cache."""
        self._check_shape("", blank_features((0, *shape), np.dtype(dtype)))

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

    def require_one_unit(self, clips: Sequence[Clip]) -> None:
        """Raise `CacheError` if a label would have two units once these clips are extracted."""
        units: dict[str, str] = {}
        if self._stored.units:
            given = (digest_of(clip.id) for clip in clips if clip.table_sha256)
            if len(self._stored.others(given)):
                units |= self._stored.units
        for clip in clips:
            for label, unit in clip.units.items():
                if units.setdefault(label, unit) != unit:
                    raise CacheError(
                        f"{self.output}: {label} is in {units[label]!r}, and in {unit!r} for "
                        f"{clip.id}: a cache has one unit of a label; {ANOTHER}"
                    )

    def key(self, clip: Clip, source_sha256: str) -> str:
        """Return the hash of everything that the features of a clip depend on."""
        return clip_key(self._identity, source_sha256, clip.start, clip.end)

    def _note_failure(self, clip_id: str, reason: str, source_sha256: str | None) -> None:
        self._failures[clip_id] = reason
        self._keys.pop(digest_of(clip_id))
        if source_sha256 is not None:
            self._outdated.add(clip_id)
            self._videos[clip_id] = source_sha256

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
        changed = self._write(new, clips)
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
        given = dict.fromkeys(
            clip.id for clip in clips if clip.id in failed or clip.id in self._failures
        )
        order = [*(one for one in failed if one not in given), *given]
        failed |= self._failures
        surveyed = Surveyed.of(rows, failed)
        shape, dtype = self._shape or ((0, 0), np.dtype(np.float32))
        new = NewCache(
            rows=rows,
            shape=shape,
            dtype=dtype,
            identity=self._identity,
            failures=[(one, failed[one]) for one in order if one not in surveyed.extracted],
            versions=self._versions_of(rows),
            common=surveyed.common,
        )
        return new, surveyed

    def _versions_of(self, rows: ChosenRows) -> dict[str, str]:
        """Return what is recorded: what is true of all features, and the packages that write."""
        is_kept, is_new = rows.origins()
        records = [*self._stored.versions] if is_kept else []
        if is_new or not records:
            records.append(self._versions)
        return common_versions(records) | package_versions(*WRITERS)

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

    def _write(self, new: NewCache, clips: Sequence[Clip]) -> bool:
        """Write `target`, unless it is this already; return whether it was written."""
        if self._is_current(new):
            return False
        self._note_removed(new)
        if self.has_clips:
            columns = label_changes(self._stored, new)
            self.changes = LabelChanges(columns, unnamed=self.unnamed(clips))
        write_as_it_fits(
            self.target,
            new,
            staging=self._staging,
            files=self._files_of_parts,
            part_bytes=self._part_bytes,
        )
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
        if self._write(new, clips):
            self._read_target()
