"""The folder of shards behind a cache that is being extracted: resumable, and never half-written.

Beside `spring.h5` lie, while clips are being extracted,

    spring.h5.parts/<key>.h5     one shard per clip, itself a small cache, published whole by rename
    spring.h5.parts/store.json   fingerprint, sampler and decoder, with which all of them were made
    spring.h5.parts/lock         held by the process that writes; it only saves duplicate work
    spring.h5.ledger.jsonl       one line per clip and run: outcome, reason, frames, seconds, bytes

`consolidate` streams shards and earlier clips into one new `spring.h5`, and then removes the shards
that are in it: from there on the consolidated file is what the next run resumes from. The folder
goes when it is empty; the ledger stays. A failed clip is tried again by every run.
"""

import errno
import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from math import isnan
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from data.cache.features import CacheError, Features
from data.cache.hdf5_reader import blank, read_table, seal_is_intact
from data.cache.hdf5_writer import package_versions, write
from data.cache.rows import IDENTITY, Row, header, rows_of, write_rows
from data.clips import Clip
from data.differences import first_difference
from data.files import WriteError, atomic_write, sweep_temporaries, sync_folder
from data.lock import Lock

_ANOTHER = "choose another output or remove it"


class Store:
    """Collects the features of clips for the cache `target`; use it in a `with` block.

    All features of a cache share `fingerprint`, `sampler` and `decoder`: an existing `target` or
    folder of shards that was made with others is refused, naming the field. `repair` names clips of
    `target` whose features are not to be trusted, and keeps the others in their places. Raises
    `BusyError` while another process writes the same cache.
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
        self.parts = self.target.with_name(self.target.name + ".parts")
        self.ledger = ledger_path(self.target)
        self._identity = _as_json(
            {"fingerprint": fingerprint, "sampler": sampler, "decoder": decoder}
        )
        self._versions = {**package_versions(), **(versions or {})}
        self._shape: tuple[tuple[int, ...], np.dtype[Any]] | None = None
        self._keys: dict[str, str] = {}
        self._failures: dict[str, str] = {}
        self._outdated: set[str] = set()  # clips whose features in `target` are not to be kept
        self._lock = Lock(self.parts / "lock", self.target)
        try:
            self._read_target()
            self._open_parts()
            self.forget(repair)
        except BaseException:
            self.close()
            raise

    def _read_target(self) -> None:
        try:
            self._old = read_table(self.target) if self.target.exists() else None
        except CacheError as error:
            raise CacheError(f"{error}; {_ANOTHER}") from error
        self._old_rows: dict[str, int] = {}
        if self._old:
            self._refuse_other(
                self.target, {name: getattr(self._old.clips, name) for name in IDENTITY}
            )
            self._old_rows = {key: row for row, key in enumerate(self._old.clips.key) if key}
            if len(self._old.clips):
                self._check_shape("", self._old.clips.features)

    def _open_parts(self) -> None:
        sweep_temporaries(self.parts)
        sweep_temporaries(self.target.parent, of=self.target.name)
        note = self.parts / "store.json"
        if note.exists():
            try:
                found = dict(json.loads(note.read_bytes()))
            except (ValueError, TypeError) as error:
                raise CacheError(f"{self.parts}: {note.name} is damaged; {_ANOTHER}") from error
            self._refuse_other(self.parts, found)
        else:
            if not self._old:
                self.ledger.unlink(missing_ok=True)
            atomic_write(note, json.dumps(self._identity, indent=1, sort_keys=True))
        _drop_torn_line(self.ledger)
        if self._shape is None:
            # A damaged shard goes when its clip is asked for.
            shards = self.parts.glob("[0-9a-f]*.h5")
            if sound := next(filter(seal_is_intact, shards), None):
                self._check_shape("", read_table(sound).clips.features)

    def _refuse_other(self, path: Path, found: Mapping[str, Any]) -> None:
        if difference := first_difference(found, self._identity):
            raise CacheError(
                f"{path} was made with {difference.name} {difference.left!r}, and this run has "
                f"{difference.right!r}; {_ANOTHER}"
            )

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the lock; the folder of shards goes when no shard is left in it."""
        if self._lock.held and next(self.parts.glob("*.h5"), None) is None:
            (self.parts / "store.json").unlink(missing_ok=True)
        self._lock.release()

    @property
    def failures(self) -> dict[str, str]:
        """Clip id -> reason, of this run."""
        return dict(self._failures)

    def expect(self, shape: tuple[int, int], dtype: DTypeLike) -> None:
        """Raise `CacheError` unless features (T, D) of this kind go with those that are kept."""
        self._check_shape("", blank((0, *shape), np.dtype(dtype)))

    def key(self, clip: Clip, source_sha256: str) -> str:
        """Hash of everything that the features of a clip depend on."""
        return self._key(source_sha256, clip.start, clip.end)

    def _key(self, source_sha256: str, start: float | None, end: float | None) -> str:
        source = {"source_sha256": source_sha256, "start": start, "end": end}
        return hashlib.sha256(
            json.dumps({**self._identity, **source}, sort_keys=True).encode()
        ).hexdigest()

    def done(self, clip: Clip, source_sha256: str) -> bool:
        """Whether the features of this clip are kept already; a damaged shard of it is removed."""
        key = self.key(clip, source_sha256)
        shard = self._shard(key)
        if key not in self._old_rows:
            if not shard.exists():
                return False
            if not seal_is_intact(shard):
                shard.unlink()
                self._note(clip, "damaged", key=key, reason=f"{shard} is damaged")
                return False
        self._keys[clip.id] = key
        self._note(clip, "kept", key=key)
        return True

    def forget(self, clip_ids: Collection[str]) -> None:
        """Do not trust what `target` holds for these clips: `done` will say no (for repair)."""
        if self._old:
            ids = set(clip_ids)
            self._outdated |= ids
            for clip, key in zip(self._old.clips.clip_id, self._old.clips.key, strict=True):
                if clip in ids:
                    self._old_rows.pop(key, None)

    def add(
        self,
        clip: Clip,
        features: NDArray[Any],
        frame_index: NDArray[np.int64],
        pts_seconds: NDArray[np.float64],
        *,
        source_sha256: str,
        **details: Any,
    ) -> None:
        """Keep the features (T, D) of a clip, seen at frames (F,) and seconds (F,), for good.

        `details` (claimed and decoded frames, seconds, bytes) go into the ledger. Raises
        `CacheError` for features that are not finite or not of the shape of the others,
        `WriteError` on a full disk.
        """
        features = np.asarray(features)
        key = self.key(clip, source_sha256)
        one = Features(
            features=features[None],
            clip_id=[clip.id],
            object=[clip.object],
            scenario=[clip.scenario],
            labels={name: np.array([value]) for name, value in clip.labels.items()},
            frame_index=np.asarray(frame_index)[None],
            pts_seconds=np.asarray(pts_seconds)[None],
            source_sha256=[source_sha256],
            key=[key],
            versions=self._versions,
            **self._identity,
        )
        self._check_shape(f"{clip.id}: ", one.features)
        if not np.isfinite(features).all():
            raise CacheError(f"{clip.id}: its features are not finite numbers")
        write(self._shard(key), one, [one.features])
        self._keys[clip.id] = key
        self._failures.pop(clip.id, None)
        labels = {name: None if isnan(value) else value for name, value in clip.labels.items()}
        who = {"object": clip.object, "scenario": clip.scenario, "labels": labels}
        self._note(clip, "done", key=key, source_sha256=source_sha256, **who, **details)

    def fail(
        self, clip: Clip, reason: str, *, source_sha256: str | None = None, **details: Any
    ) -> None:
        """Record that a clip could not be extracted, and why.

        source_sha256: None where its file could not even be read. Features that `target` has of it
        then stay: nothing says that they are out of date.
        """
        self._failures[clip.id] = reason
        if source_sha256 is not None:
            self._outdated.add(clip.id)
            details["source_sha256"] = source_sha256
        self._note(clip, "failed", reason=reason, **details)

    def consolidate(self, clips: Sequence[Clip]) -> Path:
        """Write `target`: its earlier clips that are not among `clips`, then `clips` in this order.

        Identities and labels are those of `clips`. Of a clip that is neither done nor failed (after
        Ctrl-C), or whose file could not be read, `target` keeps what it has. Memory holds no
        features but those of one clip. The shards that are in the new file are removed. Raises
        `CacheError` when a shard or an earlier row is damaged.
        """
        given = {clip.id for clip in clips}
        earlier: dict[str, Row] = {}
        failed: dict[str, str] = {}
        if self._old:
            earlier = {row.clip.id: row for row in rows_of(self.target, self._old)}
            failed = dict(self._old.clips.failures)
        rows = [row for clip, row in earlier.items() if clip not in given]
        rows += self._given_rows(clips, earlier)
        if self._old and self._in_place:
            places = {clip: place for place, clip in enumerate(self._old.clips.clip_id)}
            rows.sort(key=lambda row: places.get(row.clip.id, len(places)))
        order = [*(clip for clip in failed if clip not in given), *(clip.id for clip in clips)]
        failed |= self._failures
        have = {row.clip.id for row in rows}
        failures = [(clip, failed[clip]) for clip in order if clip in failed and clip not in have]
        shape, dtype = self._shape or ((0, 0), np.dtype(np.float32))
        new = header(
            rows,
            shape,
            dtype,
            identity=self._identity,
            failures=failures,
            versions=self._versions,
        )
        if not self._is_current(new, rows):
            write_rows(self.target, new, rows)
            self._read_target()
        for key in set(new.key):
            self._shard(key).unlink(missing_ok=True)
        sync_folder(self.parts)
        return self.target

    def _given_rows(self, clips: Sequence[Clip], earlier: Mapping[str, Row]) -> Iterator[Row]:
        for clip in clips:
            key = self._keys.get(clip.id)
            if key is None:
                if clip.id in earlier and clip.id not in self._outdated:
                    yield earlier[clip.id]
            elif self._old and key in self._old_rows:
                yield Row.of(clip, self.target, self._old, self._old_rows[key])
            else:
                table = read_table(self._shard(key))
                self._check_shape(f"{clip.id}: ", table.clips.features)
                yield Row.of(clip, self._shard(key), table, 0)

    def _is_current(self, new: Features, rows: Sequence[Row]) -> bool:
        """Whether `target` holds exactly this already, intact, whatever packages wrote it."""
        if not self._old or self._old.clips.features.shape != new.features.shape:
            return False
        if any(row.path != self.target or row.number != at for at, row in enumerate(rows)):
            return False
        same = replace(self._old.clips, features=new.features, versions=new.versions)
        return not same.differences(new) and seal_is_intact(self.target)

    def _check_shape(self, who: str, features: NDArray[Any]) -> None:
        shape = (features.shape[1:], features.dtype)
        if self._shape is None:
            self._shape = shape
        if shape != self._shape:
            raise CacheError(
                f"{who}features of {shape[1]} {shape[0]}, and the cache {self.target} has "
                f"{self._shape[1]} {self._shape[0]}"
            )

    def _shard(self, key: str) -> Path:
        return self.parts / f"{key}.h5"

    def _note(self, clip: Clip, outcome: str, **details: Any) -> None:
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        times = {"start": clip.start, "end": clip.end}
        where: dict[str, Any] = {"path": os.path.abspath(clip.path)}
        where |= {name: value for name, value in times.items() if value is not None}
        line = json.dumps({"time": time, "clip": clip.id, "outcome": outcome, **where, **details})
        content = (line + "\n").encode()
        before = None
        try:
            with open(self.ledger, "ab", buffering=0) as file:
                before = file.tell()
                if file.write(content) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if before is not None:
                os.truncate(self.ledger, before)
            raise WriteError(f"{self.ledger} cannot be written: {error.strerror}") from error


def ledger_path(target: Path) -> Path:
    """Where the ledger of a cache lies."""
    return target.with_name(target.name + ".ledger.jsonl")


def read_ledger(target: Path) -> list[dict[str, Any]]:
    """The lines of a cache's ledger, oldest first; empty when there is none."""
    path = ledger_path(target)
    if not path.exists():
        return []
    entries = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:  # what follows the last newline is torn
            entry = json.loads(line)
            if not isinstance(entry["clip"], str) or not isinstance(entry["outcome"], str):
                raise TypeError
        except (ValueError, KeyError, TypeError) as error:
            raise CacheError(f"{path} is damaged in line {number}") from error
        entries.append(entry)
    return entries


def _as_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """What the value is once it has been through JSON (lists for tuples, and no sharing)."""
    return json.loads(json.dumps(value, sort_keys=True, allow_nan=False))


def _drop_torn_line(path: Path) -> None:
    """Cut off the part of a line that a killed process left at the end of a ledger."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole != len(content):
        os.truncate(path, whole)
