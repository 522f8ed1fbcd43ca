"""Time from features to a message on a CPU: one clip alone, and a batch of 256.

    python benchmarks/message.py [RUN]

Without a RUN: agents of the published size with fresh weights, over features of V-JEPA 2 (8 steps
of 1024), two agents with two heads of 8 symbols. Prints wall time in microseconds: the least, the
median, and the median for a clip of the batch; `speak` is the whole call of `pipeline.message`:
shapes checked, logits, softmax, tokens and confidence as arrays. Next to it the sender's own
`logits`, which `speak` would take without `FastSender`; the two take turns. A few seconds on a
quiet machine. Expected: a median under 1,000 for one clip on one thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data import cache
from data.cache import Features
from pipeline.console import print_table
from pipeline.message import Speaker, load
from pipeline.training import train

BATCH = 256
REPEATS = {1: 80, BATCH: 4}  # a turn
TURNS = 5


def published_size(folder: Path) -> Speaker:
    """Agents of the published size, trained for an epoch on noise."""
    rng = np.random.default_rng(0)
    objects = [f"o{number // 4:02d}" for number in range(80)]
    noise = Features(
        features=rng.standard_normal((80, 8, 1024)).astype(np.float32),
        clip_id=[str(number) for number in range(80)],
        object=objects,
        scenario=[""] * 80,
        labels={"mass": np.arange(80).astype(np.float64) // 4 * 10},
        fingerprint={"imported": True, "source": "noise"},
    )
    cache.save(noise, folder / "noise.h5")
    run = train(folder / "noise.h5", folder / "run", seeds=1, epochs=1, device="cpu")
    return Speaker(run)


def turns(calls: Sequence[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Wall times in microseconds of each call, in `TURNS` turns of so many `repeats`.

    The first few of a turn are left out: there the other's weights are still in the CPU's caches.
    """
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(TURNS):
        for call, call_times in zip(calls, times, strict=True):
            for repeat in range(repeats + 5):
                began = time.perf_counter()
                call()
                if repeat >= 5:
                    call_times.append(1e6 * (time.perf_counter() - began))
    return times


@torch.inference_mode()
def measure(speaker: Speaker) -> None:
    """Print the table."""
    rng = np.random.default_rng(1)
    sender = speaker.run.sender()
    rows = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for clips, repeats in REPEATS.items():
            features = [
                rng.standard_normal((clips, source.steps, source.dim)).astype(source.dtype)
                for source in speaker.run.sources
            ]
            tensors = [torch.from_numpy(own).float() for own in features]
            given: Any = tensors if len(tensors) > 1 else tensors[0]
            calls: list[Callable[[], object]] = [
                partial(speaker.speak, features),
                partial(sender.logits, given),
            ]
            for name, times in zip(("speak", "Conv1d"), turns(calls, repeats), strict=True):
                middle = float(np.median(times))
                cells = [f"{value:,.0f}" for value in (min(times), middle, middle / clips)]
                rows.append([name, f"{threads}", f"{clips}", *cells])
    print_table(["", "threads", "clips", "least us", "median us", "median us a clip"], rows)


def main() -> None:
    """Measures the run of the command line, or agents of the published size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, help="a run folder")
    run = parser.parse_args().run
    if run is not None:
        measure(load(run, device="cpu"))
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(published_size(Path(folder)))


if __name__ == "__main__":
    main()
