"""Trains the agents of many seeds on cached features, a chunk of seeds at a time.

A seed's result depends on nothing but its own number: on a CPU seeds are trained in chunks of a
fixed size, filled up where there are fewer, so that every kernel always sees the same shapes; each
seed has its own generators, its own optimiser, and its own failures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from data.errors import HeliographError
from pipeline.chunk import Chunk
from pipeline.config import TrainConfig
from pipeline.optimise import fast_float32
from pipeline.records import Examples, Progress, SeedResult
from pipeline.resume import Keeper
from pipeline.splits import Split

SEEDS_PER_CHUNK = 5
SEEDS_ON_A_GPU = 80  # where launching kernels is the cost, and chunks are not padded


def fit(
    examples: Examples,
    config: TrainConfig,
    seeds: Sequence[int],
    *,
    device: str | torch.device = "cpu",
    progress: Callable[[Progress], None] | None = None,
    keeper: Keeper | None = None,
) -> Iterator[SeedResult]:
    """Trains every seed; yields results in the order of the seeds, a chunk at a time.

    `keeper` keeps the states of unfinished chunks, and gives back those that are there already.
    Raises HeliographError where the clips cannot be split, or their labels leave nothing to
    compare.
    """
    place = torch.device(device)
    for seed in seeds:
        check_split(examples, config, seed, examples.split(config.split, seed))
    size = SEEDS_PER_CHUNK if place.type == "cpu" else SEEDS_ON_A_GPU
    width = size if place.type == "cpu" else 0
    for number, start in enumerate(range(0, len(seeds), size)):
        chunk = Chunk(examples, config, seeds[start : start + size], width=width, device=place)
        with fast_float32(place):
            _train(chunk, number, progress, keeper)
            yield from chunk.results()


def _train(
    chunk: Chunk,
    number: int,
    progress: Callable[[Progress], None] | None,
    keeper: Keeper | None,
) -> None:
    if keeper is None:
        chunk.run(progress)
        return
    state = keeper.load(number)
    if state is not None:
        chunk.restore(state)

    def pause() -> None:
        if keeper.due() or chunk.epoch == chunk.config.epochs:
            keeper.save(number, chunk.state())

    chunk.run(progress, pause)


def check_split(examples: Examples, config: TrainConfig, seed: int, split: Split) -> None:
    """Raises HeliographError where training or test clips leave nothing to compare."""
    for part, clips in (("training", split.train), ("test", split.test)):
        values = examples.labels[clips]
        spread = np.ptp(values, axis=0) if len(clips) > 1 else np.zeros(len(config.properties))
        for name, margin, width in zip(config.properties, config.tie_margins, spread, strict=True):
            if not width > margin:
                raise HeliographError(
                    f"seed {seed}: the {len(clips)} {part} clips all have the same {name}: "
                    "nothing to compare"
                )
