"""Baselines that may send as much as the agents, and no more."""

import numpy as np
import pytest

from pipeline.config import build_config
from pipeline.evaluation.baselines.bandwidth import cut, levels_each
from pipeline.evaluation.baselines.predictors import score_baselines
from tests.pipeline.evaluation.baselines.test_predictors import (
    EACH,
    OBJECTS,
    inputs_of,
    make_context,
    noise,
)


@pytest.mark.parametrize(
    ("properties", "heads", "vocab", "agents", "levels"),
    [
        (1, 2, 5, 1, 25),
        (2, 2, 5, 1, 5),
        (2, 2, 8, 1, 8),
        (2, 1, 64, 1, 8),
        (2, 3, 5, 1, 11),
        (2, 1, 3, 1, 1),
        (2, 2, 5, 2, 25),
        (1, 64, 4096, 64, 2**20),
    ],
)
def test_levels_are_as_many_as_the_messages_tell(properties, heads, vocab, agents, levels):
    config = build_config("ridge", ("a", "b")[:properties], heads=heads, vocab=vocab)
    assert levels_each(config, agents) == levels


def test_a_level_is_the_mean_of_the_training_clips_in_it():
    values = np.array([[0.0], [1.0], [10.0], [11.0], [0.4], [99.0]])
    assert cut(values, np.arange(4), 2).ravel().tolist() == [0.5, 0.5, 10.5, 10.5, 0.5, 10.5]
    assert cut(values, np.arange(4), 4).ravel().tolist() == [0, 1, 10, 11, 0, 11]
    assert cut(values, np.arange(4), 1).ravel().tolist() == [5.5] * 6


def test_a_message_of_few_levels_costs_what_it_cannot_tell():
    """Features that tell a property well: two symbols do not tell thirty objects apart."""
    alpha = np.repeat(np.random.default_rng(5).permutation(OBJECTS), EACH).astype(float)[:, None]
    features = noise(0.1) + alpha[:, :, None] / OBJECTS
    found = {}
    for heads, vocab in ((1, 2), (2, 5)):
        context = make_context(alpha, heads=heads, vocab=vocab)
        scores = score_baselines(inputs_of(context, features), context)["baselines"]
        found[heads] = {name: scores[name]["mean"] for name in (
            "quantised_ridge", "ridge", "quantised_labels",
        )}  # fmt: skip
    assert found[1]["ridge"] == found[2]["ridge"] > 0.95
    assert found[1]["quantised_ridge"] < 0.85
    assert found[1]["quantised_labels"] < 0.85
    assert found[2]["quantised_ridge"] > 0.93
    assert found[2]["quantised_labels"] > 0.95


def test_agents_send_parts_of_one_prediction():
    """What two windows tell by their difference alone, two messages tell."""
    alpha = np.repeat(np.random.default_rng(5).permutation(OBJECTS), EACH).astype(float)[:, None]
    features = noise(0.05)
    shift = np.random.default_rng(1).normal(size=(len(alpha), 1, 1))
    features += shift
    features[:, :2] += alpha[:, :, None] / OBJECTS
    context = make_context(alpha, agents=2, heads=2, vocab=8)
    found = score_baselines(inputs_of(context, features), context)["baselines"]
    assert found["quantised_ridge"]["mean"] > 0.9
    assert max(found[f"ridge_agent_{agent}"]["mean"] for agent in (1, 2)) < 0.75


def test_combinations_never_seen_are_no_loss_of_the_code():
    """The labels of a grid pass through messages that have a symbol for each level."""
    labels = np.stack([np.arange(OBJECTS) % 5, np.arange(OBJECTS) // 5], axis=1).astype(float)
    labels = np.repeat(labels, EACH, axis=0)
    context = make_context(labels, heads=2, vocab=6)
    found = score_baselines(inputs_of(context, noise()), context)["baselines"]
    assert found["quantised_labels"]["mean"] == 1.0


def test_numbers_for_messages_have_no_such_baseline():
    alpha = np.repeat(np.arange(OBJECTS), EACH).astype(float)[:, None]
    context = make_context(alpha, channel="continuous")
    found = score_baselines(inputs_of(context, noise()), context)["baselines"]
    assert found["quantised_ridge"] is None
    assert found["quantised_labels"] is None


def test_the_headline_comes_first():
    alpha = np.repeat(np.arange(OBJECTS), EACH).astype(float)[:, None]
    context = make_context(alpha)
    names = list(score_baselines(inputs_of(context, noise()), context)["baselines"])
    wanted = ["majority", "quantised_ridge", "ridge", "quantised_labels"]
    assert [name for name in names if name in wanted] == wanted
