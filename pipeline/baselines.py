"""What an accuracy must beat: the same question, the same splits, without agents."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.config import TrainConfig
from pipeline.game import Accuracy, Verdicts, beyond_margin, pooled_accuracy
from pipeline.records import Examples
from pipeline.splits import Split

RIDGE_PENALTIES = 10.0 ** np.arange(-2, 5)
RIDGE_FOLDS = 5


def majority(examples: Examples, split: Split, config: TrainConfig) -> Accuracy:
    """Always gives the answer that is most frequent among pairs of training clips.

    Over ordered pairs each property alone comes to one half; of several at once the likeliest
    combination of answers is taken.
    """
    labels = examples.labels[split.train]
    a, b = (side.ravel() for side in np.indices((len(labels), len(labels))))
    asked = beyond_margin(labels, a, b, config.tie_margins).all(axis=1)
    answers = (labels[a] > labels[b])[asked]  # (pairs, P)
    if len(answers):
        combinations, counts = np.unique(answers, axis=0, return_counts=True)
        says = combinations[counts.argmax()]
    else:
        says = np.zeros(len(config.properties), bool)
    verdicts = Verdicts(says[None, None, None], np.zeros(len(split.test), int))
    return pooled_accuracy(verdicts, examples.labels[split.test], config.tie_margins)


def ridge(examples: Examples, split: Split, config: TrainConfig) -> Accuracy:
    """Compares by a ridge regression from the raw features, all time steps side by side.

    It predicts each property's rank among the training clips. The penalty is chosen by the pair
    accuracy of five folds over the training objects.
    """
    features = examples.features.reshape(len(examples.features), -1).astype(np.float64)
    train = split.train
    objects = np.asarray(examples.objects)[train]
    folds = np.unique(objects, return_inverse=True)[1] % RIDGE_FOLDS
    scores = np.zeros(len(RIDGE_PENALTIES))
    for fold in range(RIDGE_FOLDS):
        inside, outside = train[folds != fold], train[folds == fold]
        if not len(inside) or len(outside) < 2:
            continue
        predicted = _ridge_predictions(features, examples.labels, inside, outside)
        for number, values in enumerate(predicted):
            accuracy = _compare(values, examples.labels[outside], config).together
            scores[number] += len(outside) * np.nan_to_num(accuracy)
    predicted = _ridge_predictions(features, examples.labels, train, split.test)
    return _compare(predicted[int(scores.argmax())], examples.labels[split.test], config)


BASELINES: dict[str, Callable[[Examples, Split, TrainConfig], Accuracy]] = {
    "majority": majority,
    "ridge": ridge,
}


def _ridge_predictions(
    features: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """Predictions (penalties, test, P) by one eigendecomposition of the Gram matrix."""
    centre = features[train].mean(axis=0)
    scale = features[train].std(axis=0)
    scale[scale == 0] = 1.0
    inside, outside = (features[train] - centre) / scale, (features[test] - centre) / scale
    ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in labels[train].T], 1)
    offset = ranks.mean(axis=0)
    values, vectors = np.linalg.eigh(inside @ inside.T / features.shape[1])
    target = vectors.T @ (ranks - offset)  # (train, P)
    seen = outside @ inside.T / features.shape[1] @ vectors  # (test, train)
    return np.stack(
        [seen @ (target / (values + penalty)[:, None]) + offset for penalty in RIDGE_PENALTIES]
    )


def _compare(predicted: np.ndarray, labels: np.ndarray, config: TrainConfig) -> Accuracy:
    """The accuracy of comparing by predicted values (n, P)."""
    more = predicted[:, None] > predicted[None]  # (n, n, P)
    return pooled_accuracy(Verdicts(more[None], np.arange(len(labels))), labels, config.tie_margins)
