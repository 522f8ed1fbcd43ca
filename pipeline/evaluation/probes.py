"""Compression and probes: how short messages are, and what can be predicted from them.

Probes are fitted on the messages of the training clips and predict, for test clips, every label of
the cache, also those that the agents were not trained on (a simulator's outcomes). The same probes
read the raw features. Outcomes after an action: see `outcome_prediction`.

Accuracy is always that of telling which of two test clips has more, by the predictions; predictions
equal up to rounding are a tie, which counts half.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data.errors import InvalidValueError
from pipeline.dataset import Moments, Vectors, ridge
from pipeline.evaluation.adam import Adam
from pipeline.evaluation.context import MessageContext, one_thread
from pipeline.evaluation.pair_scores import PairScorer, Scores, count_pairs, score_pairs
from pipeline.metrics import entropy, exceeds, message_entropy, spearman
from pipeline.runs import Spread

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

MIN_CLIPS = 8
"""A label that fewer clips have, in the training or the test part of a seed, is not probed."""
MLP_HIDDEN = 64
MLP_STEPS = 300
MLP_AXES = 64
MLP_RATE, MLP_DECAY = 3e-3, 0.1


def compression(context: MessageContext, *, feature_bits: int) -> dict[str, Any]:
    """Return the bits of a message and the bits of the features that it describes.

    `bits_capacity` is what a message can hold, `bits_used` the entropy of whole messages over all
    clips (at most log2 of their number), `bits_symbols` the sum of the positions' entropies.
    """
    capacity = context.tokens.shape[2] * math.log2(context.config.vocab)
    used = np.atleast_1d(message_entropy(context.tokens)) / math.log(2)
    symbols = entropy(context.tokens).sum(-1) / math.log(2)
    return {
        "bits_capacity": capacity,
        "bits_used": Spread.numbers(used.tolist()),
        "bits_symbols": Spread.numbers(symbols.tolist()),
        "bits_features": feature_bits,
        "ratio": feature_bits / capacity,
    }


def message_kernel(messages: Numbers) -> Floats:
    """Return the share of positions at which two clips have the same symbol.

    The inner product of one-hot messages, so that ridge regression on it is linear in them.

    Args:
        messages: (N, positions).

    Returns:
        float64 (N, N).
    """
    return np.mean([symbols[:, None] == symbols for symbols in messages.T], axis=0)


@dataclass(frozen=True, eq=False, repr=False)
class OneHot(Vectors):
    """The one-hot messages of many clips, whose products are their `message_kernel`.

    Attributes:
        count: Clips.
        messages: (N, positions); no positions for messages that say nothing.
    """

    count: int
    messages: Numbers

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.messages.shape[1] * self._symbols

    @cached_property
    def _symbols(self) -> int:
        return int(self.messages.max(initial=-1)) + 1

    def read(self, clips: Numbers) -> Floats:
        """Return the vectors of some clips, (n, width)."""
        hot = self.messages[clips][..., None] == np.arange(self._symbols)
        return hot.reshape(len(clips), -1) / math.sqrt(max(1, self.messages.shape[1]))


def message_likeness(messages: Numbers) -> ridge.Likeness:
    """Return how alike messages (N, positions) are: their kernel, or of many the vectors of it."""
    if len(messages) <= ridge.MOST_CLIPS:
        return message_kernel(messages)
    return OneHot(len(messages), messages)


def no_likeness(clips: int) -> ridge.Likeness:
    """Return the likeness of clips of which nothing is known."""
    if clips <= ridge.MOST_CLIPS:
        return np.zeros((clips, clips))
    return OneHot(clips, np.zeros((clips, 0), np.int64))


def probe(
    context: MessageContext,
    feature_kernels: Sequence[ridge.Likeness],
    labels: Mapping[str, Floats],
) -> dict[str, Any]:
    """Predict labels from messages and from raw features, by ridge regression and by an MLP.

    Args:
        context: Messages of a run.
        feature_kernels: Of the raw features for each seed; see `ridge.likeness`.
        labels: (N,) each, NaN where unknown. One that too few clips have, or that does not vary,
            is left out.

    Returns:
        By label, `ridge` and `mlp`. `retained` is the share that messages keep of the features'
        accuracy above one half; None where the interval of the features' accuracy reaches down to
        one half.
    """
    parts = {name: labelled_parts(context, column) for name, column in labels.items()}
    probed = {name: column for name, column in labels.items() if parts[name]}
    if not probed:
        return {}
    kernels = {
        "messages": [message_likeness(messages) for messages in context.tokens],
        "features": feature_kernels,
    }
    columns = np.stack(list(probed.values()), axis=1)
    with one_thread():
        by_mlp = {
            source: _predict_by_mlp(own, columns, context) for source, own in kernels.items()
        }  # (S, N, labels)
    entries: dict[str, Any] = {}
    for number, (name, column) in enumerate(probed.items()):
        by_ridge = {
            source: _predict_ranks(own, column, parts[name], context)
            for source, own in kernels.items()
        }
        tested = {
            source: [
                values[test, number] for values, (_, test) in zip(seeds, parts[name], strict=True)
            ]
            for source, seeds in by_mlp.items()
        }
        entries[name] = {
            "trained_on": name in context.config.properties,
            "ridge": _probe_entry(by_ridge, column, parts[name], context, margin_of(context, name)),
            "mlp": _probe_entry(tested, column, parts[name], context, margin_of(context, name)),
        }
    return entries


def require_labels(labels: Mapping[str, Floats], names: Sequence[str]) -> None:
    """Check that each name is a label.

    Raises:
        HeliographError: One is not; the sentence lists the labels.
    """
    for name in names:
        if name not in labels:
            raise InvalidValueError(
                f"the cache has no label {name!r}: its labels are {', '.join(labels)}"
            )


# The clips that have a label


def labelled_parts(context: MessageContext, column: Floats) -> list[tuple[Numbers, Numbers]]:
    """Return the training and the test clips of each seed that have a label.

    An empty list where a seed has too few of them, or all alike.
    """
    known = ~np.isnan(column)
    parts = [
        (split.train[known[split.train]], test[known[test]])
        for split, test in zip(context.splits, context.tests, strict=True)
    ]
    enough = all(
        len(clips) >= MIN_CLIPS and np.ptp(column[clips]) > 0 for pair in parts for clips in pair
    )
    return parts if enough else []


def margin_of(context: MessageContext, name: str) -> float:
    """Return the tie margin of a label: 0 unless the run sets one."""
    config = context.config
    return dict(zip(config.properties, config.tie_margins, strict=True)).get(name, 0.0)


def standardise(column: Floats, train: Numbers) -> Floats:
    """Return values with mean 0 and deviation 1 over the training clips; 0 where unknown."""
    deviation = float(column[train].std())
    return np.nan_to_num((column - column[train].mean()) / (deviation or 1.0))


# Predictions


def _predict_ranks(
    kernels: Sequence[ridge.Likeness],
    column: Floats,
    parts: Sequence[tuple[Numbers, Numbers]],
    context: MessageContext,
) -> list[Floats]:
    """Predict the relative ranks of each seed's test clips by ridge regression."""
    return [
        predict_by_ridge(
            kernel, ridge.relative_ranks(column[:, None], train)[:, 0], train, test, context
        )
        for kernel, (train, test) in zip(kernels, parts, strict=True)
    ]


def predict_by_ridge(
    kernel: ridge.Likeness,
    targets: Floats,
    train: Numbers,
    test: Numbers,
    context: MessageContext,
) -> Floats:
    """Return predictions (n,) of targets (N,) for the test clips, by ridge regression."""
    column = targets[:, None]
    predictions = ridge.predict(
        kernel,
        column,
        train,
        test,
        objects=context.scorer.objects,
        goodness=ridge.closeness(column),
    )
    return predictions[:, 0]


def _predict_by_mlp(
    kernels: Sequence[ridge.Likeness], columns: Floats, context: MessageContext
) -> Floats:
    """Predict relative ranks (S, N, labels) by an MLP of one hidden layer, all seeds at once.

    It reads the leading principal components of a kernel and predicts all the labels together; a
    label that a training clip does not have is no target for it. Training is in float32; the
    predictions are in float64, so that clips with equal inputs get predictions that are equal up to
    rounding in float64.
    """
    inputs = np.stack(
        [
            _components(kernel, split.train)
            for kernel, split in zip(kernels, context.splits, strict=True)
        ]
    )  # (S, N, axes)
    known = np.stack([~np.isnan(columns)] * len(inputs))
    targets = np.zeros(known.shape, np.float32)
    trained = np.zeros(known.shape[:2], bool)
    for number, split in enumerate(context.splits):
        trained[number, split.train] = True
        for label, column in enumerate(columns.T):
            train = split.train[~np.isnan(column[split.train])]
            ranks = ridge.relative_ranks(column[:, None], train)[:, 0]
            targets[number, :, label] = standardise(ranks, train)
    x, y = torch.from_numpy(inputs.astype(np.float32)), torch.from_numpy(targets)
    weight = torch.from_numpy((known & trained[:, :, None]).astype(np.float32))
    layers = _new_layers(len(inputs), x.shape[2], columns.shape[1])
    adam = Adam(layers, lr=MLP_RATE, decay=MLP_DECAY)
    for _ in range(MLP_STEPS):
        loss = ((_forward(layers, x) - y) ** 2 * weight).sum((1, 2)) / weight.sum((1, 2))
        loss.sum().backward()
        adam.step()
    with torch.no_grad():
        return _forward([layer.double() for layer in layers], torch.from_numpy(inputs)).numpy()


def _components(kernel: ridge.Likeness, train: Numbers) -> Floats:
    """Return the clips (N, axes) on the principal axes of the training clips, mean square 1."""
    axes = np.zeros((len(kernel), MLP_AXES))
    if isinstance(kernel, Vectors):
        moments = Moments.of(kernel, np.zeros((len(kernel), 0)), train)
        values, vectors = moments.axes(MLP_AXES)
        vectors = vectors[:, values > max(values.max(initial=0), 0) * 1e-9]
        components = kernel.products(np.arange(len(kernel)), vectors)
        components -= moments.x @ vectors / moments.count
        return _of_one_size(axes, components, train)
    centred = kernel - kernel[:, train].mean(1, keepdims=True) - kernel[train].mean(0)
    centred += kernel[np.ix_(train, train)].mean()
    values, vectors = np.linalg.eigh(centred[np.ix_(train, train)])
    kept = values[::-1][:MLP_AXES] > max(values.max(), 0) * 1e-9
    count = int(kept.sum())
    leading = slice(-count, None) if count else slice(0, 0)
    components = centred[:, train] @ (vectors[:, leading] / np.sqrt(values[leading]))
    return _of_one_size(axes, components, train)


def _of_one_size(axes: Floats, components: Floats, train: Numbers) -> Floats:
    """Return ascending components (N, count) in axes (N, >= count), so that mean squares are 1."""
    count = components.shape[1]
    axes[:, :count] = components[:, ::-1]
    size = math.sqrt(float((axes[train] ** 2).sum(1).mean()) / max(1, count))
    return axes / (size or 1.0)


def _new_layers(seeds: int, inputs: int, outputs: int) -> list[torch.Tensor]:
    """Return the same initial weights (S, in, out) and biases (S, 1, out) for every seed."""
    generator = torch.Generator().manual_seed(0)
    layers = []
    for n_in, n_out in ((inputs, MLP_HIDDEN), (MLP_HIDDEN, outputs)):
        weight = torch.randn(n_in, n_out, generator=generator) / math.sqrt(n_in)
        layers += [weight.repeat(seeds, 1, 1), torch.zeros(seeds, 1, n_out)]
    return [layer.requires_grad_() for layer in layers]


def _forward(layers: Sequence[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    hidden = torch.relu(torch.baddbmm(layers[1], x, layers[0]))
    return torch.baddbmm(layers[3], hidden, layers[2])


# Scores of predictions


def score_label_pairs(values: Floats, column: Floats, margin: float) -> tuple[Floats, Any]:
    """Score predictions of one label: `score_pairs` with one column.

    Args:
        values: Predictions, (n,).
        column: The label, (n,).
        margin: Values of the label that differ by no more are a tie.
    """
    right, asked = score_pairs(exceeds(values[:, None]), column[:, None], (margin,))
    return right[..., :1], asked[..., :1]


def _probe_entry(
    predicted: Mapping[str, Sequence[Floats]],
    column: Floats,
    parts: Sequence[tuple[Numbers, Numbers]],
    context: MessageContext,
    margin: float,
) -> dict[str, Any]:
    """Return the scores from `messages` and from `features`, and what the first retain."""
    scorer = PairScorer(context.objects, [test for _, test in parts])
    entry: dict[str, Any] = {}
    scores: dict[str, Scores] = {}
    for source, seeds in predicted.items():
        pairs = list(zip(seeds, (test for _, test in parts), strict=True))
        scores[source] = scorer.score(
            [
                count_pairs(*score_label_pairs(values, column[test], margin), scorer.objects[test])
                for values, test in pairs
            ]
        )
        ranks = [spearman(values, column[test]) for values, test in pairs]
        entry[source] = scores[source].to_json(0) | {"spearman": Spread.numbers(ranks)}
    return entry | {"retained": retained(scores["messages"], scores["features"])}


def retained(messages: Scores, features: Scores) -> dict[str, Any] | None:
    """Return what messages keep of the features' accuracy above one half, with its interval.

    The interval is that of the delta method, Student's t.

    None where the interval of the features' accuracy reaches down to one half.
    """
    if not features.interval()[0, 0] > 0.5:
        return None
    kept, whole = (float(scores.mean[0]) - 0.5 for scores in (messages, features))
    half = float(messages.less(features, kept / whole).half_width()[0]) / whole
    return {"value": kept / whole, "interval": [kept / whole - half, kept / whole + half]}
