"""The feature cache: read, write, describe, verify and merge `*.h5` files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from data import cachefile
from data.features import CacheError, Features
from data.store import Store, StoreBusy

__all__ = ["CacheError", "Features", "Store", "StoreBusy", "load", "save"]


def load(path: Path | str) -> Features:
    """Read a cache; raises `CacheError` with the file and the reason for anything else."""
    return cachefile.read(Path(path))


def save(features: Features, path: Path | str) -> None:
    """Write a cache whole, by rename; raises `WriteError` and leaves an older file as it was."""
    cachefile.write(Path(path), features, _blocks(features.features))


def _blocks(features: NDArray[Any]) -> Iterator[NDArray[Any]]:
    step = max(1, (1 << 24) // max(1, features[:1].nbytes))
    for start in range(0, len(features), step):
        yield features[start : start + step]
