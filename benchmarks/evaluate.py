"""How long `evaluate` takes, part by part: 10 seeds x 206 clips of 8 x 1024 features.

    python benchmarks/evaluate.py [RUN]

Without RUN it makes a cache of that size out of noise and trains one epoch on it in a temporary
folder. Prints CPU seconds, which other work on the machine disturbs little. Expect about 30 s in
all on two cores; `--controls` is not part of it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

from data import cache
from data.cache import Features
from pipeline.evaluation import evaluate
from pipeline.training import train

CLIPS, OBJECTS, STEPS, DIM, SEEDS = 206, 26, 8, 1024, 10


def made(folder: Path) -> Path:
    """A run of one epoch on noise with a mass in it."""
    rng = np.random.default_rng(0)
    identity = np.arange(CLIPS) % OBJECTS
    features = rng.normal(size=(CLIPS, STEPS, DIM)) + identity[:, None, None] / OBJECTS
    labels = {"mass": 10.0 + identity, "outcome": rng.random(CLIPS)}
    kept = Features(
        features=features.astype(np.float16),
        clip_id=[f"object_{number:02d}/{row}" for row, number in enumerate(identity)],
        object=[f"object_{number:02d}" for number in identity],
        scenario=["made"] * CLIPS,
        labels=labels,
        fingerprint={"imported": True, "source": "made", "sha256": "0" * 64},
    )
    cache.save(kept, folder / "made.h5")
    run = train(folder / "made.h5", folder / "run", properties=["mass"], seeds=SEEDS, epochs=1)
    return run.folder


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, help="a run folder; its metrics are renewed")
    given = parser.parse_args().run
    with tempfile.TemporaryDirectory() as scratch:
        folder = given or made(Path(scratch))
        marks = [("", time.process_time(), time.perf_counter())]

        def mark(what: str) -> None:
            marks.append((what, time.process_time(), time.perf_counter()))

        evaluate(folder, progress=mark)
        mark("")
    print(f"{'section':32} {'CPU s':>8} {'wall s':>8}")
    for (what, cpu, wall), (_, cpu_after, wall_after) in pairwise(marks[1:]):
        print(f"{what:32} {cpu_after - cpu:8.1f} {wall_after - wall:8.1f}")
    print(f"{'all':32} {marks[-1][1] - marks[0][1]:8.1f} {marks[-1][2] - marks[0][2]:8.1f}")


if __name__ == "__main__":
    main()
