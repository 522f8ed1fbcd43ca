"""Small made features, and extractions of them, for tests of caches."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from data.cache import Features, ShardStore, read_ledger
from data.cache.hdf5_writer import WRITERS
from data.clips import Clip
from data.versions import package_versions

MADE_WITH = {
    "fingerprint": {"name": "fake", "weights": {"sha256": "ab"}},
    "sampler": {"name": "uniform", "frames": 4},
    "decoder": {"name": "pyav", "ffmpeg": "8.0"},
}


def clips(count: int, *, start: int = 0) -> list[Clip]:
    return [
        Clip(
            id=f"fall/{number:03d}.mp4",
            path=Path(f"{number:03d}.mp4"),
            object=f"object {number % 5}",
            scenario="fall",
            labels={"mass": number / 3},
        )
        for number in range(start, start + count)
    ]


def source(clip: Clip) -> str:
    return f"{int(clip.id[5:8]):064x}"


def extract(store: ShardStore, some: list[Clip]) -> None:
    """What the real extraction does, with features that only depend on the clip."""
    for clip in some:
        if not store.is_done(clip, source(clip)):
            add(store, clip)


def add(store: ShardStore, clip: Clip) -> None:
    number = int(clip.id[5:8])
    if number % 10 == 7:
        store.fail(clip, "too short: 3 of 4 frames", claimed_frames=3)
        return
    store.add(
        clip,
        np.random.default_rng(number).normal(size=(2, 8)).astype(np.float16),
        np.arange(4) * number,
        np.arange(4) * number / 24,
        source_sha256=source(clip),
        claimed_frames=9,
        decoded_frames=4,
        seconds=0.1,
        source_bytes=1000,
    )


def full(target: Path, count: int = 12, **options: Any) -> Path:
    with ShardStore(target, **MADE_WITH, **options) as store:
        extract(store, clips(count))
        return store.consolidate(clips(count))


def outcomes(target: Path) -> Counter:
    return Counter(entry["outcome"] for entry in read_ledger(target))


def features(
    count: int = 7,
    *,
    steps: int = 3,
    dimensions: int = 5,
    seed: int = 0,
    prefix: str = "c",
    **changes: Any,
) -> Features:
    """Return small made features with every column."""
    generator = np.random.default_rng(seed)
    values: dict[str, Any] = {
        "features": generator.normal(size=(count, steps, dimensions)).astype(np.float16),
        "clip_id": [f"{prefix}/é {number}.mp4" for number in range(count)],
        "object": [f"object {number % 3}" for number in range(count)],
        "scenario": ["fall"] * count,
        "labels": {"mass": np.arange(count) / 3, "size": np.full(count, np.nan)},
        "fingerprint": {"name": "fake", "weights": {"sha256": "ab", "revision": 1}},
        "sampler": {"name": "uniform", "frames": 6},
        "decoder": {"name": "pyav", "ffmpeg": "8.0"},
        "frame_index": generator.integers(0, 99, size=(count, 6)),
        "pts_seconds": generator.random((count, 6)),
        "source_sha256": [f"{seed:032x}{number:032x}" for number in range(count)],
        "key": [f"{seed:032d}{number:032d}" for number in range(count)],
        "failures": [(f"{prefix}/short.mp4", "7 of 8 frames")],
        "versions": package_versions(*WRITERS),
    }
    return Features(**{**values, **changes})
