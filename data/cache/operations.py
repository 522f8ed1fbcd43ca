"""The feature cache: read, write, describe, verify and merge `*.h5` files."""

import hashlib
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.cache import hdf5_reader, hdf5_writer
from data.cache.features import CacheError, Features
from data.cache.hdf5_reader import Table
from data.cache.rows import IDENTITY, Row, header, rows_of, write_rows
from data.cache.shard_store import Store, ledger_path, read_ledger
from data.differences import first_difference
from data.files import version_of

__all__ = [
    "CacheError",
    "Features",
    "Problem",
    "Store",
    "info",
    "ledger_path",
    "load",
    "merge",
    "read_ledger",
    "save",
    "verify",
]


def load(path: Path | str) -> Features:
    """Read a cache; raises `CacheError` with the file and the reason for anything else."""
    return hdf5_reader.read(Path(path))


def save(features: Features, path: Path | str) -> None:
    """Write a cache whole, by rename; raises `WriteError` and leaves an older file as it was.

    The ledger of an older file goes with it.
    """
    hdf5_writer.write(Path(path), features, _blocks(features.features))
    ledger_path(Path(path)).unlink(missing_ok=True)


def info(path: Path | str) -> dict[str, Any]:
    """What a cache holds and how it came to be, ready for JSON; its features are not read."""
    path = Path(path)
    clips = hdf5_reader.read_table(path).clips
    count, steps, dimensions = clips.features.shape
    return {
        "path": str(path),
        "bytes": path.stat().st_size,
        "schema_version": hdf5_reader.SCHEMA_VERSION,
        "created": clips.created,
        "clips": count,
        "steps": steps,
        "dimensions": dimensions,
        "dtype": str(clips.features.dtype),
        "objects": len(set(clips.object)),
        "scenarios": dict(Counter(clips.scenario)),
        "labels": {name: _range(column) for name, column in clips.labels.items()},
        "failures": [{"clip": clip, "reason": reason} for clip, reason in clips.failures],
        "fingerprint": dict(clips.fingerprint),
        "sampler": dict(clips.sampler),
        "decoder": dict(clips.decoder),
        "versions": dict(clips.versions),
    }


@dataclass(frozen=True)
class Problem:
    """What `verify` found, and the clip that it concerns (None: the file as a whole)."""

    clip: str | None
    reason: str

    def __str__(self) -> str:
        return f"{self.clip}: {self.reason}" if self.clip else self.reason


def verify(path: Path | str) -> list[Problem]:
    """Everything that is wrong with a cache, clip by clip where possible; empty when it is sound.

    Looks at every byte: the seal, each clip's features, numbers that are not finite, and clips that
    the ledger says are done but that are nowhere. Where an extraction replaces the file meanwhile,
    the new one is looked at. Raises `CacheError` when there is no such file.
    """
    path = Path(path)
    while True:
        version = version_of(path)
        problems = _problems(path)
        if version == version_of(path):
            return problems


def _problems(path: Path) -> list[Problem]:
    if not hdf5_reader.has_seal(path):
        return [Problem(None, f"{path} has no seal to check it by: not a cache, or damaged there")]
    sealed = hdf5_reader.seal_is_intact(path)
    try:
        table = hdf5_reader.read_table(path)
    except CacheError as error:
        return [Problem(None, str(error))]
    problems = [
        Problem(row.clip.id, reason)
        for row in rows_of(path, table)
        if (reason := _wrong_with(row, table))
    ]
    if not sealed and not any(problem.reason == _DAMAGED for problem in problems):
        problems.append(Problem(None, f"{path} does not match the hash in its seal"))
    return problems + _missing(path, table)


_DAMAGED = "its features are damaged"


def _wrong_with(row: Row, table: Table) -> str | None:
    shape, dtype = table.clips.features.shape[1:], table.clips.features.dtype
    features = hdf5_reader.read_at(row.path, row.offset, shape, dtype)
    if row.features_sha256 and hashlib.sha256(features.data).hexdigest() != row.features_sha256:
        return _DAMAGED
    if not np.isfinite(features).all():
        return "its features are not finite numbers"
    return None


def _missing(path: Path, table: Table) -> list[Problem]:
    """Clips whose last line in the ledger says that they are done, and that are in no file."""
    last = {entry["clip"]: entry for entry in read_ledger(path)}
    kept = set(table.clips.key)
    parts = path.with_name(path.name + ".parts")
    return [
        Problem(clip, "its shard is missing")
        for clip, entry in last.items()
        if entry["outcome"] in ("done", "kept")
        and entry.get("key") not in kept
        and not (parts / f"{entry.get('key')}.h5").exists()
    ]


def merge(paths: Sequence[Path | str], out: Path | str) -> None:
    """Write the clips of several caches as one, in order; memory holds one clip at a time.

    A clip that stands in two of them with the same key is taken once. The ledger of a file that
    stood at `out`, and is none of them, goes with it. Raises `CacheError` when they
    differ in fingerprint, sampler or decoder, naming the field; in the shape of the features; or
    when two different clips have one id.
    """
    tables = [(Path(path), hdf5_reader.read_table(Path(path))) for path in paths]
    if not tables:
        raise CacheError("no caches to merge")
    (first_path, first), *others = tables
    for path, table in others:
        _refuse_different(first_path, first.clips, path, table.clips)
    rows: dict[str, Row] = {}
    failures: dict[str, str] = {}
    for path, table in tables:
        for row in rows_of(path, table):
            other = rows.setdefault(row.clip.id, row)
            if other is not row and (other.key != row.key or not row.key):
                raise CacheError(
                    f"{other.path} and {path} both have a clip {row.clip.id}, and they differ"
                )
        failures |= dict(table.clips.failures)
    new = header(
        list(rows.values()),
        first.clips.features.shape[1:],
        first.clips.features.dtype,
        identity={name: getattr(first.clips, name) for name in IDENTITY},
        failures=[(clip, reason) for clip, reason in failures.items() if clip not in rows],
        versions=hdf5_writer.package_versions(),
    )
    write_rows(Path(out), new, list(rows.values()))
    if os.path.abspath(out) not in map(os.path.abspath, paths):
        ledger_path(Path(out)).unlink(missing_ok=True)


def _refuse_different(left_path: Path, left: Features, right_path: Path, right: Features) -> None:
    difference = first_difference(
        {name: getattr(left, name) for name in IDENTITY},
        {name: getattr(right, name) for name in IDENTITY},
    )
    if difference:
        raise CacheError(
            f"{left_path} and {right_path} do not mix: {difference.name} is {difference.left!r} "
            f"in one and {difference.right!r} in the other"
        )
    shapes = [(str(c.features.dtype), c.features.shape[1:]) for c in (left, right)]
    if shapes[0] != shapes[1]:
        raise CacheError(
            f"{left_path} and {right_path} do not mix: features are {shapes[0][0]} {shapes[0][1]} "
            f"in one and {shapes[1][0]} {shapes[1][1]} in the other"
        )


def _range(column: NDArray[np.float64]) -> dict[str, Any]:
    known = column[~np.isnan(column)]
    smallest, largest = (float(known.min()), float(known.max())) if known.size else (None, None)
    finite = smallest is None or (math.isfinite(smallest) and math.isfinite(largest or 0.0))
    return {
        "known": int(known.size),
        "unknown": int(column.size - known.size),
        "min": smallest if finite else str(smallest),
        "max": largest if finite else str(largest),
    }


def _blocks(features: NDArray[Any]) -> Iterator[NDArray[Any]]:
    step = max(1, (1 << 24) // max(1, features[:1].nbytes))
    for start in range(0, len(features), step):
        yield features[start : start + step]
