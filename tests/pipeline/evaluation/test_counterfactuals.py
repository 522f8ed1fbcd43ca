"""Counterfactual actions, where it is known how outcomes follow them."""

import numpy as np
import pytest

from pipeline.evaluation.actions import ActedClips
from pipeline.evaluation.counterfactuals import MOST_OTHERS, _others, ask_counterfactuals

ACTION = np.add.outer(np.arange(25), [0, 2]).ravel() % 5 + 1.0
"""Of the two clips of each of 25 objects: never the same."""


def asked(context, outcome, action=ACTION):
    labels = {"moved": outcome, "force": action}
    return ask_counterfactuals(ActedClips.of(context, labels, "moved", "force"))


def test_what_rises_with_the_action_needs_no_message(compositional, random_code):
    outcome = compositional.labels[:, 0] + 3 * ACTION
    found = asked(compositional, outcome)
    assert found["levels"] == [1, 2, 3, 4, 5]
    for source in ("messages", "action"):
        assert found[source]["monotone"]["mean"] == found[source]["but_once"]["mean"] == 1
    assert asked(random_code, outcome)["action"]["monotone"]["mean"] == 1
    assert asked(compositional, -outcome)["messages"]["monotone"]["mean"] == 1


def test_what_turns_back_does_not_follow(compositional):
    found = asked(compositional, compositional.labels[:, 0] - 3 * (ACTION - 3) ** 2)
    for source in ("messages", "action"):
        assert found[source]["monotone"]["mean"] == found[source]["but_once"]["mean"] == 0


def test_which_way_it_goes_depends_on_the_message(compositional):
    alpha = compositional.labels[:, 0]
    found = asked(compositional, (alpha - 1) * (ACTION + 1))
    rising = [np.mean(alpha[test] > 1) for test in compositional.tests]
    assert found["messages"]["monotone"]["per_seed"] == pytest.approx(rising, abs=0.15)
    assert set(found["action"]["monotone"]["per_seed"]) <= {0.0, 1.0}  # one answer for all clips


def test_the_message_of_another_clip_tells_what_would_have_been(compositional, random_code):
    outcome = 2 * compositional.labels[:, 0] + ACTION
    found, nothing = (asked(c, outcome)["other_clip"] for c in (compositional, random_code))
    assert found["mean"] > 0.85
    assert found["interval"][0] > nothing["mean"]
    same = np.repeat(np.arange(25) % 5 + 1.0, 2)
    assert asked(compositional, outcome, same)["other_clip"] is None


def test_another_clip_is_of_the_same_object_and_of_another_action(compositional):
    labels = {"moved": compositional.labels[:, 0], "force": ACTION}
    clips = ActedClips.of(compositional, labels, "moved", "force")
    test = clips.parts[0][1]
    own, other = _others(clips, test)
    assert set(own.tolist()) == set(test.tolist())
    objects = clips.scorer.objects
    assert (objects[own] == objects[other]).all()
    assert (clips.groups[own] != clips.groups[other]).all()
    assert np.unique(own, return_counts=True)[1].max() <= MOST_OTHERS
