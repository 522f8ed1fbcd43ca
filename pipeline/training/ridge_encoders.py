"""Ridge encoders: the scores that senders read, and symbols that start as levels of the scores.

A sender learns best where it starts from what a regression reads out of its features: it then has
to find out only how to put that into symbols. One ridge regression of each property is shared out
over the agents: each gets what its own steps add, so that what they say adds up to the whole. Each
of its heads starts as a quantiser of one score (or, with fewer heads than properties, of several at
once), which training may change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from torch import Tensor

from pipeline.agents import RidgeEncoder, Stack, agent_views, window_of
from pipeline.config import TrainConfig
from pipeline.dataset import WindowRidge

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

SHARPNESS = 4.0
"""What the logits of two neighbouring levels differ by where one of them is."""

UNUSED = -10.0
"""Logit of a symbol that no level has."""


@dataclass(frozen=True)
class RidgeScores:
    """The scores of one agent in one seed: linear in its features, or in their logarithms.

    They are standardised over the training clips.

    Attributes:
        scale: Of the logarithms, float32 (D,); 0: the features as they are.
        weight: float64 (P, steps * D).
        bias: float64 (P,).
        of_clips: The scores of all clips, float64 (N, P).
    """

    scale: NDArray[np.float32]
    weight: Floats
    bias: Floats
    of_clips: Floats

    @classmethod
    def of(cls, shared: WindowRidge, window: int, steps: int, train: Numbers) -> RidgeScores:
        """Return what a window adds to a regression, as scores of an agent.

        Args:
            shared: The regression.
            window: The number of its window.
            steps: That the agent sees: of a window of one step, that step again and again.
            train: The training clips.
        """
        part, weights = shared.parts[window], shared.weights[window]
        repeats = steps * len(shared.scales[window]) // len(weights)
        spread = part[train].std(0)
        spread = np.where(spread > 0, spread, 1)
        return cls(
            shared.scales[window],
            np.tile(weights / repeats / spread, (repeats, 1)).T,
            shared.biases[window] / spread,
            part / spread,
        )

    def load_into(self, encoder: RidgeEncoder) -> None:
        """Set the scores of an encoder."""
        encoder.scores.load_state_dict(
            {
                "weight": torch.from_numpy(self.weight).float(),
                "bias": torch.from_numpy(self.bias).float(),
            }
        )
        encoder.scale.copy_(torch.from_numpy(self.scale))


def fit_scores(
    caches: Sequence[NDArray[np.generic]],
    config: TrainConfig,
    labels: Floats,
    objects: Numbers,
    train: Numbers,
) -> list[RidgeScores]:
    """Return the scores of every agent, from the features (N, T, D) of each cache."""
    views = agent_views([cache.shape[1] for cache in caches], config.agent_caches)
    windows = [window_of(caches, view) for view in views]
    shared = WindowRidge.fit(windows, labels, objects, train)
    return [
        RidgeScores.of(shared, number, len(view.window), train) for number, view in enumerate(views)
    ]


def score_tensors(seeds: Sequence[Sequence[RidgeScores]]) -> list[Tensor]:
    """The scores of all clips, for each agent (S, N, 1, P), from those of each seed's agents."""
    return [
        torch.from_numpy(np.stack([agent.of_clips for agent in agents])).float().unsqueeze(2)
        for agents in zip(*seeds, strict=True)
    ]


def quantise(
    senders: Stack,
    seeds: Sequence[Sequence[RidgeScores]],
    train: Sequence[Numbers],
    labels: Sequence[Floats],
    config: TrainConfig,
) -> None:
    """Let every head of stacked senders start as a quantiser of scores, in place.

    Args:
        senders: Of ridge encoders, axes S, A.
        seeds: The scores of each seed's agents.
        train: Training clips of each seed.
        labels: float64 (N, P) of each seed.
        config: Of the run.
    """
    for seed, agents in enumerate(seeds):
        known = labels[seed][train[seed]]
        for number, agent in enumerate(agents):
            stack = {name: value.detach()[seed, number] for name, value in senders.items()}
            alike = [
                other
                for other, scores in enumerate(agents)
                if np.array_equal(scores.of_clips, agent.of_clips)
            ]
            place = (alike.index(number) + 0.5) / len(alike)
            _quantise_agent(
                stack, agent.of_clips[train[seed]], known, config, draw=number, place=place
            )


def _quantise_agent(
    stack: Stack, scores: Floats, labels: Floats, config: TrainConfig, *, draw: int, place: float
) -> None:
    """Let the heads of one agent start as quantisers, in place.

    Args:
        stack: Its layers.
        scores: Of the training clips, (n, P).
        labels: Of the same clips, (n, P).
        config: Of the run.
        draw: Seeds the centres of heads that tell several properties.
        place: Of a level among the clips that share it, 0 to 1: agents of equal scores have
            different ones, so that together they tell more levels.
    """
    count = len(config.properties)
    hidden = _Hidden(stack["fc.weight"], stack["fc.bias"], count)
    heads = stack["heads.weight"].view(-1, config.heads, config.vocab)
    offsets = stack["heads.bias"].view(config.heads, config.vocab)
    heads.zero_()
    offsets.fill_(UNUSED)
    for properties, own in _shares(config.heads, count):
        shown = scores[:, properties]
        if len(properties) > 1:
            centres = kmeans2(shown, config.vocab, minit="++", seed=draw)[0]
            symbols = [[[level] for level in range(len(centres))]]
        else:
            most = min(config.vocab ** len(own), hidden.room // count)
            values = np.unique(labels[:, properties])
            if config.agents == 1 and len(values) <= min(config.vocab, most):
                centres = _means(shown, labels[:, properties])
            else:  # part of a prediction is not near the mean of its label
                centres = _levels(shown, most, place)
            symbols = _digits(len(centres), len(own), config.vocab)
        spacing = np.ptp(centres, axis=0).max() / max(1, len(centres) - 1)
        sharpness = SHARPNESS / max(spacing**2, 1e-12)
        for head, levels in zip(own, symbols, strict=True):
            for symbol, of_symbol in enumerate(levels):
                if of_symbol:
                    into, offset = heads[:, head, symbol], offsets[head, symbol : symbol + 1]
                    hidden.write(into, offset, properties, centres[of_symbol], sharpness)


class _Hidden:
    """The layer over the scores, whose units pass a score on from some threshold upwards.

    The first two units of a score pass it on with both signs, which is all of it; the others are
    handed out as they are asked for.
    """

    def __init__(self, weight: Tensor, bias: Tensor, scores: int) -> None:
        """Take the layer over: weight (P, hidden), bias (hidden,)."""
        self.weight, self.bias, self.scores = weight, bias, scores
        self.room = max(1, weight.shape[1] - 2 * scores)
        self._thresholds: dict[tuple[int, float], int] = {}
        for score in range(scores):
            for unit, sign in ((2 * score, 1.0), (2 * score + 1, -1.0)):
                self._set(unit, score, sign, 0.0)

    def write(
        self,
        into: Tensor,
        offset: Tensor,
        scores: Sequence[int],
        centres: Floats,
        sharpness: float,
    ) -> None:
        """Write a symbol: the largest of sharpness * (2 c s - c c) over its centres (n, scores).

        That is the nearness of the nearest centre, less what all symbols share.
        """
        first = centres[0]
        offset[:] = -sharpness * float(first @ first)
        for score, value in zip(scores, first, strict=True):
            into[2 * score] = 2 * sharpness * value
            into[2 * score + 1] = -2 * sharpness * value
        for below, above in zip(centres[:-1, 0], centres[1:, 0], strict=True):
            unit = self._unit(scores[0], float((below + above) / 2))
            into[unit] = 2 * sharpness * (above - below)

    def _unit(self, score: int, threshold: float) -> int:
        """Return the unit that passes a score on from a threshold upwards."""
        known = self._thresholds.setdefault(
            (score, threshold), 2 * self.scores + len(self._thresholds)
        )
        self._set(known, score, 1.0, threshold)
        return known

    def _set(self, unit: int, score: int, sign: float, threshold: float) -> None:
        self.weight[:, unit] = 0
        self.weight[score, unit] = sign
        self.bias[unit] = -sign * threshold


def _shares(heads: int, properties: int) -> list[tuple[list[int], list[int]]]:
    """Which heads tell which properties: pairs of properties and their heads.

    >>> _shares(2, 2), _shares(4, 2)
    ([([0], [0]), ([1], [1])], [([0], [0, 2]), ([1], [1, 3])])
    >>> _shares(2, 1), _shares(1, 2)
    ([([0], [0, 1])], [([0, 1], [0])])
    """
    if heads >= properties:
        return [([p], list(range(p, heads, properties))) for p in range(properties)]
    return [(list(range(head, properties, heads)), [head]) for head in range(heads)]


def _levels(scores: Floats, most: int, place: float) -> Floats:
    """Return `most` levels of a score (n, 1), of equally many clips, ascending, (levels, 1)."""
    return np.unique(np.quantile(scores, (np.arange(most) + place) / most))[:, None]


def _means(scores: Floats, labels: Floats) -> Floats:
    """Return the mean score of each value of a label (n, 1), ascending, (values, 1)."""
    values = np.unique(labels)
    return np.unique([scores[labels == value].mean() for value in values])[:, None]


def _digits(levels: int, heads: int, vocab: int) -> list[list[list[int]]]:
    """Return the levels that each symbol of each head stands for, in a reflected code.

    Neighbouring levels differ in the symbol of one head; where a symbol is enough for each level,
    every head tells it.

    >>> _digits(4, 2, 2)
    [[[0, 1], [2, 3]], [[0, 3], [1, 2]]]
    >>> _digits(3, 1, 4)
    [[[0], [1], [2], []]]
    """
    code: list[list[list[int]]] = [[[] for _ in range(vocab)] for _ in range(heads)]
    if levels <= vocab:
        return [[[level] if level < levels else [] for level in range(vocab)]] * heads
    base = min(vocab, max(2, int(np.ceil(levels ** (1 / heads) - 1e-9))))
    for level in range(levels):
        for head in range(heads):
            before, digit = divmod(level // base ** (heads - 1 - head), base)
            code[head][base - 1 - digit if before % 2 else digit].append(level)
    return code
