"""Two runs side by side: which is better, by how much, and do their agents say alike?

Accuracies are paired by seed: a seed draws the same split in both runs, so that what the split
gives or takes falls out of the difference. That holds where both have the same clips and the same
rule of splitting, and `paired_splits` says whether it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import norm
from scipy.stats import t as student_t

from data.errors import HeliographError
from pipeline.metrics import adjusted_mutual_information, joint_counts, message_ids
from pipeline.runs import SCORES, Run, Spread

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

EXACT = 16
"""Of up to this many seeds every pattern of signs is tried; of more, 2 ** 16 drawn."""
DRAWS = 10_000
DEALS = 50
MOST_PAIRS = 45


def compare(one: Path | str, other: Path | str) -> dict[str, Any]:
    """Compares two run folders; differences are `other` minus `one`.

    `scores`: for each accuracy of `metrics.json` that both have, all at once and for each property
    that both have, a `paired_difference`. `agreement`: of their protocols (`agreement`), None where
    they have no clips in common or one says real numbers.
    Raises HeliographError where they have no seed in common.
    """
    runs = Run.open(one), Run.open(other)
    seeds = [seed for seed in runs[0].seeds if seed in runs[1].seeds]
    if not seeds:
        raise HeliographError(
            f"{one} and {other} have no seed in common, and runs are compared seed by seed"
        )
    return {
        "runs": [str(run.folder) for run in runs],
        "seeds": seeds,
        "paired_splits": _paired_splits(runs, seeds),
        "scores": _scores(runs, seeds),
        "agreement": _run_agreement(runs, seeds),
    }


def paired_difference(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """`second - first`, paired: mean, `interval`, effect size and an exact test.

    `cohen_d` is the mean difference over the standard deviation of the differences (null where
    they are all alike or single); `interval` the 95 % bootstrap interval over seeds (null for fewer
    than three); `p_value` two-sided, over every pattern of signs of the differences.

    >>> paired_difference([0.5, 0.5, 0.5], [0.6, 0.7, 0.8])["p_value"]
    0.25
    """
    gap = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    mean, count = float(gap.mean()), len(gap)
    deviation = float(gap.std(ddof=1)) if count > 1 else 0.0
    signs = _signs(count)
    flipped = np.abs(signs @ gap) / count
    return {
        "first": float(np.mean(first)),
        "second": float(np.mean(second)),
        "difference": mean,
        "per_seed": gap.tolist(),
        "interval": _interval(gap),
        "cohen_d": mean / deviation if deviation > 1e-12 else None,
        "p_value": float((flipped >= abs(mean) - 1e-12).mean()),
    }


def _signs(count: int) -> Floats:
    if count <= EXACT:
        patterns = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        return np.where(patterns == 1, 1.0, -1.0)
    drawn = np.random.default_rng(0).integers(2, size=(2**EXACT, count))
    drawn[0] = 1  # the observed pattern is one of them
    return np.where(drawn == 1, 1.0, -1.0)


def _interval(gap: Floats) -> list[float] | None:
    """Percentiles of bootstrap means, widened for few seeds as Student's t is (Hesterberg 2015).

    "What Teachers Should Know About the Bootstrap", section 3.3: of n values the plain percentile
    interval is too narrow by about the factor sqrt((n - 1) / n) z / t.
    """
    count = len(gap)
    if count < 3:
        return None
    tail = norm.cdf(np.sqrt(count / (count - 1)) * student_t.ppf(0.025, count - 1))
    rng = np.random.default_rng(0)
    means = gap[rng.integers(count, size=(DRAWS, count))].mean(1)
    low, high = np.quantile(means, [tail, 1 - tail])
    return [float(low), float(high)]


def agreement(first: Numbers, second: Numbers, *, seed: int = 0) -> dict[str, Any]:
    """How alike two protocols speak of the same N clips, up to a relabelling of symbols.

    `first` (N, P) and `second` (N, Q). `adjusted_mutual_information` is of whole messages (0 by
    chance, 1 for the same code); `relabelled` (P, Q) the share of clips on which a position of the
    first, its symbols renamed as well as can be one to one, agrees with one of the second;
    `matched` the mean over the best one-to-one match of positions, and `matched_by_chance` the same
    with the clips of one dealt at random.
    """
    names = message_ids(first), message_ids(second)
    information = adjusted_mutual_information(names[0][:, None], names[1])
    table = relabelled(first, second)
    rng = np.random.default_rng(seed)
    dealt = [_matched(relabelled(first, rng.permutation(second))) for _ in range(DEALS)]
    return {
        "adjusted_mutual_information": float(information[0, 0]),
        "relabelled": table.tolist(),
        "matched": _matched(table),
        "matched_by_chance": float(np.mean(dealt)),
        "p_value": float((1 + np.sum(np.array(dealt) >= _matched(table) - 1e-12)) / (1 + DEALS)),
    }


def relabelled(first: Numbers, second: Numbers) -> Floats:
    """The best agreement (P, Q) of positions (N, P) and (N, Q), symbols renamed one to one.

    >>> relabelled(np.array([[0], [0], [1], [2]]), np.array([[5], [5], [3], [3]])).tolist()
    [[0.75]]
    """
    counts = joint_counts(first, second)  # (P, Q, V, W)
    best = np.empty(counts.shape[:2])
    for place in np.ndindex(*best.shape):
        rows, columns = linear_sum_assignment(counts[place], maximize=True)
        best[place] = counts[place][rows, columns].sum() / len(first)
    return best


def _matched(table: Floats) -> float:
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].mean())


def agent_agreement(tokens: Numbers) -> list[dict[str, Any]]:
    """`agreement` of each two agents, mean over seeds; tokens (S, N, agents, heads)."""
    found = []
    for one, other in combinations(range(tokens.shape[2]), 2):
        told = [agreement(seed[:, one], seed[:, other]) for seed in tokens]
        found.append({"agents": [one, other]} | _mean(told))
    return found


def seed_agreement(tokens: Numbers) -> dict[str, Any] | None:
    """`agreement` of the protocols of two seeds of one run, mean over at most 45 pairs of them."""
    lines = tokens.reshape(*tokens.shape[:2], -1)
    pairs = list(combinations(lines, 2))
    told = [agreement(*pair) for pair in pairs[:: -(-len(pairs) // MOST_PAIRS) or 1]]
    return _mean(told) if told else None


def _mean(told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = ("adjusted_mutual_information", "matched", "matched_by_chance")
    return {name: float(np.mean([one[name] for one in told])) for name in names}


def _scores(runs: tuple[Run, Run], seeds: Sequence[int]) -> dict[str, Any]:
    metrics = [run.metrics() for run in runs]
    places = [[run.seeds.index(seed) for seed in seeds] for run in runs]
    shared = [name for name in runs[0].config.properties if name in runs[1].config.properties]

    def paired(entries: Sequence[Spread | None]) -> dict[str, Any] | None:
        values = []
        for entry, own in zip(entries, places, strict=True):
            known = [] if entry is None else [entry.per_seed[place] for place in own]
            if not known or None in known:
                return None
            values.append([number for number in known if number is not None])
        return paired_difference(*values)

    found: dict[str, Any] = {}
    for score in SCORES:
        together = [getattr(own, score) for own in metrics]
        same = runs[0].config.properties == runs[1].config.properties
        found[score] = {
            "together": paired(together) if same else None,
            "properties": {
                name: paired([getattr(own.properties[name], score) for own in metrics])
                for name in shared
            },
        }
    return found


def _paired_splits(runs: tuple[Run, Run], seeds: Sequence[int]) -> bool:
    """Whether each seed tested the same clips in both."""
    return all(_tested(runs[0].messages(seed)) == _tested(runs[1].messages(seed)) for seed in seeds)


def _tested(lines: Sequence[dict[str, Any]]) -> set[str]:
    return {line["clip"] for line in lines if line["part"] == "test"}


def _said(run: Run, seed: int) -> dict[str, Numbers]:
    clips = [line["clip"] for line in run.messages(seed)]
    return dict(zip(clips, run.tokens(seed), strict=True))


def _run_agreement(runs: tuple[Run, Run], seeds: Sequence[int]) -> dict[str, Any] | None:
    if any(run.config.continuous for run in runs):
        return None
    said = [[_said(run, seed) for seed in seeds] for run in runs]
    common = [clip for clip in said[0][0] if all(clip in own for of_run in said for own in of_run)]
    if not common:
        return None
    tokens = [
        np.array([[own[clip] for clip in common] for own in of_run]) for of_run in said
    ]  # two of (S, clips, agents, heads)
    lines = [own.reshape(*own.shape[:2], -1) for own in tokens]
    told = [agreement(*pair) for pair in zip(*lines, strict=True)]
    return {
        "clips": len(common),
        "runs": _mean(told) | {"p_value_per_seed": [one["p_value"] for one in told]},
        "seeds": [seed_agreement(own) for own in tokens],
        "agents": [agent_agreement(own) for own in tokens],
    }
