"""Caches as schema version 1 had them, as an older Heliograph wrote them."""

import hashlib
import json
from pathlib import Path

import h5py
import numpy as np

from data.cache import Features

USER_BLOCK = 512


def save_version_1(clips: Features, path: Path, *, row_hashes: bool = True) -> Path:
    """Write a cache in version 1; the oldest ones had no hash of each row."""
    with h5py.File(path, "w", userblock_size=USER_BLOCK) as file:
        features = file.create_dataset("features", data=clips.features)
        file.attrs["schema_version"] = 1
        for name in ("fingerprint", "sampler", "decoder", "versions"):
            file.attrs[name] = json.dumps(getattr(clips, name), sort_keys=True)
        file.attrs["created"] = "2026-01-31T12:00:00+00:00"
        for name in ("clip_id", "object", "scenario", "source_sha256", "key"):
            file.create_dataset(name, data=_text(getattr(clips, name)))
        file["frame_index"] = clips.frame_index
        file["pts_seconds"] = clips.pts_seconds
        labels = file.create_group("labels")
        for name, column in clips.labels.items():
            labels[name] = column
        ids, reasons = ([pair[i] for pair in clips.failures] for i in (0, 1))
        failures = np.empty(
            len(ids), dtype=[("clip_id", _text(ids).dtype), ("reason", _text(reasons).dtype)]
        )
        failures["clip_id"], failures["reason"] = _text(ids), _text(reasons)
        file["failures"] = failures
        if row_hashes:
            hashes = [hashlib.sha256(row.tobytes()).hexdigest().encode() for row in clips.features]
            file["features_sha256"] = np.array(hashes, "S64")
        start = features.id.get_offset()
    content = path.read_bytes()
    stop = start + clips.features.nbytes
    line = (
        f"heliograph cache sha256={hashlib.sha256(content[USER_BLOCK:]).hexdigest()} "
        f"bytes={len(content) - USER_BLOCK} features={start}-{stop} "
        f"rest_sha256={hashlib.sha256(content[USER_BLOCK:start] + content[stop:]).hexdigest()}\n"
    )
    path.write_bytes(line.encode().ljust(USER_BLOCK, b"\0") + content[USER_BLOCK:])
    return path


def _text(values: list[str]) -> np.ndarray:
    encoded = [value.encode("utf-8", "surrogateescape") for value in values]
    return np.array(encoded, dtype=f"S{max([1, *map(len, encoded)])}")
