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

from pipeline.agents import agent_views
from pipeline.config import TrainConfig
from pipeline.dataset import Split
from pipeline.evaluation import ridge
from pipeline.evaluation.context import EvaluationContext
from pipeline.evaluation.pair_scores import (
    Scores,
    count_pairs,
    score_auc,
    score_pairs,
    spread,
)
from pipeline.metrics import exceeds, spearman

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What baselines may look at, of N clips, beside the splits.

    Attributes:
        caches: features (N, T, D) of each cache.
        labels: (N, properties), NaN where unknown.
        objects: number of each clip's object, (N,).
        scenario, condition: each clip's, (N,), as names; all alike where there is only one.
        volume: each clip's, (N,), or None.
        others: more features (N, ...) of the same clips, by name.
    """

    caches: Sequence[NDArray[np.generic]]
    labels: Floats
    objects: Numbers
    scenario: Sequence[str]
    condition: Sequence[str]
    volume: Floats | None = None
    others: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)

    def __repr__(self) -> str:
        shapes = " and ".join(str(own.shape) for own in self.caches)
        return f"Evidence(features={shapes}, labels={self.labels.shape})"

    @property
    def moving(self) -> bool:
        """Whether some cache has more than one time step."""
        return any(own.shape[1] > 1 for own in self.caches)


Baseline = Callable[[Evidence, Split, TrainConfig], Floats | None]
"""Scores (n, properties) of the n test clips of a split."""


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
    slopes = [spearman(volumes[split.train], labels) for labels in evidence.labels[split.train].T]
    return volumes[split.test, None] * np.where(np.asarray(slopes) < 0, -1.0, 1.0)


def scenario(evidence: Evidence, split: Split, config: TrainConfig) -> Floats | None:
    """Knows the scenario of a clip and the mean of its training clips, nothing else."""
    return _group_means(evidence.scenario, evidence.labels, split)


def condition(evidence: Evidence, split: Split, config: TrainConfig) -> Floats | None:
    """Knows the condition of a clip (its folders between object and trial), nothing else."""
    return _group_means(evidence.condition, evidence.labels, split)


def ridge_whole(evidence: Evidence, split: Split, config: TrainConfig) -> Floats:
    """A ridge regression on the raw features, all time steps side by side."""
    return _ridge(evidence.caches, evidence, split, config)


def ridge_static(evidence: Evidence, split: Split, config: TrainConfig) -> Floats | None:
    """A ridge regression on the middle time step alone."""
    if not evidence.moving:
        return None
    middle = [own[:, own.shape[1] // 2] for own in evidence.caches]
    return _ridge(middle, evidence, split, config)


def ridge_shuffled_steps(evidence: Evidence, split: Split, config: TrainConfig) -> Floats | None:
    """A ridge regression on all time steps, those of each clip in an order of their own."""
    if not evidence.moving:
        return None
    rng = np.random.default_rng(0)
    shuffled = []
    for own in evidence.caches:
        clips, steps, _ = own.shape
        order = rng.permuted(np.tile(np.arange(steps), (clips, 1)), axis=1)
        shuffled.append(np.take_along_axis(own, order[:, :, None], axis=1))
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
    evidence: Evidence, context: EvaluationContext, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """`baselines`: each on the splits of all seeds, an entry like `accuracy_test`, or None where it
    has nothing to go by; and `gains`: what time adds to a single step, as differences.
    """
    config = context.config
    named = BASELINES | _agent_ridges(evidence, config)
    for name, features in evidence.others.items():
        named[f"ridge_{name}"] = _on([features])
    found: dict[str, Any] = {"majority": score_majority(evidence, context)}
    accuracies: dict[str, Scores] = {}
    for name, baseline in named.items():
        progress(f"baseline {name}")
        scores = [
            baseline(evidence, Split(split.train, split.validation, test, split.generator), config)
            for split, test in zip(context.splits, context.tests, strict=True)
        ]
        known = [own for own in scores if own is not None]
        if len(known) < len(scores):
            found[name] = None
            continue
        accuracies[name], found[name] = score_clips(known, context)
    return {"baselines": found, "gains": _gains(accuracies, config.properties)}


def score_majority(evidence: Evidence, context: EvaluationContext) -> dict[str, Any]:
    """Always gives the answer that is most frequent among pairs of training clips.

    Over ordered pairs each property alone comes to one half; of several at once the likeliest
    combination of answers is taken.
    """
    says = []
    for split, test in zip(context.splits, context.tests, strict=True):
        labels = evidence.labels[split.train]
        apart = np.abs(labels[:, None] - labels[None]) > np.asarray(context.margins)
        answers = (labels[:, None] > labels[None])[apart.all(-1)]  # (pairs, P)
        say = np.zeros(labels.shape[1], bool)
        if len(answers):
            combinations, counts = np.unique(answers, axis=0, return_counts=True)
            say = combinations[counts.argmax()]
        says.append(np.broadcast_to(say, (len(test), len(test), len(say))))
    graded = context.resampler.score_pairs(says, context.labels, context.tests, context.margins)
    return graded.by_property(context.properties)


def score_clips(
    scores: Sequence[Floats], context: EvaluationContext
) -> tuple[Scores, dict[str, Any]]:
    """Accuracies of comparing by scores (n, properties) of each seed's test clips, and as JSON.

    The JSON has, for each property, `auc` (is a clip above the training clips' median told from
    one below?) and `spearman` with the label, beside the accuracy.
    """
    says = [exceeds(own) for own in scores]
    accuracies = context.resampler.score_pairs(says, context.labels, context.tests, context.margins)
    told = accuracies.by_property(context.properties)
    told["properties"] = add_ranking(told["properties"], scores, context)
    return accuracies, told


def add_ranking(
    told: Mapping[str, dict[str, Any]], scores: Sequence[Floats], context: EvaluationContext
) -> dict[str, Any]:
    """The entry of each property with `auc` and `spearman` of the clips' scores beside it."""
    counts, correlations = [], []
    for own, split, test in zip(scores, context.splits, context.tests, strict=True):
        labels = context.labels[test]
        high = labels > np.median(context.labels[split.train], axis=0)
        counts.append(count_pairs(*score_auc(own, high), context.resampler.objects[test]))
        correlations.append([spearman(*columns) for columns in zip(own.T, labels.T, strict=True)])
    areas = context.resampler.score(counts)
    return {
        name: told[name]
        | {"auc": areas.to_json(number), "spearman": spread([one[number] for one in correlations])}
        for number, name in enumerate(context.properties)
    }


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


def _agent_ridges(evidence: Evidence, config: TrainConfig) -> dict[str, Baseline]:
    """A ridge regression on what each agent sees, where there are several."""
    if config.agents < 2:
        return {}
    views = agent_views([own.shape[1] for own in evidence.caches], config.agent_caches)
    return {
        f"ridge_agent_{agent}": _on(
            [evidence.caches[view.cache][:, view.window.start : view.window.stop]]
        )
        for agent, view in enumerate(views)
    }


def _on(features: Sequence[NDArray[np.generic]]) -> Baseline:
    def ridge_on(evidence: Evidence, split: Split, config: TrainConfig) -> Floats:
        return _ridge(features, evidence, split, config)

    return ridge_on


def _ridge(
    features: Sequence[NDArray[np.generic]], evidence: Evidence, split: Split, config: TrainConfig
) -> Floats:
    """Predicts each property's rank; the penalty is chosen by the accuracy on pairs."""
    labels = evidence.labels

    def accuracy(values: Floats, clips: Numbers) -> float:
        right, asked = score_pairs(exceeds(values), labels[clips], config.tie_margins)
        return float((right * asked)[..., -1].sum() / max(1, asked[..., -1].sum()))

    rows = np.concatenate([own.reshape(len(own), -1) for own in features], axis=1)
    return ridge.predict(
        ridge.gram(rows, split.train),
        ridge.ranks(labels, split.train),
        split.train,
        split.test,
        objects=evidence.objects,
        judge=accuracy,
    )
