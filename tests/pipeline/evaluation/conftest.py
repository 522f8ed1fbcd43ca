"""Contexts made by hand: messages of known meaning and receivers that read them exactly."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from pipeline.config import build_config
from pipeline.dataset import Split, ridge
from pipeline.evaluation.context import MessageContext
from tests.helpers.rounding import last_bits

LEVELS = 5
EACH = 2


def receivers_of(meaning: np.ndarray, seeds: int) -> dict[str, torch.Tensor]:
    """Receivers that compare what symbols mean, added up over positions: (positions, V, P).

    Hidden units hold the positive and the negative part of "a means more than b".
    """
    positions, vocab, properties = meaning.shape
    side = np.concatenate([meaning, -meaning], axis=2).reshape(positions * vocab, -1)
    first = np.concatenate([side, -side])  # clip a, then clip b
    last = np.concatenate([np.eye(properties), -np.eye(properties)])
    layers = {"shared0": first, "shared2": np.eye(2 * properties), "heads": last}
    stack = {}
    for name, weight in layers.items():
        tensor = torch.from_numpy(weight.astype(np.float32))
        stack[f"{name}.weight"] = tensor.repeat(seeds, 1, 1, 1)
        stack[f"{name}.bias"] = torch.zeros(seeds, 1, weight.shape[1])
    return stack


def grid_labels() -> tuple[np.ndarray, tuple[str, ...]]:
    """Two properties of five levels, two clips of each of the 25 objects."""
    cells = np.repeat(np.stack(np.divmod(np.arange(LEVELS**2), LEVELS), axis=1), EACH, axis=0)
    return cells.astype(float), tuple(f"cell_{a}{b}" for a, b in cells)


def make_message_context(
    tokens: np.ndarray,
    meaning: np.ndarray,
    *,
    labels: np.ndarray | None = None,
    agents: int = 1,
    seeds: int = 3,
) -> MessageContext:
    """Tokens (N, positions) or (S, N, positions) of the grid's clips, read as `meaning` says.

    Each seed tests 8 objects and trains on the others.
    """
    own, objects = grid_labels()
    labels = own if labels is None else labels
    names = ("alpha", "beta")[: labels.shape[1]]
    positions, vocab, _ = meaning.shape
    config = build_config("default", names, agents=agents, heads=positions // agents, vocab=vocab)
    known = np.asarray(objects)
    splits = []
    for seed in range(seeds):
        rng = np.random.RandomState(seed)
        tested = np.isin(known, rng.choice(np.unique(known), 8, replace=False))
        nobody = np.array([], int)
        splits.append(Split(np.flatnonzero(~tested), nobody, np.flatnonzero(tested), rng))
    return MessageContext(
        config=config,
        seeds=tuple(range(seeds)),
        labels=labels,
        objects=objects,
        splits=tuple(splits),
        tokens=np.broadcast_to(tokens, (seeds, *tokens.shape[-2:])).astype(np.int64),
        receivers=receivers_of(meaning, seeds),
    )


def compositional_meaning() -> np.ndarray:
    """Symbol v at position p means v of property p and nothing of the other; silence the middle."""
    meaning = np.zeros((2, LEVELS, 2))
    for position in range(2):
        meaning[position, :, position] = np.arange(LEVELS) - (LEVELS - 1) / 2
    return meaning


@pytest.fixture
def context_of() -> Callable[..., MessageContext]:
    return make_message_context


@pytest.fixture
def compositional() -> MessageContext:
    """Position 0 has the level of alpha and position 1 that of beta, agent by agent."""
    return make_message_context(grid_labels()[0].astype(int), compositional_meaning(), agents=2)


@pytest.fixture
def random_code() -> MessageContext:
    """Messages that have nothing to do with the clips, read as if they had."""
    tokens = np.random.default_rng(0).integers(LEVELS, size=(6, LEVELS**2 * EACH, 2))
    return make_message_context(tokens, compositional_meaning(), agents=2, seeds=6)


@pytest.fixture
def raw_features(compositional):
    """Features of which one dimension is alpha, one beta, and the rest noise."""
    noise = np.random.default_rng(0).normal(size=(50, 4))
    return np.concatenate([compositional.labels, noise], axis=1)


@pytest.fixture
def other_rounding(monkeypatch):
    """Predictions of ridge regression in whose last bits another processor might differ."""
    solve = ridge._solve
    monkeypatch.setattr(ridge, "_solve", lambda *given: last_bits(solve(*given)))
