"""Loading a cache whose parts are checked, next to reading the same bytes unchecked.

    python benchmarks/load.py [--megabytes 256] [--rounds 21]

In turns, from the page cache, each into a fresh array:

    unchecked     the same bytes of the features, read by the same threads without their hashes
    version 2     `data.cache.load`
    version 1     `data.cache.load` of a file of schema version 1: SHA-256 of every clip
    mapped        `data.cache.load(mapped=True)`, and a sum over all rows

Each ratio is the median over the rounds of its value in one round. Half a minute on two cores.
Target: version 2 / unchecked <= 1.40.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data import cache
from data.cache import Features, read_metadata
from data.cache.blocks import read_rows
from tests.robustness.flips import make_version_1


def make(path: Path, megabytes: int) -> None:
    """Write a cache whose clips have 8 steps of 1,024 numbers in float16."""
    count = megabytes * (1 << 20) // (8 * 1024 * 2)
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 1 << 15, (count, 8, 1024), np.uint16) % 0x7C00  # finite numbers
    cache.save(
        Features(
            features=numbers.view(np.float16),
            clip_id=[str(number) for number in range(count)],
            object=["o"] * count,
            scenario=[""] * count,
            labels={},
            fingerprint={"imported": True},
        ),
        path,
    )


def unchecked(path: Path) -> None:
    """Read the features of a cache as `load` does, without their hashes."""
    rows = read_metadata(path).features
    array = np.empty(rows.shape, rows.dtype)
    with open(path, "rb", buffering=0) as file:
        read_rows(file.fileno(), rows.offset, array, None, 0)


def mapped(path: Path) -> None:
    """Use every row of a mapped cache once."""
    features = cache.load(path, mapped=True).features
    for start in range(0, len(features), 64):
        np.asarray(features[start : start + 64]).view(np.uint16).max()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=21)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        new, old = Path(folder, "2.h5"), Path(folder, "1.h5")
        for path in (new, old):
            make(path, given.megabytes)
        make_version_1(old)
        calls: dict[str, Callable[[], object]] = {
            "unchecked": lambda: unchecked(new),
            "version 2": lambda: cache.load(new),
            "version 1": lambda: cache.load(old),
            "mapped": lambda: mapped(new),
        }
        times: dict[str, list[float]] = {name: [] for name in calls}
        for turn in range(given.rounds + 1):  # the first warms up
            for name, call in calls.items():
                began = time.perf_counter()
                call()
                if turn:
                    times[name].append(time.perf_counter() - began)
    print(f"{given.megabytes} MB of features, {given.rounds} rounds")
    for name, seconds in times.items():
        ratio = statistics.median(map(float.__truediv__, seconds, times["unchecked"]))
        least = min(seconds) / min(times["unchecked"])
        print(
            f"{name:10} {1e3 * statistics.median(seconds):7.1f} ms  / unchecked: "
            f"{ratio:5.2f} (of the least times: {least:.2f})"
        )


if __name__ == "__main__":
    main()
