"""Reading, writing and describing a feature cache (`*.h5`)."""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.cache.features import Features
from data.cache.hdf5_reader import SCHEMA_VERSION, read_features, read_metadata
from data.cache.hdf5_writer import write_features
from data.cache.ledger import ledger_path
from data.cache.part_reader import read_parts
from data.cache.parts import files_of_cache, write_parts
from data.files import remove_own_file, require_own_file


def load(path: Path | str, *, mapped: bool | None = False) -> Features:
    """Read a cache; everything that is read is checked.

    Args:
        path: The cache.
        mapped: Leave the features in the file (see `MappedRows`): a block of them is checked when
            one of its rows is first used. None: those that take more than 32 MiB.

    Raises:
        CacheError: The file cannot be read or trusted; the message gives file and reason.
    """
    path = Path(path)
    return read_parts(path, mapped=mapped) if path.is_dir() else read_features(path, mapped=mapped)


def save(features: Features, path: Path | str, *, clips_per_part: int | None = None) -> None:
    """Write a cache, whole or not at all, by rename.

    The ledger of a file that was replaced is removed.

    Args:
        features: What to write.
        path: The file.
        clips_per_part: Write a folder of parts with so many clips each, instead of a file.

    Raises:
        WriteError: The disk is full or not writable; an older file stays as it was.
        UnsafeFileError: Something else than a file is where the cache or its ledger is.
        CacheError: The schema cannot hold something, such as the name of a label.
    """
    path = Path(path)
    require_own_file(ledger_path(path))
    if clips_per_part is None:
        write_features(path, features)
    else:
        write_parts(path, features, clips_per_part)
    remove_own_file(ledger_path(path))


def info(path: Path | str) -> dict[str, Any]:
    """Return what a cache holds and how it was made, ready for JSON; its features are not read.

    Raises:
        CacheError: The file cannot be read or trusted.
    """
    path = Path(path)
    files = files_of_cache(path)
    if path.is_dir():
        clips, version = read_parts(path, mapped=True), SCHEMA_VERSION
        content_sha256 = clips.content_sha256
    else:
        metadata = read_metadata(path)
        clips, version = metadata.clips, metadata.schema_version
        content_sha256 = metadata.content_sha256
    count, steps, dimensions = clips.features.shape
    return {
        "path": str(path),
        "bytes": sum(file.stat().st_size for file in files),
        "schema_version": version,
        "content_sha256": content_sha256,
        "created": clips.created,
        "clips": count,
        "steps": steps,
        "dimensions": dimensions,
        "dtype": str(clips.features.dtype),
        "thumbnails": int(clips.has_thumbnails.sum()),
        "objects": len(set(clips.object)),
        "scenarios": dict(Counter(clips.scenario)),
        "labels": {
            name: _range(column) | _origin_of_label(clips, name)
            for name, column in clips.labels.items()
        },
        "failures": [{"clip": clip, "reason": reason} for clip, reason in clips.failures],
        "origin": describe_origin(clips.fingerprint),
        "fingerprint": dict(clips.fingerprint),
        "sampler": dict(clips.sampler),
        "decoder": dict(clips.decoder),
        "versions": dict(clips.versions),
    }


def describe_origin(fingerprint: Mapping[str, Any]) -> str:
    """Return in words where features come from, by the fingerprint of their cache.

    Of imported features nothing but a declaration is known, and the words say so.
    """
    if not fingerprint.get("imported"):
        return (
            "{name} ({source}, revision {revision}, {precision}, {output}), "
            "weights SHA-256 {weights_sha256}"
        ).format_map(_Known(fingerprint))
    file = fingerprint.get("declared")
    stated = file.get("fingerprint") if isinstance(file, Mapping) else None
    declared = {
        "{}": fingerprint.get("backbone"),
        "output {}": fingerprint.get("output"),
        "{} frames": fingerprint.get("frames"),
        "preprocessing {}": fingerprint.get("preprocess"),
        "in its file {}": stated.get("name") if isinstance(stated, Mapping) else None,
    }
    words = [text.format(value) for text, value in declared.items() if value is not None]
    origin = f"{', '.join(words)}, as declared" if words else "of unknown origin"
    return f"imported features, {origin} (from {fingerprint.get('source', 'unknown')})"


class _Known(dict[str, Any]):
    def __missing__(self, name: str) -> str:
        return "unknown"


def _origin_of_label(clips: Features, name: str) -> dict[str, str]:
    """Return the unit of a label and the hash of its table, where they are known."""
    known = {"unit": clips.label_units.get(name), "table_sha256": clips.label_tables.get(name)}
    return {key: text for key, text in known.items() if text}


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
