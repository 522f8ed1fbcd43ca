"""Several caches as one."""

import os
from collections.abc import Sequence
from pathlib import Path

from data.cache.errors import CacheError
from data.cache.features import Features, row_sha256
from data.cache.hdf5_reader import CacheMetadata, read_metadata
from data.cache.hdf5_writer import package_versions
from data.cache.ledger import ledger_path
from data.cache.rows import (
    IDENTITY_FIELDS,
    CacheRow,
    RowPlace,
    cache_rows,
    stack_rows,
    write_rows,
)
from data.cache.verification import is_intact, read_to_copy
from data.differences import first_difference


def merge(paths: Sequence[Path | str], out: Path | str) -> None:
    """Write the clips of several caches as one, in order; memory holds one clip at a time.

    A clip that is in two of them with the same key is taken once. The ledger of a file that was
    at `out`, and is none of `paths`, is removed.

    Raises:
        CacheError: They differ in fingerprint, sampler or decoder (the message names the field) or
            in the shape of the features, or two different clips have one id.
        WriteError: The disk is full or not writable.
    """
    rows, merged = _stack(paths)
    write_rows(Path(out), merged, rows)
    if os.path.abspath(out) not in map(os.path.abspath, paths):
        ledger_path(Path(out)).unlink(missing_ok=True)


def is_merge(out: Path | str, paths: Sequence[Path | str]) -> bool:
    """Return whether a cache has, undamaged, the content that `merge` of others would write.

    Raises:
        CacheError: The others cannot be merged, or the cache cannot be read.
    """
    rows, merged = _stack(paths)
    thumbnails = [_sha256(row.thumbnails) for row in rows if row.thumbnails]
    content = merged.hash_content([_sha256(row.features) for row in rows], thumbnails)
    return read_metadata(Path(out)).content_sha256 == content and is_intact(Path(out))


def _sha256(place: RowPlace) -> str:
    return place.sha256 or row_sha256(place.read())[0]


def _stack(paths: Sequence[Path | str]) -> tuple[list[CacheRow], Features]:
    """Return the rows of several caches, and what they are as one cache."""
    caches = [(Path(path), read_to_copy(Path(path))) for path in paths]
    if not caches:
        raise CacheError("no caches to merge")
    (first_path, first), *others = caches
    for path, metadata in others:
        _refuse_different(first_path, first.clips, path, metadata.clips)
    rows: dict[str, CacheRow] = {}
    failures: dict[str, str] = {}
    for path, metadata in caches:
        for row in cache_rows(path, metadata):
            other = rows.setdefault(row.clip.id, row)
            if other is not row and (other.key != row.key or not row.key):
                raise CacheError(
                    f"{other.path} and {path} both have a clip {row.clip.id}, and they differ"
                )
        failures |= dict(metadata.clips.failures)
    merged = stack_rows(
        list(rows.values()),
        first.clips.features.shape[1:],
        first.clips.features.dtype,
        identity={name: getattr(first.clips, name) for name in IDENTITY_FIELDS},
        failures=[(clip, reason) for clip, reason in failures.items() if clip not in rows],
        versions=package_versions(),
        **{name: _joined_texts(caches, name) for name in ("label_units", "label_tables")},
    )
    return list(rows.values()), merged


def _joined_texts(caches: Sequence[tuple[Path, CacheMetadata]], name: str) -> dict[str, str]:
    """Return the units of labels, or the hashes of their tables, of several caches.

    Raises:
        CacheError: Two units of a label differ. Two tables may; it then has none.
    """
    joined: dict[str, str] = {}
    origin: dict[str, Path] = {}
    for path, metadata in caches:
        for label, text in getattr(metadata.clips, name).items():
            if joined.setdefault(label, text) == text:
                origin.setdefault(label, path)
            elif name == "label_units":
                raise CacheError(
                    f"{origin[label]} and {path} do not mix: the label {label} is in "
                    f"{joined[label]!r} in one and in {text!r} in the other"
                )
            else:
                joined[label] = ""
    return joined


def _refuse_different(left_path: Path, left: Features, right_path: Path, right: Features) -> None:
    difference = first_difference(
        {name: getattr(left, name) for name in IDENTITY_FIELDS},
        {name: getattr(right, name) for name in IDENTITY_FIELDS},
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
