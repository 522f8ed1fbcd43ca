"""What an accuracy must beat: the same question, the same splits, without agents.

A baseline gives every test clip a score for each property; the clip with the larger score is said
to have more of it. `None` where a baseline has nothing to go by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import ridge
from pipeline.agents import agent_windows
from pipeline.config import TrainConfig
from pipeline.splits import Split
from pipeline.tally import (
    Resampler,
    Scores,
    Tally,
    grade,
    grade_auc,
    spearman,
    spread,
    tally,
)

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What baselines may look at, beside the splits.

    Attributes:
        features: (N, T, D), or (N, F) where a clip's features have no common time axis.
        labels: (N, properties), NaN where unknown.
        objects: number of each clip's object, (N,).
        scenario, condition: each clip's, (N,), as names; all alike where there is only one.
        volume: each clip's, (N,), or None.
        others: more features (N, ...) of the same clips, by name.
    """

    features: NDArray[np.generic]
    labels: Floats
    objects: Numbers
    scenario: Sequence[str]
    condition: Sequence[str]
    volume: Floats | None = None
    others: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Evidence(features={self.features.shape}, labels={self.labels.shape})"


Baseline = Callable[[Evidence, Split, TrainConfig], Floats | None]


def volume(evidence: Evidence, split: Split, config: TrainConfig) -> Floats | None:
    """A bigger object has more, or less: whichever is right of more pairs of training clips.

    Clips of unknown volume count as of the training clips' median.
    """
    if evidence.volume is None or "volume" in config.properties:
        return None
    known = evidence.volume[split.train]
    if np.isnan(known).all():
        return None
    volumes = np.nan_to_num(evidence.volume, nan=float(np.nanmedian(known)))
    slopes = spearman(
        np.repeat(volumes[split.train, None], evidence.labels.shape[1], axis=1),
        evidence.labels[split.train],
    )
    return volumes[split.test, None] * np.where(np.asarray(slopes) < 0, -1.0, 1.0)


def scenario(evidence: Evidence, split: Split, config: TrainConfig) -> Floats | None:
    """Knows the scenario of a clip and the mean of its training clips, nothing else."""
    return _group_means(evidence.scenario, evidence.labels, split)


def condition(evidence: Evidence, split: Split, config: TrainConfig) -> Floats | None:
    """Knows the condition of a clip (its folders, without object and trial), nothing else."""
    return _group_means(evidence.condition, evidence.labels, split)


def ridge_whole(evidence: Evidence, split: Split, config: TrainConfig) -> Floats:
    """A ridge regression on the raw features, all time steps side by side."""
    return _ridge(evidence.features, evidence, split, config)


def ridge_static(evidence: Evidence, split: Split, config: TrainConfig) -> Floats | None:
    """A ridge regression on the middle time step alone."""
    steps = evidence.features.shape[1]
    if evidence.features.ndim < 3 or steps < 2:
        return None
    return _ridge(evidence.features[:, steps // 2], evidence, split, config)


def ridge_shuffled_steps(evidence: Evidence, split: Split, config: TrainConfig) -> Floats | None:
    """A ridge regression on all time steps, those of each clip in an order of their own."""
    if evidence.features.ndim < 3 or evidence.features.shape[1] < 2:
        return None
    clips, steps, _ = evidence.features.shape
    order = np.random.default_rng(0).permuted(np.tile(np.arange(steps), (clips, 1)), axis=1)
    shuffled = np.take_along_axis(evidence.features, order[:, :, None], axis=1)
    return _ridge(shuffled, evidence, split, config)


BASELINES: dict[str, Baseline] = {
    "volume": volume,
    "scenario": scenario,
    "condition": condition,
    "ridge": ridge_whole,
    "ridge_static": ridge_static,
    "ridge_shuffled_steps": ridge_shuffled_steps,
}


def score_baselines(
    evidence: Evidence,
    splits: Sequence[Split],
    tests: Sequence[Numbers],
    config: TrainConfig,
    resampler: Resampler,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Every baseline on the splits of all seeds: entries like `accuracy_test`, None where a
    baseline has nothing to go by; and `gains`, what time adds to a single step, as differences.

    `tests` are the test clips of each seed that count.
    """
    named = dict(BASELINES)
    if config.agents > 1 and evidence.features.ndim == 3:
        for agent, window in enumerate(agent_windows(evidence.features.shape[1], config.agents)):
            named[f"ridge_agent_{agent}"] = _on_steps(window)
    for name, features in evidence.others.items():
        named[f"ridge_{name}"] = _on_features(features)
    found: dict[str, Any] = {"majority": score_majority(evidence, splits, tests, config, resampler)}
    accuracies: dict[str, Scores] = {}
    for name, baseline in named.items():
        progress(f"baseline {name}")
        scores = []
        for split, test in zip(splits, tests, strict=True):
            own = baseline(evidence, _testing(split, test), config)
            if own is None:
                break
            scores.append(own)
        if len(scores) < len(splits):
            found[name] = None
            continue
        accuracies[name], found[name] = score_clips(
            scores, evidence.labels, splits, tests, config, resampler
        )
    return {"baselines": found, "gains": _gains(accuracies, config.properties)}


def score_majority(
    evidence: Evidence,
    splits: Sequence[Split],
    tests: Sequence[Numbers],
    config: TrainConfig,
    resampler: Resampler,
) -> dict[str, Any]:
    """Always gives the answer that is most frequent among pairs of training clips.

    Over ordered pairs each property alone comes to one half; of several at once the likeliest
    combination of answers is taken.
    """
    says = []
    for split, test in zip(splits, tests, strict=True):
        labels = evidence.labels[split.train]
        answers, asked = labels[:, None] > labels[None], np.abs(labels[:, None] - labels[None])
        counted = answers[(asked > np.asarray(config.tie_margins)).all(-1)]  # (pairs, P)
        say = np.zeros(labels.shape[1], bool)
        if len(counted):
            combinations, counts = np.unique(counted, axis=0, return_counts=True)
            say = combinations[counts.argmax()]
        says.append(np.broadcast_to(say, (len(test), len(test), len(say))))
    graded = resampler.grade(says, evidence.labels, tests, config.tie_margins)
    return graded.by_property(config.properties)


def score_clips(
    scores: Sequence[Floats],
    labels: Floats,
    splits: Sequence[Split],
    tests: Sequence[Numbers],
    config: TrainConfig,
    resampler: Resampler,
) -> tuple[Scores, dict[str, Any]]:
    """Accuracies of comparing by scores (n, properties) of each seed's test clips, and as JSON.

    The JSON has, for each property, `auc` (is a clip above the training clips' median told from
    one below?) and `spearman` with the label, beside the accuracy.
    """
    says = [own[:, None] > own[None] for own in scores]
    accuracies = resampler.grade(says, labels, tests, config.tie_margins)
    told = accuracies.by_property(config.properties)
    told["properties"] = add_ranking(
        told["properties"], scores, labels, splits, tests, config, resampler
    )
    return accuracies, told


def add_ranking(
    told: Mapping[str, dict[str, Any]],
    scores: Sequence[Floats],
    labels: Floats,
    splits: Sequence[Split],
    tests: Sequence[Numbers],
    config: TrainConfig,
    resampler: Resampler,
) -> dict[str, Any]:
    """The entry of each property with `auc` and `spearman` of the clips' scores beside it."""
    aucs = resampler.score(
        [
            _tally_auc(own, labels[test], np.median(labels[split.train], axis=0), objects)
            for own, split, test, objects in zip(
                scores, splits, tests, [resampler.objects[test] for test in tests], strict=True
            )
        ]
    )
    correlations = np.array(
        [spearman(own, labels[test]) for own, test in zip(scores, tests, strict=True)]
    )
    return {
        name: told[name]
        | {
            "auc": aucs.to_json(number),
            "spearman": spread(correlations[:, number].tolist()),
        }
        for number, name in enumerate(config.properties)
    }


def _tally_auc(scores: Floats, labels: Floats, median: Floats, objects: Numbers) -> Tally:
    return tally(*grade_auc(scores, labels > median), objects)


def _gains(accuracies: Mapping[str, Scores], properties: Sequence[str]) -> dict[str, Any]:
    """What the whole clip adds to its middle step, and what the order of the steps adds."""
    gains = {"dynamics": "ridge_static", "order": "ridge_shuffled_steps"}
    return {
        name: (accuracies["ridge"] - accuracies[without]).by_property(properties)
        for name, without in gains.items()
        if without in accuracies
    }


def _group_means(names: Sequence[str], labels: Floats, split: Split) -> Floats | None:
    """The mean label of the training clips of a clip's group; of all where it has none there."""
    groups = np.unique(np.asarray(names), return_inverse=True)[1].ravel()
    if not groups.any():
        return None
    overall = labels[split.train].mean(0)
    scores = np.tile(overall, (len(split.test), 1))
    for group in np.unique(groups[split.test]):
        members = split.train[groups[split.train] == group]
        if len(members):
            scores[groups[split.test] == group] = labels[members].mean(0)
    return scores


def _on_steps(window: range) -> Baseline:
    def ridge_window(evidence: Evidence, split: Split, config: TrainConfig) -> Floats:
        return _ridge(evidence.features[:, window.start : window.stop], evidence, split, config)

    return ridge_window


def _on_features(features: NDArray[np.generic]) -> Baseline:
    def ridge_other(evidence: Evidence, split: Split, config: TrainConfig) -> Floats:
        return _ridge(features, evidence, split, config)

    return ridge_other


def _ridge(
    features: NDArray[np.generic], evidence: Evidence, split: Split, config: TrainConfig
) -> Floats:
    """Predicts each property's rank; the penalty is chosen by the accuracy on pairs."""
    labels = evidence.labels

    def accuracy(values: Floats, clips: Numbers) -> float:
        right, asked = grade(values[:, None] > values[None], labels[clips], config.tie_margins)
        return float((right * asked)[..., -1].sum() / max(1, asked[..., -1].sum()))

    return ridge.predict(
        ridge.gram(features.reshape(len(features), -1), split.train),
        ridge.ranks(labels, split.train),
        split.train,
        split.test,
        objects=evidence.objects,
        judge=accuracy,
    )


def _testing(split: Split, test: Numbers) -> Split:
    return Split(split.train, split.validation, test, split.generator)
