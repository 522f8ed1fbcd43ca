"""Comparison of runs: paired differences of accuracies, and agreement of their messages.

Accuracies are paired by seed: a seed draws the same split in both runs, so that what the split adds
cancels in the difference. That holds where both have the same clips and the same rule of splitting,
and `paired_splits` says whether it does, if that is known. Intervals and p-values are over seeds,
for the clips that the runs have: how far other objects would change an accuracy, its own interval
says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from data.cache import describe_origin
from data.errors import HeliographError, InvalidValueError
from pipeline.evaluation.agreement import (
    agent_agreement,
    agreement,
    mean_agreement,
    seed_agreement,
)
from pipeline.evaluation.power import shown_mean
from pipeline.runs import SCORES, Run, Spread

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

MAX_EXACT_SEEDS = 16
"""Of up to this many seeds every pattern of signs is tried; of more, 2 ** 16 drawn."""
BASELINES = ("majority", "pixels", "differences", "quantised_ridge", "ridge")
"""Those that tell whether the clips of two runs are equally hard."""


def compare_all(
    folders: Sequence[Path | str], *, planned_seeds: int | None = None
) -> dict[str, Any]:
    """Compare every two of several run folders.

    Args:
        folders: Three or more.
        planned_seeds: As for `compare`.

    Returns:
        `runs`, and in `pairs` what `compare` returns of every two of them. Each difference of
        accuracies also has `p_holm`: its p-value corrected for the number of pairs (Holm 1979).

    Raises:
        HeliographError: Two have no seed in common.
    """
    pairs = [
        compare(*two, planned_seeds=planned_seeds)
        for two in combinations(map(Run.open, folders), 2)
    ]
    questions: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for pair in pairs:
        for question, difference in _differences(pair):
            questions.setdefault(question, []).append(difference)
    for differences in questions.values():
        corrected = holm([difference["p_value"] for difference in differences])
        for difference, p_value in zip(differences, corrected, strict=True):
            difference["p_holm"] = p_value
    return {"runs": [str(folder) for folder in folders], "pairs": pairs}


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by the step-down rule of Holm 1979.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values, np.float64)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in corrected]


def _differences(pair: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield the differences of accuracies of two runs, and what each is of."""
    for score, entry in pair["scores"].items():
        for name, own in {"": entry["together"], **entry["properties"]}.items():
            if own is not None:
                yield (score, name), own


def compare(
    first: Run | Path | str, second: Run | Path | str, *, planned_seeds: int | None = None
) -> dict[str, Any]:
    """Compare two run folders; differences are the second's minus the first's.

    Args:
        first: A run.
        second: Another.
        planned_seeds: Of a training to come, for which `detectable` is stated; None: those that
            the runs have in common.

    Returns:
        `features`: in words, where those of each run come from. `scores`: for each accuracy of
        `metrics.json` that both have, all at once and for each property that both have, a
        `paired_difference`; nothing for runs of different games, whose accuracies have different
        chance levels. `paired_splits`: whether each seed tested the same clips in both; None where
        that cannot be told, as a copy has numbers in place of the names of clips. `agreement`: of
        their messages, None then, where they have no clips in common, and where one has real
        numbers for messages. `unchecked`: the runs without a manifest.
        `baselines`: a `paired_difference` of those of `BASELINES` that both have been evaluated
        with, all properties at once. `leaks`: by run, what `--allow-leaks` let pass, in words;
        empty where nothing.

    Raises:
        HeliographError: They have no seed or no property in common.
    """
    runs = Run.open(first), Run.open(second)
    seeds = [seed for seed in runs[0].seeds if seed in runs[1].seeds]
    if not seeds:
        raise HeliographError(
            f"{runs[0].folder} and {runs[1].folder} have no seed in common, and runs are compared "
            "seed by seed"
        )
    _require_common_property(runs)
    clips = _clips(runs, seeds)
    compared = {
        "runs": [str(run.folder) for run in runs],
        "unchecked": [str(run.folder) for run in runs if run.unchecked],
        "leaks": {
            str(run.folder): leaks.mark
            for run in runs
            if (leaks := run.metrics().leaks) is not None
        },
        "features": [[describe_origin(one.fingerprint) for one in run.sources] for run in runs],
        "seeds": seeds,
        "paired_splits": None if clips is None else _paired_splits(runs, seeds, clips),
        "scores": _compare_scores(runs, seeds),
        "baselines": _compare_baselines(runs, seeds),
        "agreement": None if clips is None else _compare_messages(runs, seeds, clips),
    }
    for _, difference in _differences(compared):
        difference["detectable"] = detectable(difference["per_seed"], planned_seeds)
    return compared


def paired_difference(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """Return the paired difference `second - first` with interval, effect size and exact test.

    Args:
        first: A number for each seed.
        second: The other number for each seed.

    Returns:
        `cohen_d` is the mean difference over the standard deviation of the differences (None where
        they are all alike or single); `interval` Student's 95 % interval over seeds (None for one);
        `p_value` two-sided, over every pattern of signs of the differences.

    >>> paired_difference([0.5, 0.5, 0.5], [0.6, 0.7, 0.8])["p_value"]
    0.25
    """
    gap = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    mean, count = float(gap.mean()), len(gap)
    deviation = float(gap.std(ddof=1)) if count > 1 else 0.0
    flipped = np.abs(_signs(count) @ gap) / count
    return {
        "first": float(np.mean(first)),
        "second": float(np.mean(second)),
        "difference": mean,
        "per_seed": gap.tolist(),
        "interval": _interval(gap),
        "cohen_d": mean / deviation if deviation > 1e-12 else None,
        "p_value": float((flipped >= abs(mean) - 1e-12).mean()),
    }


def detectable(gap: Sequence[float], seeds: int | None = None) -> float | None:
    """Return the smallest true difference that so many seeds show in four of five trainings.

    At 5 %, two-sided, from the deviation of the differences (`power.shown_mean`).

    Args:
        gap: Differences of several seeds.
        seeds: How many there are to be; None: as many.

    Returns:
        A difference; None for differences that are single or all alike, and for fewer than six
        seeds, whose p is never below 5 %.

    >>> detectable([-0.1, 0.0, 0.1]), round(detectable([-0.1, 0.0, 0.1], seeds=20), 2)
    (None, 0.07)
    """
    reach = shown_mean(seeds or len(gap))
    deviation = float(np.std(gap, ddof=1)) if len(gap) > 1 else 0.0
    return None if reach is None or deviation < 1e-12 else reach * deviation


def _signs(count: int) -> Floats:
    """Return patterns of signs, (patterns, count)."""
    if count <= MAX_EXACT_SEEDS:
        patterns = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        return np.where(patterns == 1, 1.0, -1.0)
    drawn = np.random.default_rng(0).integers(2, size=(2**MAX_EXACT_SEEDS, count))
    drawn[0] = 1  # the observed pattern is one of them
    return np.where(drawn == 1, 1.0, -1.0)


def _interval(gap: Floats) -> list[float] | None:
    """Return the ends of Student's t interval of the mean."""
    count = len(gap)
    if count < 2:
        return None
    half = stdtrit(count - 1, 0.975) * gap.std(ddof=1) / np.sqrt(count)
    return [float(gap.mean() - half), float(gap.mean() + half)]


def _compare_scores(runs: tuple[Run, Run], seeds: Sequence[int]) -> dict[str, Any]:
    metrics = [run.metrics() for run in runs]
    shared = [
        name
        for name in runs[0].config.properties
        if _one_game(runs) and all(name in entry.properties for entry in metrics)
    ]
    compared: dict[str, Any] = {}
    for score in SCORES:
        together = [getattr(own, score) for own in metrics]
        each = {name: [getattr(own.properties[name], score) for own in metrics] for name in shared}
        compared[score] = {
            "together": _paired(together, runs, seeds) if _one_question(runs) else None,
            "properties": {name: _paired(both, runs, seeds) for name, both in each.items()},
        }
    return compared


def _compare_baselines(runs: tuple[Run, Run], seeds: Sequence[int]) -> dict[str, Any]:
    if not _one_question(runs):
        return {}
    evaluated = [run.metrics().baselines or {} for run in runs]
    found = {
        name: _paired([baselines.get(name) for baselines in evaluated], runs, seeds)
        for name in BASELINES
    }
    return {name: entry for name, entry in found.items() if entry is not None}


def _one_game(runs: tuple[Run, Run]) -> bool:
    one, other = ((run.config.game, run.config.game_settings) for run in runs)
    return one == other


def _one_question(runs: tuple[Run, Run]) -> bool:
    return _one_game(runs) and runs[0].config.properties == runs[1].config.properties


def _require_common_property(runs: tuple[Run, Run]) -> None:
    """Raise InvalidValueError for two runs of one game that are about other properties."""
    named = [run.config.properties for run in runs]
    if _one_game(runs) and set(named[0]).isdisjoint(named[1]):
        about = [f"{run.folder} is about {', '.join(run.config.properties)}" for run in runs]
        raise InvalidValueError(
            f"{' and '.join(about)}: only runs with a property in common can be compared"
        )


def _paired(
    entries: Sequence[Spread | None], runs: tuple[Run, Run], seeds: Sequence[int]
) -> dict[str, Any] | None:
    """Return the paired difference of two spreads; None where a number is not known."""
    values = []
    for entry, run in zip(entries, runs, strict=True):
        known = [] if entry is None else [entry.per_seed[run.seeds.index(seed)] for seed in seeds]
        if not known or None in known:
            return None
        values.append([number for number in known if number is not None])
    return paired_difference(*values)


_Clips = list[list[list[Any]]]
"""What identifies each clip, by run, seed and position in `messages.jsonl`."""


def _clips(runs: tuple[Run, Run], seeds: Sequence[int]) -> _Clips | None:
    """Return what identifies the clips of two runs; None where nothing does.

    That is their names; where `hub push` left these out of a run, their positions in the cache, if
    both runs are of the same.
    """
    names = [[[line["clip"] for line in run.messages(seed)] for seed in seeds] for run in runs]
    if not any(own == [f"clip {n + 1}" for n in range(len(own))] for own, *_ in names):
        return names
    caches = [{source.identity for source in run.sources} for run in runs]
    counts = {len(own) for of_run in names for own in of_run}
    if caches[0] != caches[1] or len(counts) > 1:
        return None
    return [[list(range(len(own))) for own in of_run] for of_run in names]


def _paired_splits(runs: tuple[Run, Run], seeds: Sequence[int], clips: _Clips) -> bool:
    """Return whether each seed tested the same clips in both."""
    first, second = (
        [_test_clips(run, *of_seed) for of_seed in zip(seeds, own, strict=True)]
        for run, own in zip(runs, clips, strict=True)
    )
    return first == second


def _test_clips(run: Run, seed: int, clips: Sequence[Any]) -> set[Any]:
    lines = zip(clips, run.messages(seed), strict=True)
    return {clip for clip, line in lines if line["part"] == "test"}


def _compare_messages(
    runs: tuple[Run, Run], seeds: Sequence[int], clips: _Clips
) -> dict[str, Any] | None:
    if not all(run.has_symbols for run in runs):
        return None
    by_clip: list[list[dict[Any, Numbers]]] = [
        [
            dict(zip(names, run.tokens(seed), strict=True))
            for seed, names in zip(seeds, own, strict=True)
        ]
        for run, own in zip(runs, clips, strict=True)
    ]
    common = [
        clip for clip in by_clip[0][0] if all(clip in seed for run in by_clip for seed in run)
    ]
    if not common:
        return None
    tokens = [
        np.array([[seed[clip] for clip in common] for seed in run]) for run in by_clip
    ]  # two of (S, clips, agents, heads)
    messages = [own.reshape(*own.shape[:2], -1) for own in tokens]
    agreements = [agreement(*pair) for pair in zip(*messages, strict=True)]
    return {
        "clips": len(common),
        "runs": mean_agreement(agreements)
        | {"p_value_per_seed": [entry["p_value"] for entry in agreements]},
        "seeds": [seed_agreement(own) for own in tokens],
        "agents": [agent_agreement(own) for own in tokens],
    }
