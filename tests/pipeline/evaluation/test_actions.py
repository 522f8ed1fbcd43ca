"""Clips after an action: what is predicted, and how answers count."""

import numpy as np

from pipeline.evaluation.actions import ActedClips, share_right, with_action


def test_a_prediction_of_one_half_is_half_right():
    values = np.array([0.2, 0.5, 0.5 + np.spacing(0.5), 0.5 - np.spacing(0.5), 0.9])
    above = np.array([False, True, False, True, False])
    assert share_right(values, above).tolist() == [1.0, 0.5, 0.5, 0.5, 0.0]


def test_the_kernel_of_action_and_products_is_that_of_the_columns():
    rng = np.random.default_rng(0)
    features, action = rng.normal(size=(6, 3)), rng.normal(size=6)
    columns = np.column_stack([features, action, features * action[:, None]])
    assert np.allclose(with_action(features @ features.T, action), columns @ columns.T)


def test_more_actions_than_five_are_fifths(compositional):
    labels = {"force": np.arange(50.0), "moved": compositional.labels[:, 0]}
    clips = ActedClips.of(compositional, labels, "moved", "force")
    assert np.unique(clips.groups).tolist() == [0, 1, 2, 3, 4]
    labels["moved"] = np.where(np.arange(50) == 7, np.nan, labels["moved"])
    clips = ActedClips.of(compositional, labels, "moved", "force")
    assert 7 not in np.concatenate([*map(np.concatenate, clips.parts)])
