"""Agents of a run on clips that they never saw: another scenario's cache, nothing retrained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data.cache import Features
from data.errors import HeliographError
from pipeline.dataset import CacheSource, Examples, build_examples, load_finite_cache
from pipeline.evaluation import ridge
from pipeline.evaluation.context import MAX_TEST_CLIPS, MessageContext, compare_clips
from pipeline.evaluation.pair_scores import Resampler
from pipeline.metrics import exceeds
from pipeline.runs import Run

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


def read_other(run: Run, path: Path) -> Examples:
    """The clips of another cache, with the run's properties.

    Raises HeliographError for a cache whose features were made otherwise, or without the labels.
    """
    other = load_finite_cache(path)
    refuse_other(run.source, other, path)
    theirs = build_examples(other, run.config.properties)
    values = theirs.labels[~np.isnan(theirs.labels).any(axis=1)]
    if len(values) < 2 or not (np.ptp(values, axis=0) > run.config.tie_margins).all():
        raise HeliographError(
            f"{path} has no clips that differ in each of {', '.join(run.config.properties)}"
        )
    return theirs


def transfer(
    run: Run, context: MessageContext, examples: Examples, theirs: Examples
) -> dict[str, Any]:
    """Lets every seed's agents compare the clips of another cache, from `read_other`.

    `accuracy` is over all its labelled clips (at most 400, drawn with a fixed seed),
    `new_objects` over those whose object was not in the seed's training, None where a seed has
    none; `ridge` is the baseline that learnt on the run's training clips and predicts the same
    clips as `accuracy`.
    """
    labelled = np.flatnonzero(~np.isnan(theirs.labels).any(axis=1))
    if len(labelled) > MAX_TEST_CLIPS:
        drawn = np.random.default_rng(0).choice(labelled, MAX_TEST_CLIPS, replace=False)
        labelled = np.sort(drawn)
    tokens = [speak(run.of_seed(seed), theirs.features) for seed in run.seeds]
    seen = [{context.objects[clip] for clip in split.train} for split in context.splits]
    every = [labelled] * len(seen)
    new = [
        np.array([clip for clip in labelled if theirs.objects[clip] not in known], np.int64)
        for known in seen
    ]
    return {
        "clips": len(labelled),
        "objects": len({theirs.objects[clip] for clip in labelled}),
        "known_messages": _known(context, tokens, labelled),
        "accuracy": _agents(context, theirs, tokens, every),
        "new_objects": _agents(context, theirs, tokens, new) if _comparable(theirs, new) else None,
        "ridge": _told(context, theirs, _ridge(context, examples, theirs, labelled), every),
    }


def refuse_other(source: CacheSource, other: Features, path: Path) -> None:
    """Raises HeliographError where a cache was made otherwise than the one trained on."""
    for kind, here, there in (
        ("backbone", other.fingerprint, source.fingerprint),
        ("sampling", other.sampler, source.sampler),
    ):
        unlike = _WHICH_FILE if here.get("imported") and there.get("imported") else set()
        for field in sorted({*here, *there} - unlike):
            if here.get(field) != there.get(field):
                raise HeliographError(
                    f"{path} was made with another {kind} than the run's cache: its {field} is "
                    f"{here.get(field)!r}, the run's {there.get(field)!r}"
                )
    shape = other.features.shape[1:]
    if shape != (source.steps, source.dim):
        raise HeliographError(
            f"{path} has {shape[0]} steps of {shape[1]} features, the run's cache "
            f"{source.steps} of {source.dim}"
        )


_WHICH_FILE: set[str] = {"source", "sha256"}
"""Fields of an imported cache's fingerprint that say which file it was, not how it was made."""


@torch.inference_mode()
def speak(run: Run, features: NDArray[np.generic]) -> Numbers:
    """Tokens int64 (N, positions) for features (N, T, D)."""
    said = run.sender()(torch.from_numpy(np.ascontiguousarray(features)).float())
    return said.numpy().reshape(len(features), -1)


def _known(context: MessageContext, tokens: Sequence[Numbers], clips: Numbers) -> float:
    """The share of clips whose whole message some training clip of the seed has too."""
    shares = []
    for number, split in enumerate(context.splits):
        heard = set(map(tuple, context.tokens[number, split.train].tolist()))
        shares.append(np.mean([tuple(word) in heard for word in tokens[number][clips].tolist()]))
    return float(np.mean(shares))


def _comparable(theirs: Examples, clips: Sequence[Numbers]) -> bool:
    return all(len(own) and (np.ptp(theirs.labels[own], axis=0) > 0).all() for own in clips)


def _agents(
    context: MessageContext, theirs: Examples, tokens: Sequence[Numbers], clips: Sequence[Numbers]
) -> dict[str, Any]:
    says = [
        compare_clips(context.receiver(number), tokens[number][own], context.config.vocab)
        for number, own in enumerate(clips)
    ]
    config = context.config
    resampler = Resampler(theirs.objects, clips)
    graded = resampler.score_pairs(says, theirs.labels, clips, config.tie_margins)
    return graded.by_property(config.properties)


def _told(
    context: MessageContext, theirs: Examples, scores: Sequence[Floats], clips: Sequence[Numbers]
) -> dict[str, Any]:
    says = [exceeds(own) for own in scores]
    resampler = Resampler(theirs.objects, clips)
    margins = context.config.tie_margins
    graded = resampler.score_pairs(says, theirs.labels, clips, margins)
    return graded.by_property(context.config.properties)


def _ridge(
    context: MessageContext, ours: Examples, theirs: Examples, clips: Numbers
) -> list[Floats]:
    """Predictions for their clips by ridge regression on our training clips, each seed's."""
    raw = np.concatenate([ours.flat_features(), theirs.flat_features()[clips]])
    asked = np.arange(len(clips)) + len(ours.labels)
    objects = np.concatenate([context.resampler.objects, np.full(len(clips), -1)])
    found = []
    for split in context.splits:
        ranks = np.zeros((len(raw), ours.labels.shape[1]))
        ranks[: len(ours.labels)] = ridge.ranks(ours.labels, split.train)

        def closeness(values: Floats, own: Numbers, ranks: Floats = ranks) -> float:
            return -float(((values - ranks[own]) ** 2).mean())

        kernel = ridge.gram(raw, split.train)
        found.append(
            ridge.predict(kernel, ranks, split.train, asked, objects=objects, judge=closeness)
        )
    return found
