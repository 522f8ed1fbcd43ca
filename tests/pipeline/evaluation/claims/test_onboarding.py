"""A new sender joins frozen receivers: planted features that tell, and such that do not."""

import numpy as np
import pytest

from pipeline.evaluation.claims.onboarding import ONBOARDING, SHOWN, most_needed, onboard
from tests.pipeline.evaluation.conftest import (
    compositional_meaning,
    grid_labels,
    make_message_context,
)

STEPS = 30


def told_labels():
    """Alpha is low or high, beta has five levels."""
    labels = grid_labels()[0]
    labels[:, 0] = np.where(labels[:, 0] > 1, 4, 0)
    return labels


@pytest.fixture(scope="module")
def told():
    """A run whose first agent tells alpha and whose second tells beta."""
    labels = told_labels()
    meaning = 2 * compositional_meaning()
    return make_message_context(labels.astype(int), meaning, labels=labels, agents=2, seeds=6)


@pytest.fixture(scope="module")
def telling():
    """Features of four steps from which alpha can be read."""
    alpha = told_labels()[:, 0] / 4
    seen = np.stack([alpha, 1 - alpha, *np.zeros((2, len(alpha)))], axis=1)
    return seen[:, None] + 0.1 * np.random.default_rng(0).normal(size=(len(alpha), 4, 4))


@pytest.fixture(scope="module")
def joined(told, telling):
    """A newcomer in the place of the agent that tells alpha."""
    return onboard(told, telling, agent=0, steps=STEPS)


def of_alpha(entry):
    return entry["properties"]["alpha"]["mean"]


def test_a_newcomer_that_can_tell_learns_the_code_of_frozen_receivers(joined):
    curve = {row["step"]: row for row in joined["curve"]}
    assert list(curve) == [step for step in SHOWN if step < STEPS] + [STEPS]
    assert of_alpha(joined["before"]) == 1
    assert of_alpha(joined["silent"]) == pytest.approx(0.5)
    assert of_alpha(curve[0]["accuracy"]) < 0.75
    assert of_alpha(curve[STEPS]["accuracy"]) > 0.9
    assert curve[STEPS]["above_silent"]["interval"][0] > 0
    for row in joined["curve"]:  # the other agent goes on as it did
        assert row["accuracy"]["properties"]["beta"]["mean"] == 1


def test_with_labels_of_other_objects_it_learns_nothing(joined):
    last = joined["curve"][-1]
    assert of_alpha(last["permuted"]) < 0.65
    assert last["permuted"]["properties"]["beta"]["mean"] == 1
    assert joined["curve"][0]["permuted"] == joined["curve"][0]["accuracy"]  # they begin alike


def test_features_that_tell_nothing_teach_nothing(told, telling):
    noise = np.random.default_rng(1).normal(size=telling.shape)
    last = onboard(told, noise, agent=0, steps=STEPS)["curve"][-1]
    assert of_alpha(last["accuracy"]) < 0.65


def test_when_enough_is_reached_is_told_for_each_seed(joined):
    enough = joined["enough"]
    assert enough["silent"] == [False] * 6
    assert all(step is not None and 0 < step <= STEPS for step in enough["newcomer"])


def test_where_nobody_listens_to_an_agent_silence_is_enough(context_of, telling):
    """Then "enough after 0 steps" says nothing of the newcomer."""
    levels = np.repeat(np.arange(5), 10)[:, None]
    meaning = np.zeros((2, 5, 1))
    meaning[1, :, 0] = np.arange(5) - 2
    tokens = np.repeat(levels, 2, axis=1)
    context = context_of(tokens, meaning, labels=levels.astype(float), agents=2)
    assert most_needed(context) == 1
    enough = onboard(context, telling, agent=0, steps=1)["enough"]
    assert enough["silent"] == [True] * 3
    assert enough["newcomer"] == enough["permuted"] == [0] * 3


def test_its_curve_is_said_in_a_sentence_and_shown_whole(joined):
    told = ONBOARDING.sentence({"sees": "pixels"} | joined)
    assert "with silence in the place of agent 1 of 2" in told
    assert "silence has it in 0 of 6 seeds" in told
    assert told.count(f" after {max(row['step'] for row in joined['curve'])}") == 1
    columns, rows = ONBOARDING.table({"sees": "pixels"} | joined)
    assert [row[0] for row in rows[:3]] == ["agent before", "silence", "0"]
    assert all(len(row) == len(columns) for row in rows)
