"""The accuracy of a run in one line: its headline, intervals, and names of baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scipy.special import stdtrit

from data.wording import counted
from pipeline.runs import AGENT_BASELINE, RunMetrics, Spread

BASELINES = {
    "majority": "always the most frequent answer",
    "pixels": "no network: grey frames of 16 x 16 pixels",
    "differences": "no network: differences of such frames",
    "first_frame": "no network: the first such frame alone",
    "optical_flow": "no network: optical flow",
    "shortcuts": "no network: duration, frame rate, size and bytes of the file",
    "volume": "the object's volume alone",
    "scenario": "the scenario alone",
    "condition": "the recording's condition alone",
    "quantised_ridge": "regression that may send no more than the agents",
    "ridge": "regression on the raw features",
    "quantised_labels": "the true labels, through as many messages",
    "ridge_static": "regression on the middle time step alone",
    "ridge_shuffled_steps": "regression on shuffled time steps",
    "clusters": "a code without learning: clusters of the raw features",
    "other_trial": "raw features of another trial of the object in place of a message",
}


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The accuracy to believe, with chance and the best baseline.

    Attributes:
        accuracy: A fraction; None where no two test clips could be compared.
        low: Lower end of its interval; of a run that was evaluated, that of the kept receiver.
        high: Upper end.
        over: What the interval is over: "objects", "seeds", or "" where there is none.
        imported: The file of a checkpoint that was not trained here.
        seeds: How many.
        chosen: Whether validation clips chose the checkpoint; else it is that of the last epoch.
        chance: The accuracy of a guess, of a comparison that of the baseline majority; None where
            it is not known.
        best: The best baseline, its name and what it is.
        best_accuracy: Its accuracy.
    """

    accuracy: float | None
    low: float
    high: float
    over: str
    imported: str | None
    seeds: int
    chosen: bool
    chance: float | None
    best: str | None
    best_accuracy: float | None


def headline(metrics: RunMetrics) -> Headline:
    """Return the accuracy of a run to believe, with chance and the best baseline."""
    chosen = metrics.accuracy_test is not None
    accuracy: Spread = metrics.accuracy_test or metrics.accuracy_last_epoch
    baselines = dict(metrics.baselines or {})
    for name in ("majority", "quantised_labels"):  # chance, and no predictor
        baselines.pop(name, None)
    known = {
        name: baseline.mean
        for name, baseline in baselines.items()
        if baseline is not None and baseline.mean is not None
    }
    best = max(known, key=lambda name: known[name], default=None)
    kept = metrics.kept_receiver
    low, high, over = 0.0, 0.0, ""
    if accuracy.mean is not None:
        low, high, over = interval_of(kept if chosen and kept is not None else accuracy)
    return Headline(
        accuracy=accuracy.mean,
        low=low,
        high=high,
        over=over,
        imported=metrics.imported_from,
        seeds=len(accuracy.per_seed),
        chosen=chosen,
        chance=chance_of(metrics),
        best=None if best is None else _described(best),
        best_accuracy=None if best is None else known[best],
    )


def interval_of(spread: Spread) -> tuple[float, float, str]:
    """Return the ends of the 95 % interval of a mean that is known, and what it is over.

    The interval of the entry itself, over objects and seeds drawn again; else Student's t over
    seeds; else, for one seed, none.

    >>> interval_of(Spread(mean=0.5, std=0.0, per_seed=[0.5]))
    (0.5, 0.5, '')
    """
    ends = [end for end in getattr(spread, "interval", ()) if end is not None]
    if len(ends) == 2:
        return ends[0], ends[1], "objects"
    seeds, mean = len(spread.per_seed), spread.mean
    assert mean is not None
    if seeds < 2:
        return mean, mean, ""
    half = float(stdtrit(seeds - 1, 0.975)) * (spread.std or 0.0) / math.sqrt(seeds)
    return max(0.0, mean - half), min(1.0, mean + half), "seeds"


def baseline_name(key: str) -> str:
    """Return what a baseline is called wherever people read of it; one that a user named, as it is.

    >>> baseline_name("quantised_ridge"), baseline_name("ridge_agent_1"), baseline_name("my_own")
    ('quantised ridge', 'ridge agent 1', 'my_own')
    """
    ours = key in BASELINES or key.startswith(AGENT_BASELINE)
    return key.replace("_", " ") if ours else key


def baseline_meaning(key: str) -> str:
    """Return what a baseline is, in words; "" of one that a user named.

    >>> baseline_meaning("ridge_agent_1"), baseline_meaning("my_own")
    ("regression on agent 1's time window alone", '')
    """
    if key.startswith(AGENT_BASELINE):
        return f"regression on agent {key.removeprefix(AGENT_BASELINE)}'s time window alone"
    return BASELINES.get(key, "")


def _described(key: str) -> str:
    name, meaning = baseline_name(key), baseline_meaning(key)
    return f"{name} ({meaning})" if meaning else name


def missing_baselines(metrics: RunMetrics) -> list[str]:
    """Return sentences about baselines that lack something: those that lack the same in one.

    >>> missing_baselines(RunMetrics.model_construct(missing_baselines={"a": "no x", "b": "no x"}))
    ['no a, b: no x']
    """
    return [
        f"no {', '.join(map(baseline_name, names))}: {reason}"
        for reason, names in _by_reason(metrics.missing_baselines).items()
    ]


def transfer_notes(metrics: RunMetrics) -> list[str]:
    """Return sentences about the agents on other caches: what is missing, what is no test."""
    sentences = []
    for path, other in (metrics.transfer or {}).items():
        if other.trained_on:
            sentences.append(
                f"on {path}: the agents were trained on {other.trained_on} of its "
                f"{counted(other.clips, 'clip')}, so it does not say what they make of new ones"
            )
        sentences += [
            f"no {', '.join(map(baseline_name, names))} on {path}: {reason}"
            for reason, names in _by_reason(other.missing_baselines).items()
        ]
    return sentences


def _by_reason(missing: Mapping[str, str] | None) -> dict[str, list[str]]:
    """Return the names of the baselines that lack the same."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in (missing or {}).items():
        by_reason.setdefault(reason, []).append(name)
    return by_reason


def by_chance(metrics: RunMetrics) -> float | None:
    """Return the accuracy of answers drawn by chance, of all properties at once.

    >>> by_chance(RunMetrics.model_construct(game=None, properties={"mass": None, "volume": None}))
    0.25
    """
    if metrics.game is not None:
        return metrics.game.chance
    return 0.5 ** len(metrics.properties)


def chance_of(metrics: RunMetrics, name: str | None = None) -> float | None:
    """Return the accuracy of a guess, of one property or of all at once; None if unknown."""
    if metrics.game is not None:
        return metrics.game.chance
    majority = (metrics.baselines or {}).get("majority")
    if majority is not None and name is not None:
        entry = majority.properties.get(name)
        return None if entry is None else entry.mean
    return None if majority is None else majority.mean
