"""Outcomes after actions, where it is known what messages hold."""

import numpy as np
import pytest

from data.errors import HeliographError
from pipeline.dataset import ridge
from pipeline.evaluation.outcome_prediction import predict_outcome


def kernels_of(context, features):
    return [ridge.linear_kernel(features, split.train) for split in context.splits]


def test_an_outcome_after_an_unseen_action(compositional, raw_features):
    """The outcome is alpha times the action: neither alone gives it."""
    action = np.tile([1.0, 2.0], 25)
    labels = {"action": action, "outcome": compositional.labels[:, 0] * action, "alpha": action}
    found = predict_outcome(
        compositional,
        kernels_of(compositional, raw_features),
        labels,
        outcome="outcome",
        action="action",
    )
    assert found["left_out"] == 2
    assert found["messages"]["mean"] > 0.9
    assert found["features"]["mean"] > 0.9
    assert found["action"]["mean"] == 0.5
    assert found["retained"]["value"] == pytest.approx(1, abs=0.15)
    assert found["messages"]["r2"]["mean"] > found["action"]["r2"]["mean"]


def test_is_the_outcome_above_the_median(compositional, raw_features):
    """With alpha the answer is known without an action; with alpha + 3 x action only with it."""
    alpha = compositional.labels[:, 0]
    action = np.random.default_rng(0).permutation(np.tile([1.0, 2.0, 3.0, 4.0, 5.0], 10))
    labels = {"action": action, "alpha": alpha, "moved": alpha + 3 * action}
    kernels = kernels_of(compositional, raw_features)
    plain = predict_outcome(compositional, kernels, labels, outcome="alpha", action="action")
    known = plain["above_median"]
    assert known["messages"]["mean"] > 0.9
    assert known["retained"]["value"] > 0.85
    assert known["ratio"] == pytest.approx(known["messages"]["mean"] / known["features"]["mean"])
    assert set(known) == {"messages", "features", "retained", "ratio"}
    moved = predict_outcome(compositional, kernels, labels, outcome="moved", action="action")
    assert moved["above_median"]["messages"]["mean"] < 0.75
    assert moved["above_median_left_out"]["messages"]["mean"] > 0.8
    left_out = moved["above_median_left_out"]
    gain = left_out["messages"]["mean"] - left_out["action"]["mean"]
    assert left_out["above_action"]["mean"] == pytest.approx(gain)
    low, high = moved["above_median_left_out"]["messages"]["interval"]
    assert low <= moved["above_median_left_out"]["messages"]["mean"] <= high


@pytest.mark.parametrize(
    ("outcome", "action", "sentence"),
    [
        ("gone", "action", "no label 'gone': its labels are action, outcome"),
        ("outcome", "gone", "no label 'gone'"),
        ("outcome", "constant", "it needs two values of the action"),
    ],
)
def test_what_cannot_be_predicted_is_said(compositional, raw_features, outcome, action, sentence):
    labels = {
        "action": np.tile([1.0, 2.0], 25),
        "outcome": compositional.labels[:, 0],
        "constant": np.ones(50),
    }
    with pytest.raises(HeliographError) as error:
        predict_outcome(
            compositional,
            kernels_of(compositional, raw_features),
            labels,
            outcome=outcome,
            action=action,
        )
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_the_action_alone_is_at_chance_whatever_the_last_bit(
    compositional, raw_features, other_rounding
):
    action = np.tile([1.0, 2.0], 25)
    labels = {"action": action, "outcome": compositional.labels[:, 0] * action}
    found = predict_outcome(
        compositional,
        kernels_of(compositional, raw_features),
        labels,
        outcome="outcome",
        action="action",
    )
    assert found["action"]["per_seed"] == [0.5] * 3


def test_outcomes_do_not_depend_on_the_last_bit(compositional, raw_features, request):
    action = np.random.default_rng(0).permutation(np.tile([1.0, 2.0, 3.0, 4.0, 5.0], 10))
    labels = {"action": action, "moved": compositional.labels[:, 0] + 3 * action}
    given = compositional, kernels_of(compositional, raw_features), labels
    exact = predict_outcome(*given, outcome="moved", action="action")
    request.getfixturevalue("other_rounding")
    other = predict_outcome(*given, outcome="moved", action="action")
    for source in ("messages", "features", "action"):
        errors = (found[source].pop("r2")["per_seed"] for found in (exact, other))
        assert next(errors) == pytest.approx(next(errors))
    assert other == exact


def test_an_outcome_of_many_clips_is_that_of_the_kernel(compositional, raw_features, monkeypatch):
    action = np.tile([1.0, 2.0], 25)
    labels = {"action": action, "outcome": compositional.labels[:, 0] * action}
    asked = {"outcome": "outcome", "action": "action"}
    kernels = kernels_of(compositional, raw_features)
    expected = predict_outcome(compositional, kernels, labels, **asked)
    monkeypatch.setattr(ridge, "MOST_CLIPS", 10)
    vectors = [ridge.likeness([raw_features], split.train) for split in compositional.splits]
    found = predict_outcome(compositional, vectors, labels, **asked)
    for source in ("messages", "features", "action"):
        own, before = (entry[source] for entry in (found, expected))
        assert own["per_seed"] == pytest.approx(before["per_seed"], abs=0.01)
        assert own["r2"]["per_seed"] == pytest.approx(before["r2"]["per_seed"], abs=1e-4)
    for key in ("counterfactual", "queries"):
        assert found[key] == expected[key]
