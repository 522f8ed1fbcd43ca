"""Power: which accuracies, and which differences of runs, so many objects and seeds show.

Shown is what a test at 5 %, two-sided, finds in `POWER` of all trainings: the interval of a run
(`pair_scores`) lies above chance; or the signs of differences, seed by seed, are rarer
(`compare_runs`). Agents are made up, who see of a clip its property, plus what is wrong about its
object for all seeds, about its object in one seed, and about the clip, on the clips that the seeds
really test. Two runs have in common what is wrong about objects for all seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit
from scipy.stats import rankdata

from data.errors import InvalidValueError
from pipeline.config import TrainConfig
from pipeline.dataset import Examples, Split
from pipeline.evaluation.context import EvaluationContext
from pipeline.evaluation.pair_scores import PairScorer

Floats = NDArray[np.float64]
Clips = NDArray[np.int64]

POWER = 0.8
"""The chance with which something is to be shown."""
LEAST_SEEDS = 6
"""Of fewer no pattern of signs is rarer than 5 %, so that no difference is shown."""
NOISE = (0.5, 0.3, 0.5)
"""Deviations of what is wrong about an object, about it in a seed, and about a clip, in parts of
each other: accuracies scatter over splits and objects then as they do on Physics 101
(benchmarks/RESULTS.md)."""
SEED_DEVIATION = 0.3
"""Of the logarithm of what multiplies the last two in a seed: some are worse than others."""
SIGNALS = (0.0, 0.15, 0.3, 0.5, 0.8, 1.3, 2.2, 5.0)
"""Deviations of the property, beside `NOISE`."""
DRAWS = 40
MAX_CLIPS = 100
"""Of more test clips of a seed, this many are drawn, which show less: time grows with pairs."""
ACCURACIES = (0.7, 0.8, 0.9)
"""Those of runs whose differences are stated."""


@dataclass(frozen=True)
class Trial:
    """Made-up trainings with one signal, each value by column: properties, then all at once.

    Attributes:
        accuracy: The mean, (columns,); NaN where nothing is asked.
        low: Above it are the lower ends of the intervals of `POWER` of the trainings, (columns,).
        deviation: Of the differences of two runs, seed by seed, (columns,).
    """

    accuracy: Floats
    low: Floats
    deviation: Floats


def power(
    config: TrainConfig, seeds: Sequence[int], examples: Examples, splits: Sequence[Split]
) -> dict[str, Any]:
    """Return what a training can show.

    Args:
        config: Its settings.
        seeds: Their numbers.
        examples: Its clips.
        splits: Of each seed.

    Returns:
        `seeds` (how many), `objects` (tested by any seed), `objects_per_seed` and `clips_per_seed`
        (in the mean); `properties`, and `together` of all at once where there are several. Of each:
        `chance`; `above_chance`, from which accuracy on a run is shown to be above it, None where
        even 1 is not; `differences`, by accuracy from which difference on two runs of equal splits
        are shown to differ, None where none is.

    Raises:
        HeliographError: The game is not about pairs.
    """
    context = EvaluationContext(
        config, tuple(seeds), examples.labels, examples.objects, tuple(splits)
    )
    if not context.game.pairs:
        raise InvalidValueError(
            f"what a training can show is known of the game comparison, not of {config.game}"
        )
    tests = context.some_test_clips(MAX_CLIPS)
    scorer = PairScorer(context.objects, tests)
    trials = [_try(context, scorer, tests, signal) for signal in SIGNALS]
    accuracy, low, deviation = (
        np.stack([getattr(trial, name) for trial in trials], axis=1)
        for name in ("accuracy", "low", "deviation")
    )  # (columns, signals) each
    count = len(config.properties)
    accuracy[:, 0] = [*[0.5] * count, 0.5**count]  # chance, which few draws miss
    columns = [
        {
            "chance": float(own[0]),
            "above_chance": _crossing(own, ends - own[0]),
            "differences": {
                f"{level:g}": _difference(level, own, deviations, len(seeds))
                for level in ACCURACIES
            },
        }
        for own, ends, deviations in zip(accuracy, low, deviation, strict=True)
    ]
    objects = [scorer.objects[split.test] for split in splits]
    return {
        "seeds": len(seeds),
        "objects": len(np.unique(np.concatenate(objects))),
        "objects_per_seed": float(np.mean([len(np.unique(own)) for own in objects])),
        "clips_per_seed": float(np.mean([len(own) for own in objects])),
        "properties": dict(zip(config.properties, columns[:-1], strict=True)),
        "together": columns[-1] if len(config.properties) > 1 else None,
    }


def shown_mean(count: int) -> float | None:
    """Return the smallest mean of `count` differences that is shown, in their deviations.

    By the test of signs that `compare` makes: of six only equal signs are rare enough, of more it
    is about as strong as Student's t.

    >>> shown_mean(5), round(shown_mean(6), 2), round(shown_mean(20), 2)
    (None, 1.79, 0.66)
    """
    if count < LEAST_SEEDS:
        return None
    if count == LEAST_SEEDS:
        return float(ndtri(POWER ** (1 / count)))
    return float((stdtrit(count - 1, 0.975) + stdtrit(count - 1, POWER)) / np.sqrt(count))


def _try(
    context: EvaluationContext, scorer: PairScorer, tests: Sequence[Clips], signal: float
) -> Trial:
    """Let made-up agents judge the pairs of each seed's test clips, again and again."""
    labels, own = context.labels, np.unique(np.concatenate(tests))
    value = np.zeros(labels.shape)
    value[own] = signal * ndtri((rankdata(labels[own], axis=0) - 0.5) / len(own))
    rng, shape = np.random.default_rng(0), (int(scorer.objects.max()) + 1, labels.shape[1])
    means, lows, gaps = [], [], []
    for _ in range(DRAWS):
        look = value + NOISE[0] * rng.normal(size=shape)[scorer.objects]
        first, second = (
            scorer.score_pairs(
                [_says_more(rng, look, scorer.objects, clips) for clips in tests],
                labels,
                tests,
                context.margins,
            )
            for _ in range(2)
        )
        means.append(first.mean)
        lows.append(first.interval()[:, 0])
        gaps.append(first.per_seed - second.per_seed)
    return Trial(
        np.mean(means, axis=0),
        np.quantile(lows, 1 - POWER, axis=0),
        np.sqrt(np.mean(np.square(gaps), axis=(0, 1))),
    )


def _says_more(
    rng: np.random.Generator, look: Floats, objects: Clips, clips: Clips
) -> NDArray[np.bool_]:
    """Return what the agents of a seed say about every pair of n clips: (1, n, n, properties)."""
    shape = (int(objects.max()) + 1, look.shape[1])
    worse = np.exp(SEED_DEVIATION * rng.normal())
    seen = look[clips] + worse * NOISE[1] * rng.normal(size=shape)[objects[clips]]
    seen += worse * NOISE[2] * rng.normal(size=seen.shape)
    return (seen[:, None] > seen)[None]


def _crossing(accuracy: Floats, above: Floats) -> float | None:
    """Return the accuracy at which `above` exceeds 0 for good; None where it never does."""
    if np.isnan(above).any() or above[-1] <= 0:
        return None
    last = int(np.flatnonzero(above <= 0).max(initial=0))
    part = -above[last] / (above[last + 1] - above[last])
    return float(accuracy[last] + part * (accuracy[last + 1] - accuracy[last]))


def _difference(level: float, accuracy: Floats, deviation: Floats, seeds: int) -> float | None:
    """Return from which difference on two runs of an accuracy are shown to differ."""
    reach = shown_mean(seeds)
    if reach is None or np.isnan(deviation).any():
        return None
    return reach * float(np.interp(level, accuracy, deviation))
