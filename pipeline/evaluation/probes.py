"""What messages are worth: how short they are, and what can still be read off them.

Probes learn from the messages of the training clips and predict, for test clips, every label of
the cache, also those that the agents never spoke about (a simulator's outcomes); the same probes
read the raw features. Outcomes after an action: see `pipeline.outcome`.

Accuracy is always that of telling which of two test clips has more, by the predictions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data.errors import HeliographError
from pipeline.evaluation import ridge
from pipeline.evaluation.context import MessageContext, one_thread
from pipeline.evaluation.pair_scores import (
    Resampler,
    Scores,
    count_pairs,
    score_pairs,
    spread,
)
from pipeline.metrics import entropy, exceeds, message_entropy, spearman

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

LEAST_CLIPS = 8
"""A label that fewer clips know, in the training or the test part of a seed, is not probed."""
MLP_HIDDEN = 64
MLP_STEPS = 300
MLP_AXES = 64
MLP_RATE, MLP_DECAY = 3e-3, 0.1


def compression(context: MessageContext, *, feature_bits: int) -> dict[str, Any]:
    """Bits of a message against bits of the features that it stands for.

    `bits_capacity` is what a message can hold, `bits_used` the entropy of whole messages over all
    clips (at most log2 of their number), `bits_symbols` the sum of the positions' entropies.
    """
    capacity = context.tokens.shape[2] * math.log2(context.config.vocab)
    used = np.atleast_1d(message_entropy(context.tokens)) / math.log(2)
    symbols = entropy(context.tokens).sum(-1) / math.log(2)
    return {
        "bits_capacity": capacity,
        "bits_used": spread(used.tolist()),
        "bits_symbols": spread(symbols.tolist()),
        "bits_features": feature_bits,
        "ratio": feature_bits / capacity,
    }


def message_gram(words: Numbers) -> Floats:
    """The share of positions at which two clips say the same: (N, positions) -> (N, N).

    The inner product of one-hot messages, so that ridge regression on it is linear in them.
    """
    return np.mean([one[:, None] == one for one in words.T], axis=0)


def probe(
    context: MessageContext, grams: Sequence[Floats], labels: Mapping[str, Floats]
) -> dict[str, Any]:
    """What a linear probe (ridge) and an MLP read off messages and off raw features.

    Args:
        grams: of the raw features, (N, N) for each seed, as `ridge.gram` makes them.
        labels: (N,) each, NaN where unknown. One that too few clips know, or that does not vary,
            is left out.

    `retained` is the share that messages keep of the features' accuracy above one half; None where
    the interval of the features' accuracy reaches down to one half.
    """
    parts = {name: parts_of(context, column) for name, column in labels.items()}
    asked = {name: column for name, column in labels.items() if parts[name]}
    found: dict[str, Any] = {}
    if not asked:
        return found
    kernels = {"messages": [message_gram(words) for words in context.tokens], "features": grams}
    columns = np.stack(list(asked.values()), axis=1)
    with one_thread():
        learnt = {
            side: _mlp(own, columns, context) for side, own in kernels.items()
        }  # (S, N, labels)
    for number, (name, column) in enumerate(asked.items()):
        linear = {side: _linear(own, column, parts[name], context) for side, own in kernels.items()}
        deep = {
            side: [seed[test, number] for seed, (_, test) in zip(own, parts[name], strict=True)]
            for side, own in learnt.items()
        }
        found[name] = {
            "trained_on": name in context.config.properties,
            "ridge": _told(linear, column, parts[name], context, margin_of(context, name)),
            "mlp": _told(deep, column, parts[name], context, margin_of(context, name)),
        }
    return found


def known_labels(labels: Mapping[str, Floats], names: Sequence[str]) -> None:
    """Raises HeliographError for a name that is no label, with the labels there are."""
    for name in names:
        if name not in labels:
            raise HeliographError(
                f"the cache has no label {name!r}: its labels are {', '.join(labels)}"
            )


# The parts of a label


def parts_of(context: MessageContext, column: Floats) -> list[tuple[Numbers, Numbers]]:
    """Training and test clips of each seed that know the label; none where a seed has too few."""
    known = ~np.isnan(column)
    parts = [
        (split.train[known[split.train]], test[known[test]])
        for split, test in zip(context.splits, context.tests, strict=True)
    ]
    enough = all(
        len(clips) >= LEAST_CLIPS and np.ptp(column[clips]) > 0 for pair in parts for clips in pair
    )
    return parts if enough else []


def margin_of(context: MessageContext, name: str) -> float:
    """Values of this label that differ by no more are a tie: 0 unless the run says otherwise."""
    config = context.config
    return dict(zip(config.properties, config.tie_margins, strict=True)).get(name, 0.0)


def standard(column: Floats, train: Numbers) -> Floats:
    """Mean 0 and deviation 1 over the training clips; 0 where unknown."""
    deviation = float(column[train].std())
    return np.nan_to_num((column - column[train].mean()) / (deviation or 1.0))


# Probes


def _linear(
    kernels: Sequence[Floats],
    column: Floats,
    parts: Sequence[tuple[Numbers, Numbers]],
    context: MessageContext,
) -> list[Floats]:
    """Predicted ranks of each seed's test clips by ridge regression."""
    return [
        by_ridge(kernel, ridge.ranks(column[:, None], train)[:, 0], train, test, context)
        for kernel, (train, test) in zip(kernels, parts, strict=True)
    ]


def by_ridge(
    kernel: Floats, targets: Floats, train: Numbers, test: Numbers, context: MessageContext
) -> Floats:
    """Predictions (n,) for the test clips of targets (N,), by ridge regression."""

    def closeness(values: Floats, clips: Numbers) -> float:
        return -float(((values[:, 0] - targets[clips]) ** 2).mean())

    objects = context.resampler.objects
    return ridge.predict(kernel, targets[:, None], train, test, objects=objects, judge=closeness)[
        :, 0
    ]


def _mlp(kernels: Sequence[Floats], columns: Floats, context: MessageContext) -> Floats:
    """Predicted ranks (S, N, labels) by an MLP of one hidden layer, all seeds at once.

    It reads the leading principal components of a Gram matrix, and predicts all the labels side by
    side; a label that a training clip does not know is not asked of it.
    """
    inputs = [
        _components(kernel, split.train)
        for kernel, split in zip(kernels, context.splits, strict=True)
    ]
    x = torch.from_numpy(np.stack(inputs).astype(np.float32))  # (S, N, axes)
    known = np.stack([~np.isnan(columns)] * len(inputs))
    targets = np.zeros(known.shape, np.float32)
    trained = np.zeros(known.shape[:2], bool)
    for number, split in enumerate(context.splits):
        trained[number, split.train] = True
        for label, column in enumerate(columns.T):
            own = split.train[~np.isnan(column[split.train])]
            targets[number, :, label] = standard(ridge.ranks(column[:, None], own)[:, 0], own)
    y = torch.from_numpy(targets)
    weight = torch.from_numpy((known & trained[:, :, None]).astype(np.float32))
    layers = _fresh_layers(len(inputs), x.shape[2], columns.shape[1])
    adam = torch.optim.AdamW(layers, lr=MLP_RATE, weight_decay=MLP_DECAY)
    for _ in range(MLP_STEPS):
        loss = ((_forward(layers, x) - y) ** 2 * weight).sum((1, 2)) / weight.sum((1, 2))
        adam.zero_grad()
        loss.sum().backward()
        adam.step()
    with torch.no_grad():
        return _forward(layers, x).double().numpy()


def _components(kernel: Floats, train: Numbers) -> Floats:
    """The clips (N, axes) on the principal components of the training clips, mean square 1."""
    centred = kernel - kernel[:, train].mean(1, keepdims=True) - kernel[train].mean(0)
    centred += kernel[np.ix_(train, train)].mean()
    values, vectors = np.linalg.eigh(centred[np.ix_(train, train)])
    axes = np.zeros((len(kernel), MLP_AXES))
    kept = values[::-1][:MLP_AXES] > max(values.max(), 0) * 1e-9
    count = int(kept.sum())
    leading = slice(-count, None) if count else slice(0, 0)
    places = centred[:, train] @ (vectors[:, leading] / np.sqrt(values[leading]))
    axes[:, :count] = places[:, ::-1]
    size = math.sqrt(float((axes[train] ** 2).sum(1).mean()) / max(1, count))
    return axes / (size or 1.0)


def _fresh_layers(seeds: int, inputs: int, outputs: int) -> list[torch.Tensor]:
    """The same beginning for every seed: two weights (S, in, out) and two biases (S, 1, out)."""
    generator = torch.Generator().manual_seed(0)
    layers = []
    for n_in, n_out in ((inputs, MLP_HIDDEN), (MLP_HIDDEN, outputs)):
        weight = torch.randn(n_in, n_out, generator=generator) / math.sqrt(n_in)
        layers += [weight.repeat(seeds, 1, 1), torch.zeros(seeds, 1, n_out)]
    return [layer.requires_grad_() for layer in layers]


def _forward(layers: Sequence[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    hidden = torch.relu(torch.baddbmm(layers[1], x, layers[0]))
    return torch.baddbmm(layers[3], hidden, layers[2])


# What the predictions are worth


def score_one(values: Floats, column: Floats, margin: float) -> tuple[Floats, Any]:
    """As `score_pairs`, for one label and its predictions, (n,) each: one column."""
    right, asked = score_pairs(exceeds(values[:, None]), column[:, None], (margin,))
    return right[..., :1], asked[..., :1]


def _told(
    predicted: Mapping[str, Sequence[Floats]],
    column: Floats,
    parts: Sequence[tuple[Numbers, Numbers]],
    context: MessageContext,
    margin: float,
) -> dict[str, Any]:
    """`messages`, `features` and what the first retain of the second."""
    resampler = Resampler(context.objects, [test for _, test in parts])
    found: dict[str, Any] = {}
    scores: dict[str, Scores] = {}
    for side, seeds in predicted.items():
        pairs = list(zip(seeds, (test for _, test in parts), strict=True))
        scores[side] = resampler.score(
            [
                count_pairs(*score_one(values, column[test], margin), resampler.objects[test])
                for values, test in pairs
            ]
        )
        ranks = [spearman(values, column[test]) for values, test in pairs]
        found[side] = scores[side].to_json(0) | {"spearman": spread(ranks)}
    return found | {"retained": retained(scores["messages"], scores["features"])}


def retained(messages: Scores, features: Scores) -> dict[str, Any] | None:
    """What messages keep of the features' accuracy above one half, with its percentile interval."""
    if not features.interval()[0, 0] > 0.5:
        return None
    kept, whole = (float(scores.mean[0]) - 0.5 for scores in (messages, features))
    drawn, all_of_it = (scores.drawn_means()[:, 0] - 0.5 for scores in (messages, features))
    ratios = drawn[all_of_it > 0] / all_of_it[all_of_it > 0]
    low, high = np.nanquantile(ratios, [0.025, 0.975])
    return {"value": kept / whole, "interval": [float(low), float(high)]}
