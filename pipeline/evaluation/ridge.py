"""Ridge regression on a Gram matrix: few clips, thousands of features, many seeds.

Standardised features enter only through their inner products, so a seed costs one product of
(clips, features) matrices, and everything after it is as small as the number of clips.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics import merge_ties

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

PENALTIES: Floats = np.logspace(-2, 4, 7)
FOLDS = 5

Judge = Callable[[Floats, Numbers], float]
"""Scores predictions (n, targets) for clips (n,); larger is better, NaN where it cannot say."""


def gram(features: NDArray[np.generic], train: Numbers) -> Floats:
    """Mean products of standardised features: (N, F) -> (N, N).

    Mean and deviation are those of the training clips; a feature that does not vary there is left
    at its difference from the mean.
    """
    equal = first_equal_rows(features)
    rows = np.asarray(features, dtype=np.float32)
    rows = rows - rows[train].mean(0)
    scale = rows[train].std(0)
    rows /= np.where(scale > 0, scale, 1)
    kernel = (rows @ rows.T).astype(np.float64) / rows.shape[1]
    return kernel[np.ix_(equal, equal)]


def first_equal_rows(features: NDArray[np.generic]) -> Numbers:
    """Return for each row the first row that has the same bytes: (N,).

    A product of matrices rounds equal rows differently, and regression magnifies that until equal
    clips seem to differ; their part of the kernel is therefore that of the first of them.
    """
    first: dict[bytes, int] = {}
    return np.array([first.setdefault(row.tobytes(), index) for index, row in enumerate(features)])


def predict(
    kernel: Floats,
    targets: Floats,
    train: Numbers,
    clips: Numbers,
    *,
    objects: Numbers,
    judge: Judge,
) -> Floats:
    """Predictions (n, T) for `clips` of targets (N, T), learnt on the `train` clips.

    The penalty, one for all the targets, is the one of `PENALTIES` whose predictions `judge` likes
    best over five folds of training objects; `objects` (N,) numbers the object of each clip.
    """
    folds = np.unique(objects[train], return_inverse=True)[1] % FOLDS
    liked = np.zeros(len(PENALTIES))
    for fold in range(FOLDS):
        inside, outside = train[folds != fold], train[folds == fold]
        if not len(inside) or len(outside) < 2:
            continue
        for number, values in enumerate(_solve(kernel, targets, inside, outside, PENALTIES)):
            liked[number] += len(outside) * np.nan_to_num(judge(values, outside))
    best = PENALTIES[[int(merge_ties(liked).argmax())]]
    return _solve(kernel, targets, train, clips, best)[0]


def _solve(
    kernel: Floats, targets: Floats, train: Numbers, clips: Numbers, penalties: Floats
) -> Floats:
    """(penalties, n, T), by one eigendecomposition; the intercept is not penalised."""
    inside, across = kernel[np.ix_(train, train)], kernel[np.ix_(clips, train)]
    column = inside.mean(0)
    centred = inside - column - column[:, None] + column.mean()
    across = across - across.mean(1, keepdims=True) - column + column.mean()
    offset = targets[train].mean(0)
    values, vectors = np.linalg.eigh(centred)
    wanted = vectors.T @ (targets[train] - offset)  # (train, T)
    seen = across @ vectors  # (n, train)
    shrunk = wanted / (np.maximum(values, 0)[:, None] + penalties[:, None, None])
    return np.asarray(seen @ shrunk + offset)


def ranks(labels: Floats, train: Numbers) -> Floats:
    """The place (N, T) of each clip's labels among the values of the training clips, in 0 .. 1."""
    places = np.empty(labels.shape)
    for number, column in enumerate(labels.T):
        known = np.unique(column[train])
        places[:, number] = np.searchsorted(known, column) / max(1, len(known) - 1)
    return places
