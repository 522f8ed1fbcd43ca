"""Baselines: the accuracy of other predictors on the same test clips, without agents.

A baseline gives every test clip a score for each property. Of two clips, the one with the larger
score is predicted to have more of it; scores equal up to rounding are a tie, which counts half. A
baseline that has no information is None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.agents import agent_views, window_of
from pipeline.config import TrainConfig
from pipeline.dataset import Examples, RunInputs, Split, WindowRidge, ridge
from pipeline.evaluation.baselines import bandwidth, pixels
from pipeline.evaluation.baselines.recordings import Recordings, read_recordings
from pipeline.evaluation.context import EvaluationContext
from pipeline.evaluation.pair_scores import (
    Scores,
    count_pairs,
    score_auc,
    score_pairs,
)
from pipeline.game import beyond_margin
from pipeline.metrics import exceeds, spearman
from pipeline.runs import AGENT_BASELINE, Spread

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

MOST_LABELS = 2048
"""Of so many clips with labels of their own every pair is counted."""
DRAWN_PAIRS = 1 << 20
MOST_IN_PAIRS = 512
"""Of more clips of a fold, so many at most are compared with each other to choose a penalty."""


@dataclass(frozen=True, eq=False)
class BaselineInputs:
    """What baselines can use of N clips.

    Attributes:
        caches: Features (N, T, D) of each cache.
        labels: (N, properties), NaN where unknown.
        objects: The number of each clip's object, (N,).
        scenario: The name of each clip's scenario, (N,).
        condition: The name of each clip's recording condition, (N,).
        volume: The volume of each clip's object, (N,), or None.
        other_features: More features (N, ...) of the same clips, by name.
        thumbnails: The clips' frames, small and grey, uint8 (N, F, h, w) of each cache that counts.
        no_thumbnails: Why there are none, a phrase; "" where there are some.
        recordings: What the clips' videos show; None where they were not asked for.
        shared_by_agents: The regression on the agents' windows of each split, by its training
            clips: two baselines have it.
    """

    caches: Sequence[NDArray[np.generic]]
    labels: Floats
    objects: Numbers
    scenario: Sequence[str]
    condition: Sequence[str]
    volume: Floats | None = None
    other_features: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    thumbnails: Sequence[pixels.Pixels] = ()
    no_thumbnails: str = ""
    recordings: Recordings | None = None
    shared_by_agents: dict[bytes, WindowRidge] = field(default_factory=dict)

    def __repr__(self) -> str:
        shapes = " and ".join(str(features.shape) for features in self.caches)
        return f"BaselineInputs(features={shapes}, labels={self.labels.shape})"

    @classmethod
    def of(
        cls,
        sources: RunInputs,
        examples: Examples,
        context: EvaluationContext,
        other_features: Mapping[str, NDArray[np.generic]],
        videos: Sequence[Path] | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> BaselineInputs:
        """Return the inputs from the caches of a run.

        `videos` are manifests, folders or videos to read; none: the videos are looked for where
        they were; None: no video is read.
        """
        clips = sources.clips
        labelled = np.flatnonzero(~np.isnan(examples.labels).any(axis=1))
        thumbnails, no_thumbnails = pixels.thumbnails_of(sources, labelled)
        recordings = None
        if videos is not None:
            progress("reading the videos")
            recordings = read_recordings(sources, labelled, videos, progress)
        named = zip(clips.clip_id, clips.object, strict=True)
        return cls(
            caches=examples.caches,
            labels=examples.labels,
            objects=context.scorer.objects,
            scenario=clips.scenario,
            condition=[condition_of(clip, name) for clip, name in named],
            volume=clips.labels.get("volume"),
            other_features=other_features,
            thumbnails=thumbnails,
            no_thumbnails=no_thumbnails,
            recordings=recordings,
        )

    @property
    def has_time(self) -> bool:
        """Whether some cache has more than one time step."""
        return any(features.shape[1] > 1 for features in self.caches)


def condition_of(clip: str, object_name: str) -> str:
    """Return the folders of a clip's id between its object and its trial, "" without any.

    >>> condition_of("scenarios/fall/cardboard_01/foam/02/Camera_1.mp4", "cardboard_01")
    'foam'
    >>> condition_of("e0_f1/04.mp4", "e0_f1")
    ''
    """
    parts = clip.split("/")
    if object_name not in parts:
        return ""
    return "/".join(parts[parts.index(object_name) + 1 : -2])


Baseline = Callable[[BaselineInputs, Split, TrainConfig], Floats | None]
"""Returns scores (n, properties) of the n test clips of a split, or None."""


def volume(inputs: BaselineInputs, split: Split, config: TrainConfig) -> Floats | None:
    """Predict that a larger object has more, or less: what fits more pairs of training clips.

    Clips of unknown volume get the median of the training clips.
    """
    if inputs.volume is None or "volume" in config.properties:
        return None
    known = inputs.volume[split.train]
    if np.isnan(known).all():
        return None
    volumes = np.nan_to_num(inputs.volume, nan=float(np.nanmedian(known)))
    slopes = [spearman(volumes[split.train], labels) for labels in inputs.labels[split.train].T]
    return volumes[split.test, None] * np.where(np.asarray(slopes) < 0, -1.0, 1.0)


def scenario(inputs: BaselineInputs, split: Split, config: TrainConfig) -> Floats | None:
    """Predict the mean of the training clips of a clip's scenario."""
    return _group_means(inputs.scenario, inputs.labels, split)


def condition(inputs: BaselineInputs, split: Split, config: TrainConfig) -> Floats | None:
    """Predict the mean of the training clips of a clip's condition."""
    return _group_means(inputs.condition, inputs.labels, split)


def quantised_ridge(inputs: BaselineInputs, split: Split, config: TrainConfig) -> Floats | None:
    """Predict by the regression that the agents' windows share, each part cut into cells."""
    if not bandwidth.can_count(config):
        return None
    return bandwidth.quantised_ridge(_shared_by_agents(inputs, split, config), split, config)


def ridge_whole(inputs: BaselineInputs, split: Split, config: TrainConfig) -> Floats:
    """Predict by ridge regression on the features, of all agents' windows or of all steps."""
    found = [_fit(inputs.caches, inputs, split)]
    if config.agents > 1:
        found.append(_shared_by_agents(inputs, split, config))
    return max(found, key=lambda fit: fit.goodness).predictions[split.test]


def quantised_labels(inputs: BaselineInputs, split: Split, config: TrainConfig) -> Floats | None:
    """Return the true labels, cut into as many cells as there are messages."""
    if not bandwidth.can_count(config):
        return None
    return bandwidth.quantised_labels(inputs.labels, split, config)


def ridge_static(inputs: BaselineInputs, split: Split, config: TrainConfig) -> Floats | None:
    """Predict by ridge regression on the middle time step alone."""
    if not inputs.has_time:
        return None
    steps = [features.shape[1] // 2 for features in inputs.caches]
    middle = [
        features[:, step : step + 1] for features, step in zip(inputs.caches, steps, strict=True)
    ]
    return _fit(middle, inputs, split).predictions[split.test]


def ridge_shuffled_steps(
    inputs: BaselineInputs, split: Split, config: TrainConfig
) -> Floats | None:
    """Predict by ridge regression on all time steps, shuffled within each clip."""
    if not inputs.has_time:
        return None
    rng = np.random.default_rng(0)
    shuffled = []
    for features in inputs.caches:
        clips, steps, _ = features.shape
        order = rng.permuted(np.tile(np.arange(steps), (clips, 1)), axis=1)
        own = _Shuffled(features, order)
        shuffled.append(own if clips > ridge.MOST_CLIPS else own[:])
    return _fit(shuffled, inputs, split).predictions[split.test]


@dataclass(frozen=True, eq=False)
class _Shuffled:
    """Features (N, T, D) whose steps are in another order in each clip, (N, T), once read."""

    features: Any
    order: Numbers

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.features.shape)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, clips: Any) -> NDArray[Any]:
        return np.take_along_axis(self.features[clips], self.order[clips][:, :, None], axis=1)


BASELINES: dict[str, Baseline] = {
    "volume": volume,
    "scenario": scenario,
    "condition": condition,
    "quantised_ridge": quantised_ridge,
    "ridge": ridge_whole,
    "quantised_labels": quantised_labels,
    "ridge_static": ridge_static,
    "ridge_shuffled_steps": ridge_shuffled_steps,
}


def score_baselines(
    inputs: BaselineInputs,
    context: EvaluationContext,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Score every baseline on the splits of all seeds.

    Returns:
        `baselines`, an accuracy of each (None for one without information), those that need no
        network first; `missing_baselines`, why some are None; and `gains`, what time adds to a
        single step, as differences.
    """
    config = context.config
    named = _pixel_ridges(inputs) | BASELINES | _agent_ridges(inputs, config)
    for name, features in inputs.other_features.items():
        named[f"ridge_{name}"] = _ridge_of_steps([features])
    entries: dict[str, Any] = {"majority": score_majority(inputs, context)}
    accuracies: dict[str, Scores] = {}
    for name, baseline in named.items():
        progress(f"baseline {name}")
        scores = _of_every_split(baseline, inputs, context)
        known = [values for values in scores if values is not None]
        if len(known) < len(scores):
            entries[name] = None
            continue
        accuracies[name], entries[name] = score_clips(known, context)
    missing = pixels.missing(inputs.thumbnails, inputs.no_thumbnails)
    if inputs.recordings is not None:
        missing |= inputs.recordings.missing
    return {
        "baselines": entries,
        "missing_baselines": missing,
        "gains": _gains(accuracies, config.properties),
    }


def _of_every_split(
    baseline: Baseline, inputs: BaselineInputs, context: EvaluationContext
) -> list[Floats | None]:
    """Return the scores of a baseline in each seed; seeds of equal splits have equal scores."""
    found: dict[tuple[bytes, bytes], Floats | None] = {}
    keys = []
    for split, test in zip(context.splits, context.tests, strict=True):
        keys.append((split.train.tobytes(), test.tobytes()))
        if keys[-1] not in found:
            part = Split(split.train, split.validation, test, split.generator)
            found[keys[-1]] = baseline(inputs, part, context.config)
    return [found[key] for key in keys]


def score_majority(inputs: BaselineInputs, context: EvaluationContext) -> dict[str, Any]:
    """Score the answer that is most frequent among pairs of training clips.

    Over ordered pairs each property alone comes to one half; of several at once the most frequent
    combination of answers is taken.
    """
    answers = []
    for split, test in zip(context.splits, context.tests, strict=True):
        answer = most_frequent_answer(inputs.labels[split.train], context.margins)
        answers.append(np.broadcast_to(answer, (len(test), len(test), len(answer))))
    scores = context.scorer.score_pairs(answers, context.labels, context.tests, context.margins)
    return scores.by_property(context.properties)


def most_frequent_answer(labels: Floats, margins: Sequence[float]) -> NDArray[np.bool_]:
    """Return the answers to "has the first more?" that most ordered pairs of clips have: (P,).

    Only pairs beyond the margin of every property count. Clips with the same labels are counted,
    not compared; of more than `MOST_LABELS` others, `DRAWN_PAIRS` pairs are drawn, in both orders.

    Args:
        labels: (n, P).
        margins: Of each property; a pair whose values differ by no more is a tie.
    """
    rows, counts = np.unique(labels, axis=0, return_counts=True)
    found: Counter[tuple[int, ...]] = Counter()
    for first, second, weights in _label_pairs(labels, rows, counts):
        apart = beyond_margin(first, second, margins).all(-1)
        packed = np.packbits((first > second)[apart], axis=-1)  # in the order of the answers
        known, number = np.unique(packed, axis=0, return_inverse=True)
        totals = np.bincount(number.ravel(), weights[apart])
        for one, total in zip(known, totals.tolist(), strict=True):
            found[tuple(np.unpackbits(one, count=labels.shape[1]).tolist())] += int(total)
    if not found:
        return np.zeros(labels.shape[1], bool)
    return np.array(min(found, key=lambda answer: (-found[answer], answer)), bool)


def _label_pairs(
    labels: Floats, rows: Floats, counts: Numbers
) -> Iterator[tuple[Floats, Floats, Numbers]]:
    """Yield labels of pairs (..., P) twice, and how many pairs of clips each stands for (...)."""
    if len(rows) > MOST_LABELS:
        pairs = np.random.default_rng(0).integers(len(labels), size=(2, DRAWN_PAIRS))
        a, b = labels[pairs]
        for first, second in ((a, b), (b, a)):
            yield first, second, np.ones(DRAWN_PAIRS, np.int64)
        return
    for start in range(0, len(rows), 64):
        some = slice(start, start + 64)
        first, second = np.broadcast_arrays(rows[some, None], rows)
        yield first, second, counts[some, None] * counts


def score_clips(
    scores: Sequence[Floats], context: EvaluationContext
) -> tuple[Scores, dict[str, Any]]:
    """Score comparisons of test clips by their scores.

    Args:
        scores: Of each seed, the scores (n, properties) of its n test clips.
        context: The run's clips and splits.

    Returns:
        The accuracies, and their entry in `metrics.json` with the rank scores of each property.
    """
    answers = [exceeds(values) for values in scores]
    accuracies = context.scorer.score_pairs(answers, context.labels, context.tests, context.margins)
    entry = accuracies.by_property(context.properties)
    entry["properties"] = add_rank_scores(entry["properties"], scores, context)
    return accuracies, entry


def add_rank_scores(
    entries: Mapping[str, dict[str, Any]], scores: Sequence[Floats], context: EvaluationContext
) -> dict[str, Any]:
    """Return the entry of each property with `auc` and `spearman` of the clips' scores.

    `auc` is how often a clip above the training clips' median scores above one below it.
    """
    counts, correlations = [], []
    for values, split, test in zip(scores, context.splits, context.tests, strict=True):
        labels = context.labels[test]
        high = labels > np.median(context.labels[split.train], axis=0)
        counts.append(count_pairs(*score_auc(values, high), context.scorer.objects[test]))
        columns = zip(values.T, labels.T, strict=True)
        correlations.append([spearman(column, label) for column, label in columns])
    areas = context.scorer.score(counts)
    return {
        name: entries[name]
        | {
            "auc": areas.to_json(number),
            "spearman": Spread.numbers([seed[number] for seed in correlations]),
        }
        for number, name in enumerate(context.properties)
    }


def _gains(accuracies: Mapping[str, Scores], properties: Sequence[str]) -> dict[str, Any]:
    """Return what all time steps add to the middle one, and what their order adds."""
    gains = {"dynamics": "ridge_static", "order": "ridge_shuffled_steps"}
    return {
        name: (accuracies["ridge"] - accuracies[without]).by_property(properties)
        for name, without in gains.items()
        if without in accuracies
    }


def _group_means(names: Sequence[str], labels: Floats, split: Split) -> Floats | None:
    """Return the mean label of the training clips of a clip's group; of all where it has none.

    None where all clips are of one group.
    """
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


def _pixel_ridges(inputs: BaselineInputs) -> dict[str, Baseline]:
    """Return a ridge regression on what frames, and videos, show without a network."""
    shown: dict[str, Any] = {**pixels.pixel_features(inputs.thumbnails)}
    if inputs.recordings is not None:
        shown |= inputs.recordings.features
    return {name: _ridge_on(features) for name, features in shown.items()}


def _agent_ridges(inputs: BaselineInputs, config: TrainConfig) -> dict[str, Baseline]:
    """Return a ridge regression on the features of each agent, where there are several."""
    if config.agents < 2:
        return {}
    windows = agent_windows_of(inputs.caches, config)
    return {
        f"{AGENT_BASELINE}{agent}": _ridge_of_steps([window])
        for agent, window in enumerate(windows, 1)
    }


def agent_windows_of(
    caches: Sequence[NDArray[np.generic]], config: TrainConfig
) -> list[NDArray[np.generic]]:
    """Return the features (N, steps, D) that each agent sees."""
    views = agent_views([features.shape[1] for features in caches], config.agent_caches)
    return [window_of(caches, view) for view in views]


def _ridge_of_steps(windows: Sequence[NDArray[np.generic]]) -> Baseline:
    """Return a ridge regression on features (N, T, D) of time steps, or (N, ...) of one."""
    stepwise = [
        window if window.ndim == 3 else window.reshape(len(window), 1, -1) for window in windows
    ]

    def baseline(inputs: BaselineInputs, split: Split, config: TrainConfig) -> Floats | None:
        return _fit(stepwise, inputs, split).predictions[split.test]

    return baseline


def _fit(windows: Sequence[Any], inputs: BaselineInputs, split: Split) -> WindowRidge:
    return WindowRidge.fit(windows, inputs.labels, inputs.objects, split.train)


def _shared_by_agents(inputs: BaselineInputs, split: Split, config: TrainConfig) -> WindowRidge:
    """Return the regression on all agents' windows, which is fitted once for each split."""
    key = split.train.tobytes()
    if key not in inputs.shared_by_agents:
        windows = agent_windows_of(inputs.caches, config)
        inputs.shared_by_agents[key] = _fit(windows, inputs, split)
    return inputs.shared_by_agents[key]


def _ridge_on(features: Sequence[NDArray[np.generic]]) -> Baseline:
    def baseline(inputs: BaselineInputs, split: Split, config: TrainConfig) -> Floats | None:
        return _ridge(features, inputs, split, config) if features else None

    return baseline


def _ridge(
    features: Sequence[NDArray[np.generic]],
    inputs: BaselineInputs,
    split: Split,
    config: TrainConfig,
) -> Floats:
    """Predict each property's relative rank; the penalty is chosen by the accuracy on pairs."""
    labels = inputs.labels

    def accuracy(values: Floats, clips: Numbers) -> float:
        some = slice(None, None, -(-len(clips) // MOST_IN_PAIRS))
        values, clips = values[some], clips[some]
        right, asked = score_pairs(exceeds(values), labels[clips], config.tie_margins)
        return float((right * asked)[..., -1].sum() / max(1, asked[..., -1].sum()))

    return ridge.predict(
        ridge.likeness(features, split.train),
        ridge.relative_ranks(labels, split.train),
        split.train,
        split.test,
        objects=inputs.objects,
        goodness=accuracy,
    )
