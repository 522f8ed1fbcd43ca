"""Interventions on codes whose causes are known."""

import numpy as np
import pytest
import torch

from pipeline.agents import CompositionalReceiver, stack_receivers
from pipeline.evaluation.context import compare_clips, compare_messages, one_hot_tokens
from pipeline.evaluation.interventions import (
    KINDS,
    NOISE,
    add_noise,
    carried_properties,
    intervene,
    score_kept_receivers,
    silence_agents,
)


def test_in_a_compositional_code_each_position_causes_its_own_property(compositional):
    found = intervene(compositional)
    assert found["positions"] == [[1, 1], [2, 1]]
    assert found["accuracy_intact"]["mean"] == 1
    assert found["carried_property"] == [["alpha", "beta"]] * 3
    for kind in KINDS:
        drop = np.array(found[kind]["drop"])
        assert drop[0, 1] == drop[1, 0] == 0, kind
        assert (np.diag(drop) > 0.3).all(), kind
        selectivity = found[kind]["selectivity"]
        assert selectivity["carried_property"]["mean"] == pytest.approx(np.diag(drop).mean())
        assert selectivity["other_properties"]["mean"] == 0
        assert selectivity["difference"]["interval"][0] > 0.2
        assert selectivity["difference"]["p_value"] < 0.05
    assert np.diag(found["zero"]["drop"]) == pytest.approx([0.5, 0.5])  # every pair a tie
    assert np.diag(found["swap"]["drop"]) == pytest.approx([1.0, 1.0])  # every answer flipped
    p = np.array(found["resample"]["p_value"])
    assert np.diag(p) == pytest.approx([1 / 101] * 2)
    assert p[0, 1] == p[1, 0] == 1
    flips = np.array(found["edits"]["flip_rate"])
    assert flips[0, 1] == flips[1, 0] == 0
    assert (np.diag(flips) > 0.2).all()


def test_a_flip_rate_can_be_counted_by_hand(context_of):
    """Symbols 0 and 1 of one position: an edit changes the answer against clips that differ."""
    labels = np.arange(50.0)[:, None]
    tokens = (labels > 24).astype(int)
    meaning = np.array([[[0.0], [1.0]]])
    context = context_of(tokens, meaning, labels=labels, seeds=1)
    test = context.splits[0].test
    symbols = tokens[test, 0]
    pairs = [(i, j) for i in range(len(test)) for j in range(len(test)) if i != j]
    flipped = [(1 - symbols[i] > symbols[j]) != (symbols[i] > symbols[j]) for i, j in pairs]
    found = intervene(context, draws=5)["edits"]["flip_rate"]
    assert found == [[pytest.approx(np.mean(flipped))]]


def test_a_random_code_causes_nothing(random_code):
    found = intervene(random_code)
    low, high = found["accuracy_intact"]["properties"]["alpha"]["interval"]
    assert low < 0.5 < high
    for kind in KINDS:
        drop, ends = np.array(found[kind]["drop"]), np.array(found[kind]["interval"])
        assert (np.abs(drop) < 0.15).all(), kind
        assert (ends[..., 0] <= 0).all(), kind
        assert (ends[..., 1] >= 0).all(), kind
    assert (np.array(found["resample"]["p_value"]) > 0.01).all()


def test_what_two_positions_both_say_survives_the_loss_of_one(context_of):
    levels = np.repeat(np.arange(5), 10)[:, None]
    context = context_of(
        np.repeat(levels, 2, axis=1),
        np.repeat(np.arange(5.0)[None, :, None] - 2, 2, axis=0),
        labels=levels.astype(float),
    )
    found = intervene(context)
    assert found["zero"]["drop"] == [[0.0], [0.0]]
    assert found["zero"]["selectivity"] is None  # one property
    assert found["zero"]["drop_together"] == [0.0, 0.0]


def test_the_property_of_a_position_is_chosen_on_training_clips(compositional, context_of):
    tokens = compositional.tokens.copy()
    for number, split in enumerate(compositional.splits):
        tokens[number, split.test] = tokens[number, split.test][:, ::-1]  # test clips say otherwise
    flipped = type(compositional)(**{**vars(compositional), "tokens": tokens})
    assert carried_properties(flipped).tolist() == [[0, 1]] * 3


def test_a_silenced_agent_takes_its_property_with_it(compositional):
    first, second = silence_agents(compositional)
    assert first["properties"]["alpha"]["mean"] == pytest.approx(0.5)
    assert first["properties"]["beta"]["mean"] == 0
    assert second["properties"]["alpha"]["mean"] == 0
    assert second["properties"]["beta"]["interval"][0] > 0.3


def test_noise_wears_accuracy_down_to_chance(compositional):
    found = add_noise(compositional)
    assert found["probability"] == list(NOISE)
    curve = [one["properties"]["alpha"]["mean"] for one in found["accuracy"]]
    assert curve[0] == 1
    assert curve[-1] == pytest.approx(0.45, abs=0.1)  # ties of random symbols answer "no"
    assert all(np.diff(curve) < 0.05)
    assert curve[3] < 0.97


def test_kept_receivers_score_a_perfect_code_perfectly(compositional):
    found = score_kept_receivers(compositional)
    for entry in found["properties"].values():
        assert entry["mean"] == 1
        assert entry["auc"]["mean"] == 1
        low, high = entry["auc"]["interval"]
        assert 0.9 < low < high == 1  # nothing was wrong, which is no proof that nothing can be
        assert min(entry["spearman"]["per_seed"]) > 0.97


def test_verdicts_are_those_of_the_receiver_module():
    torch.manual_seed(0)
    receiver = CompositionalReceiver(12, 16, ("alpha", "beta"))
    words = np.random.default_rng(0).integers(4, size=(9, 3))
    spoken = one_hot_tokens(words, 4)
    answers = compare_messages(
        stack_receivers([[receiver, receiver]], torch.device("cpu")), words, 4
    )
    assert answers.shape == (2, 9, 9, 2)
    with torch.no_grad():
        for i in range(9):
            logits = receiver(spoken[i].expand(9, -1), spoken)
            assert np.array_equal(answers[1, i], (logits > 0).numpy())


def test_clips_that_say_the_same_are_heard_once_and_alike(compositional):
    words = compositional.tokens[0, :20]
    receiver = compositional.receiver(0)
    assert np.array_equal(compare_clips(receiver, words, 5), compare_messages(receiver, words, 5))


def test_silence_is_heard_as_zeros():
    assert one_hot_tokens(np.array([[0, 2]]), 2).tolist() == [[1.0, 0.0, 0.0, 0.0]]
