"""Several caches as one."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from data.cache.errors import CacheError
from data.cache.hdf5_reader import CacheMetadata
from data.cache.hdf5_writer import WRITERS
from data.cache.joining import require_same_make
from data.cache.ledger import ledger_path
from data.cache.parts import content_of, is_larger_than_a_file, write_as_it_fits
from data.cache.rows import CacheRow, NewCache, cache_rows, survey
from data.cache.verification import files_to_copy, is_intact
from data.duplicates import share_objects
from data.files import remove_own_file, require_own_file, temporary_path
from data.versions import package_versions


def merge(paths: Sequence[Path | str], out: Path | str) -> list[str]:
    """Write the clips of several caches as one, in order; memory holds one clip at a time.

    What is larger than a file should be becomes a folder of parts, and so does what replaces one.
    A clip that is in two of them with the same key is taken once, with its thumbnails if one of
    them has some. Clips of equal content have one object. The ledger of a file that was at
    `out`, and is none of `paths`, is removed.

    Returns:
        Sentences about clips that have another object now.

    Raises:
        CacheError: They differ in fingerprint, sampler or decoder (the message names the field) or
            in the shape of the features or the unit of a label, two different clips have one id,
            clips of equal content have two objects, or a row is damaged.
        WriteError: The disk is full or not writable.
        UnsafeFileError: Something else than a file is where the cache or its ledger is.
    """
    out = Path(out)
    require_own_file(ledger_path(out))
    merged, notes = _merged(paths)
    is_input = os.path.abspath(out) in map(os.path.abspath, paths)
    if is_input and out.is_file() and is_larger_than_a_file(merged):
        raise CacheError(
            f"{out} is a file, and all clips together take more than a file should: choose "
            "another output, which becomes a folder of parts"
        )
    write_as_it_fits(out, merged, staging=temporary_path(out))
    if not is_input:
        remove_own_file(ledger_path(out))
    return notes


def is_merge(out: Path | str, paths: Sequence[Path | str]) -> bool:
    """Return whether a cache has, undamaged, the content that `merge` of others would write.

    Raises:
        CacheError: The others cannot be merged, or the cache cannot be read.
    """
    out = Path(out)
    merged, _ = _merged(paths)
    return content_of(out) == merged.content_sha256(out.parent) and is_intact(out)


def _merged(paths: Sequence[Path | str]) -> tuple[NewCache, list[str]]:
    """Return what several caches are as one, and notes about objects."""
    caches = [file for path in paths for file in files_to_copy(Path(path))]
    if not caches:
        raise CacheError("no caches to merge")
    require_same_make([(path, metadata.clips) for path, metadata in caches])
    tables = [metadata.clips for _, metadata in caches]
    objects, notes = _shared_objects(caches)
    rows: dict[str, CacheRow] = {}
    failures: dict[str, str] = {}
    for path, metadata in caches:
        for row in cache_rows(path, metadata):
            other = rows.setdefault(row.clip.id, row)
            if other is not row and (other.key != row.key or not row.key):
                raise CacheError(
                    f"{other.path} and {path} both have a clip {row.clip.id}, and they differ"
                )
            if other is row:
                rows[row.clip.id] = replace(
                    row, clip=replace(row.clip, object=objects[row.clip.id])
                )
            elif other.thumbnails is None:
                rows[row.clip.id] = replace(other, thumbnails=row.thumbnails)
        failures |= dict(metadata.clips.failures)
    merged = NewCache(
        rows=list(rows.values()),
        shape=tables[0].features.shape[1:],
        dtype=tables[0].features.dtype,
        identity=tables[0].identity,
        failures=[(clip, reason) for clip, reason in failures.items() if clip not in rows],
        versions=_common([table.versions for table in tables]) | package_versions(*WRITERS),
        common=survey(rows.values()),
    )
    return merged, notes


def _common(versions: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return what all of them say alike."""
    first, *others = versions
    return {
        name: text
        for name, text in first.items()
        if all(other.get(name) == text for other in others)
    }


def _shared_objects(
    caches: Sequence[tuple[Path, CacheMetadata]],
) -> tuple[dict[str, str], list[str]]:
    """Return the object of each clip, where those of equal content share one, and notes about it.

    Raises:
        CacheError: Clips of equal content have two objects.
    """
    stretches = [(path, clip) for path, own in caches for clip in own.clips.stretches()]
    shared = share_objects(clip for _, clip in stretches)
    if shared.contradictions:
        contradiction = shared.contradictions[0]
        first, second = (stretches[number][0] for number in contradiction.numbers)
        raise CacheError(
            f"{first} and {second} do not mix: {contradiction}; give them one object in one of the "
            "caches (heliograph cache label CACHE TABLE)"
        )
    ids = (clip.clip for _, clip in stretches)
    return dict(zip(ids, shared.objects, strict=True)), [shared.note] if shared.note else []
