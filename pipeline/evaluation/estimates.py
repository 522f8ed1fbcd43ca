"""Estimates of the properties from messages: how far they err, and whether their numbers hold.

What `heliograph message` says of a clip is scored on the clips that each seed held out. An object
is never judged by its own errors: interval and confidence come from those of other objects.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.agents import FastSender
from pipeline.evaluation.context import one_thread
from pipeline.message import (
    LEVEL,
    SpokenClips,
    Witnesses,
    band_chances,
    band_edges,
    reads_logarithms,
    to_scores,
    witnesses_of,
)
from pipeline.runs import Run

FOLDS = 50
"""Objects are judged by those of other folds: up to so many, each by all others."""
BINS = 10
"""Of confidences, equally wide (Guo et al. 2017, "On Calibration of Modern Neural Networks")."""
CLIPS_AT_ONCE = 256

Floats = NDArray[np.float64]


def score_estimates(run: Run, caches: Sequence[NDArray[Any]]) -> dict[str, Any]:
    """Return, by property, how far estimates err, the coverage of intervals, calibration errors.

    Args:
        run: The run.
        caches: Features (N, steps, dim) of its clips, from each of its caches.
    """
    seeds, every = witnesses_of(run)
    if not all(len(own.train) and len(own.held_out) for own in every):
        return {}
    softmax = [
        _softmax_confidence(run.of_seed(seed) if seed is not None else run, caches, own)
        for seed, own in zip(seeds, every, strict=True)
    ]
    return {
        name: _score(every, number, run.config.vocab, np.concatenate(softmax))
        for number, name in enumerate(run.config.properties)
    }


def _score(
    every: Sequence[SpokenClips], number: int, vocab: int, softmax: Floats
) -> dict[str, Any]:
    column = every[0].labels[:, number]
    trained = column[every[0].train]
    logarithm, edges = reads_logarithms(trained), band_edges(trained)
    witnesses = Witnesses.of(every, number, logarithm, vocab)
    true = column[witnesses.clip]
    estimated = np.exp(witnesses.estimated) if logarithm else witnesses.estimated
    band = (true > edges[0]).astype(int) + (true > edges[1])
    fold = np.unique(witnesses.object, return_inverse=True)[1] % FOLDS
    inside, chances = np.full(len(true), np.nan), np.full((len(true), 3), np.nan)
    for left_out in np.unique(fold):
        own, others = fold == left_out, witnesses.among(fold != left_out)
        reach = others.reach()
        if reach is not None:
            inside[own] = np.abs(witnesses.errors[own]) <= reach
            chances[own] = band_chances(
                witnesses.estimated[own],
                others.errors,
                others.weights / others.weights.sum(),
                to_scores(np.array(edges), logarithm),
                others.objects,
            )
    named = chances.argmax(axis=1)  # 0 where unknown, and then nothing is said of it
    right = np.where(np.isnan(chances[:, 0]), np.nan, named == band)
    return {
        "objects": witnesses.objects,
        "level": LEVEL,
        "coverage": _mean_over_objects(inside, witnesses),
        "error": float(np.abs(true - estimated).mean()),
        "error_of_median": float(np.abs(true - np.median(trained)).mean()),
        "right": _mean_over_objects(right, witnesses),
        "calibration_error_softmax": calibration_error(softmax, right),
        "calibration_error": calibration_error(chances.max(axis=1), right),
    }


def _mean_over_objects(values: Floats, witnesses: Witnesses) -> float:
    """Return the mean of values, every object with the same weight."""
    return float(values @ witnesses.weights / witnesses.weights.sum())


def calibration_error(confidence: Floats, right: Floats) -> float:
    """Return the expected calibration error: how far shares of right answers lie from confidences.

    The mean distance of the two over `BINS` bins of confidences, each with the weight of its
    answers; NaN where an answer is not known.

    >>> calibration_error(np.array([0.75, 0.75, 0.75, 0.75]), np.array([1.0, 1.0, 1.0, 0.0]))
    0.0
    """
    if not len(right) or np.isnan(right).any():
        return math.nan
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    apart = [
        abs(float((confidence[bins == one] - right[bins == one]).sum())) for one in np.unique(bins)
    ]
    return sum(apart) / len(confidence)


def _softmax_confidence(run: Run, caches: Sequence[NDArray[Any]], clips: SpokenClips) -> Floats:
    """Return the mean softmax probability of the symbols of each held-out message, (n,)."""
    sender, confidence = FastSender(run.sender()), []
    with one_thread():
        for start in range(0, len(clips.held_out), CLIPS_AT_ONCE):
            some = clips.held_out[start : start + CLIPS_AT_ONCE]
            features = [torch.from_numpy(np.asarray(cache[some], np.float32)) for cache in caches]
            likeliest = sender(features).softmax(-1).amax(-1).double().numpy()
            confidence.append(likeliest.reshape(len(some), -1).mean(axis=1))
    return np.concatenate(confidence)
