"""Transfer: the agents of a run on clips of another cache, nothing retrained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data.cache import Features, JoinedRows, MappedRows
from data.copies import address_of
from data.differences import first_difference, value_text
from data.errors import HeliographError
from data.wording import counted
from pipeline.dataset import (
    CacheSource,
    Examples,
    RunInputs,
    Split,
    build_examples,
    clip_blocks,
    drawn,
    load_finite_cache,
    ridge,
)
from pipeline.evaluation.baselines import pixels
from pipeline.evaluation.baselines.predictors import BaselineInputs, ridge_whole
from pipeline.evaluation.context import MAX_TEST_CLIPS, MessageContext, compare_clips
from pipeline.evaluation.pair_scores import PairScorer
from pipeline.game import beyond_margin
from pipeline.metrics import exceeds
from pipeline.runs import Run

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

CARRIED = ("pixels", "differences")
"""The baselines without a network that are also scored on other clips."""
FILE_FIELDS = {"source", "sha256"}
"""Fields of an imported cache's fingerprint that say which file it was, not how it was made."""


def read_other_cache(run: Run, path: Path) -> tuple[Examples, Features]:
    """Read the clips of another cache, with the run's properties; and all that it holds.

    Raises:
        HeliographError: Its features were made in another way, or it lacks the labels.
    """
    clips, name = load_finite_cache(path), address_of(path) or str(path)
    require_same_features(run.source, clips, path)
    others = build_examples(clips, run.config.properties, name)
    values = others.labels[~np.isnan(others.labels).any(axis=1)]
    margins = run.config.tie_margins
    if len(values) < 2 or not beyond_margin(values.max(0), values.min(0), margins).all():
        raise HeliographError(
            f"{name} has no clips that differ in each of {', '.join(run.config.properties)}"
        )
    return others, clips


Predictor = Callable[[MessageContext, Examples, Sequence[NDArray[np.generic]]], list[Floats]]
"""Returns scores (n, properties) of n clips of another cache, for each seed of a run.

It is given the N clips of the run, and features (N + n, ...) of these and of those to predict.
"""

Shown = Mapping[str, tuple[list[pixels.Pixels], list[pixels.Pixels]]]
"""By baseline, what the N clips of a run and the M of another cache show without a network."""


def frames_of(
    inputs: RunInputs, examples: Examples, others: Examples, clips: Features
) -> tuple[Shown, dict[str, str]]:
    """Return what the run's clips and those of another cache show without a network, by baseline.

    Args:
        inputs: The run's cache.
        examples: Its clips, N.
        others: The M clips of the other cache, from `read_other_cache`.
        clips: The same.

    Returns:
        By name, an array (N, ...) and one (M, ...), in lists as of caches; and why there is none:
        labelled clips of one lack thumbnails, or theirs differ in size or number.
    """
    asked, other_asked = (
        np.flatnonzero(~np.isnan(own.labels).any(axis=1)) for own in (examples, others)
    )
    ours, reason = pixels.thumbnails_of(inputs, asked)
    theirs = np.asarray(clips.thumbnails)
    reason = reason or pixels.lacking(clips, other_asked, "the other cache")
    if not reason and ours[0].shape[1:] != theirs.shape[1:]:
        sizes = [" x ".join(map(str, own.shape[1:])) for own in (theirs, ours[0])]
        reason = f"its thumbnails are {sizes[0]}, those of the run {sizes[1]}"
    if reason:
        return {}, dict.fromkeys(CARRIED, reason)
    shown, other_shown = (pixels.pixel_features([own]) for own in (ours[0], theirs))
    missing = pixels.missing(ours, "")
    return (
        {name: (shown[name], other_shown[name]) for name in CARRIED if shown[name]},
        {name: why for name, why in missing.items() if name in CARRIED},
    )


def require_same_features(source: CacheSource, clips: Features, path: Path) -> None:
    """Check that the features of another cache were made as those of the run's cache.

    Raises:
        HeliographError: They were not; the sentence names the first field that differs.
    """
    for kind, other, own in (
        ("backbone", clips.fingerprint, source.fingerprint),
        ("sampling", clips.sampler, source.sampler),
    ):
        ignored = FILE_FIELDS if other.get("imported") and own.get("imported") else set()
        fields = sorted({*other, *own} - ignored)
        theirs, ours = ({field: made.get(field) for field in fields} for made in (other, own))
        if found := first_difference(theirs, ours):
            raise HeliographError(
                f"{path} was made with another {kind} than the run's cache: its {found.name} is "
                f"{value_text(found.left)}, the run's {value_text(found.right)}"
            )
    shape = clips.features.shape[1:]
    if shape != (source.steps, source.dim):
        raise HeliographError(
            f"{path} has {counted(shape[0], 'step')} of {counted(shape[1], 'feature')}, the run's "
            f"cache {source.steps} of {source.dim}"
        )


def transfer(
    run: Run,
    context: MessageContext,
    examples: Examples,
    others: Examples,
    frames: Shown,
    missing: Mapping[str, str],
    same: NDArray[np.int64],
) -> dict[str, Any]:
    """Score every seed's agents on the clips of another cache.

    Args:
        run: The run.
        context: Its messages and receivers.
        examples: Its clips.
        others: The clips of the other cache, from `read_other_cache`.
        frames: What both show without a network, from `frames_of`.
        missing: Why there is none of it, by baseline.
        same: Which clip of the other cache each of the run's is; -1 where it is none.

    Returns:
        `accuracy` is over all labelled clips (at most 400, drawn with a fixed seed), `new_objects`
        over those whose object was not in the seed's training, None where a seed has none; `ridge`
        is the baseline of that name, fitted on the run's training clips, that predicts the same
        clips as `accuracy`; so are those of `frames`, None where it lacks them.
    """

    def baseline(
        own: Sequence[NDArray[np.generic]], other: Sequence[NDArray[np.generic]], predict: Predictor
    ) -> dict[str, Any]:
        both = [_joined(a, b[labelled]) for a, b in zip(own, other, strict=True)]
        predictions = predict(context, examples, both)
        return _score(context, others, [exceeds(values) for values in predictions], every)

    labelled = drawn(np.flatnonzero(~np.isnan(others.labels).any(axis=1)), MAX_TEST_CLIPS)
    tokens = [messages_of(run.of_seed(seed), others.features) for seed in run.seeds]
    trained = {int(row) for split in context.splits for row in same[split.train]}
    trained_on = [{context.objects[clip] for clip in split.train} for split in context.splits]
    new = [
        np.array([clip for clip in labelled if others.objects[clip] not in known], np.int64)
        for known in trained_on
    ]
    every = [labelled] * len(new)
    comparable = all(
        len(clips) and (np.ptp(others.labels[clips], axis=0) > 0).all() for clips in new
    )
    return {
        "clips": len(labelled),
        "objects": len({others.objects[clip] for clip in labelled}),
        "trained_on": len(trained & set(labelled.tolist())),
        "known_messages": _share_known(context, tokens, labelled),
        "accuracy": _score_agents(context, others, tokens, every),
        "new_objects": _score_agents(context, others, tokens, new) if comparable else None,
        **{
            name: baseline(*frames[name], _predict_by_pixels) if name in frames else None
            for name in CARRIED
        },
        "missing_baselines": dict(missing),
        "ridge": baseline(examples.caches, others.caches, _predict_by_features),
    }


def _joined(own: Any, other: NDArray[np.generic]) -> Any:
    """Return rows (N, ...) and (n, ...) as one; many of a file stay there."""
    if isinstance(own, MappedRows) and len(own) > ridge.MOST_CLIPS and own.dtype == other.dtype:
        return JoinedRows([own, other])
    return np.concatenate([own, other])


@torch.inference_mode()
def messages_of(run: Run, features: NDArray[np.generic]) -> Numbers:
    """Return the tokens int64 (N, positions) of a run's sender for features (N, T, D)."""
    sender = run.sender()
    tokens = [
        sender(torch.from_numpy(block.astype(np.float32))) for _, block in clip_blocks(features)
    ]
    return torch.cat(tokens).numpy().reshape(len(features), -1)


def _share_known(context: MessageContext, tokens: Sequence[Numbers], clips: Numbers) -> float:
    """Return the share of clips whose whole message some training clip of the seed has too."""
    shares = []
    for number, split in enumerate(context.splits):
        known = set(map(tuple, context.tokens[number, split.train].tolist()))
        messages = tokens[number][clips].tolist()
        shares.append(np.mean([tuple(message) in known for message in messages]))
    return float(np.mean(shares))


def _score_agents(
    context: MessageContext, others: Examples, tokens: Sequence[Numbers], clips: Sequence[Numbers]
) -> dict[str, Any]:
    answers = [
        compare_clips(context.receiver(number), tokens[number][own], context.config.vocab)
        for number, own in enumerate(clips)
    ]
    return _score(context, others, answers, clips)


def _score(
    context: MessageContext,
    others: Examples,
    answers: Sequence[NDArray[np.bool_]],
    clips: Sequence[Numbers],
) -> dict[str, Any]:
    scorer = PairScorer(others.objects, clips)
    scores = scorer.score_pairs(answers, others.labels, clips, context.config.tie_margins)
    return scores.by_property(context.config.properties)


def _predict_by_features(
    context: MessageContext, examples: Examples, features: Sequence[NDArray[np.generic]]
) -> list[Floats]:
    """Predict clips of the other cache as the baseline `ridge` does the run's test clips."""
    asked, objects, labels = _with_asked(context, examples, features)
    nameless = [""] * len(objects)
    inputs = BaselineInputs(
        caches=features, labels=labels, objects=objects, scenario=nameless, condition=nameless
    )
    return [
        ridge_whole(
            inputs, Split(split.train, split.validation, asked, split.generator), context.config
        )
        for split in context.splits
    ]


def _predict_by_pixels(
    context: MessageContext, examples: Examples, frames: Sequence[NDArray[np.generic]]
) -> list[Floats]:
    """Predict clips of the other cache by ridge regression on what frames show."""
    asked, objects, labels = _with_asked(context, examples, frames)
    predictions = []
    for split in context.splits:
        ranks = ridge.relative_ranks(labels, split.train)
        predictions.append(
            ridge.predict(
                ridge.likeness(frames, split.train),
                ranks,
                split.train,
                asked,
                objects=objects,
                goodness=ridge.closeness(ranks),
            )
        )
    return predictions


def _with_asked(
    context: MessageContext, examples: Examples, features: Sequence[NDArray[np.generic]]
) -> tuple[Numbers, Numbers, Floats]:
    """Return the numbers of the clips to predict, objects (N + n,) and labels (N + n, P).

    The clips to predict are of no known object (-1) and have no labels (NaN).
    """
    known, total = examples.labels.shape[0], len(features[0])
    labels = np.full((total, examples.labels.shape[1]), np.nan)
    labels[:known] = examples.labels
    objects = np.full(total, -1)
    objects[:known] = context.scorer.objects
    return np.arange(known, total), objects, labels
