"""Predictors that may send no more than the agents: what each window adds, cut into levels.

`quantised_ridge` is the regression that the agents' windows share (`WindowRidge`), of which each
agent sends as much as its message holds: a level of its part for each property, together as many
combinations as it has messages. The receiver adds up the mean of each level. `quantised_labels` are
the true labels through the messages of all agents together: what the code could carry at best.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.config import DISCRETE, TrainConfig
from pipeline.dataset import Split, WindowRidge, ridge

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

MOST_LEVELS = 2.0**20


def can_count(config: TrainConfig) -> bool:
    """Return whether the messages of a run are symbols, of which there are so many and no more."""
    return config.channel == DISCRETE


def levels_each(config: TrainConfig, agents: int) -> int:
    """Return how many levels of each property the messages of so many agents tell at once.

    With two symbols of five, one agent tells 25 levels of one property, or 5 of each of two.
    """
    symbols = config.heads * agents / len(config.properties)
    logarithm = min(symbols * math.log(config.vocab), math.log(MOST_LEVELS))
    return max(1, int(math.exp(logarithm) + 1e-6))


def quantised_ridge(shared: WindowRidge, split: Split, config: TrainConfig) -> Floats:
    """Return the scores (n, P) of the test clips from the levels of all agents' parts."""
    sent = [cut(part, split.train, levels_each(config, 1)) for part in shared.parts]
    return np.asarray(sum(part[split.test] for part in sent))


def quantised_labels(labels: Floats, split: Split, config: TrainConfig) -> Floats:
    """Return the ranks (n, P) of the test clips' labels, cut into levels."""
    ranks = ridge.relative_ranks(labels, split.train)
    return cut(ranks, split.train, levels_each(config, config.agents))[split.test]


def cut(values: Floats, train: Numbers, count: int) -> Floats:
    """Return for each value the mean of its level.

    Args:
        values: (N, P); levels are of each column by itself.
        train: The training clips, whose levels and means these are: each value of theirs where
            there are few, else equal shares of the clips.
        count: The number of levels, at most.
    """
    means = np.empty(values.shape)
    for number, column in enumerate(values.T):
        known = column[train]
        own = np.unique(known)
        if len(own) > count:
            own = np.unique(np.quantile(known, (np.arange(count) + 0.5) / count))
        edges = (own[:-1] + own[1:]) / 2
        level = np.searchsorted(edges, known)
        counts = np.bincount(level, minlength=len(own))
        sums = np.bincount(level, known, minlength=len(own))
        of_level = np.where(counts > 0, sums / np.maximum(counts, 1), own)
        means[:, number] = of_level[np.searchsorted(edges, column)]
    return means
