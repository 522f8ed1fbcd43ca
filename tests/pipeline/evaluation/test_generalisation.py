"""The gap between trained and held-out clips: none for a code, all of it for memory."""

import dataclasses

import numpy as np
import pytest

from pipeline.dataset import Split
from pipeline.evaluation import generalisation
from pipeline.evaluation.generalisation import score_generalisation
from tests.pipeline.evaluation.conftest import (
    compositional_meaning,
    grid_labels,
    make_message_context,
)


def test_a_code_that_holds_everywhere_has_no_gap(compositional):
    scores = score_generalisation(compositional)
    assert scores["training"]["mean"] == 1.0
    assert scores["gap"]["mean"] == 0.0
    assert scores["gap"]["interval"] == [0.0, 0.0]
    assert set(scores["gap"]["properties"]) == {"alpha", "beta"}


def test_memory_is_the_gap():
    labels, _ = grid_labels()
    known = make_message_context(labels, compositional_meaning())
    tokens = known.tokens.copy()
    for own, split in zip(tokens, known.splits, strict=True):
        own[split.test] = np.random.default_rng(0).integers(0, 5, (len(split.test), 2))
    scores = score_generalisation(make_message_context(tokens, compositional_meaning()))
    assert scores["training"]["mean"] == 1.0
    assert scores["gap"]["mean"] > 0.5
    low, high = scores["gap"]["interval"]
    assert 0.3 < low < scores["gap"]["mean"] < high <= 1.0
    assert scores["gap"]["properties"]["alpha"]["mean"] == pytest.approx(0.5, abs=0.25)


def test_without_training_clips_there_is_none(compositional):
    nobody = np.array([], int)
    splits = tuple(
        Split(nobody, nobody, split.test, np.random.RandomState(0))
        for split in compositional.splits
    )
    assert score_generalisation(dataclasses.replace(compositional, splits=splits)) is None


def test_the_clips_that_are_drawn_of_a_seed_are_those_that_it_has_alone(compositional, monkeypatch):
    monkeypatch.setattr(generalisation, "MAX_TEST_CLIPS", 9)
    tokens = np.random.default_rng(0).integers(0, 5, compositional.tokens.shape)
    both = dataclasses.replace(compositional, tokens=tokens)
    alone = dataclasses.replace(
        both,
        seeds=both.seeds[1:],
        splits=both.splits[1:],
        tokens=both.tokens[1:],
        receivers={name: value[1:] for name, value in both.receivers.items()},
    )
    assert [len(own) for own in alone.some_test_clips(9)] == [9, 9]
    pairs = zip(both.some_test_clips(9)[1:], alone.some_test_clips(9), strict=True)
    assert all(np.array_equal(*pair) for pair in pairs)
    found, expected = (score_generalisation(own)["training"]["per_seed"] for own in (alone, both))
    assert found == expected[1:]
