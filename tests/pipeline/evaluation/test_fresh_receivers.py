"""Newcomers: what can be learnt from frozen messages is learnt, and nothing else."""

import numpy as np
import pytest

from pipeline.evaluation.fresh_receivers import score_fresh_receivers


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("pipeline.evaluation.fresh_receivers.STEPS", 150)


def test_newcomers_learn_a_code_from_which_properties_can_be_read(compositional):
    found = score_fresh_receivers(compositional)
    for name in ("alpha", "beta"):
        assert found["accuracy"]["properties"][name]["mean"] > 0.95
        assert found["permuted"]["properties"][name]["mean"] < 0.7
    assert found["above_permuted"]["interval"][0] > 0.2
    assert abs(found["trained_minus_fresh"]["mean"]) < 0.1  # the familiar receivers are perfect


def test_newcomers_learn_nothing_from_a_random_code(random_code):
    found = score_fresh_receivers(random_code)
    for name in ("alpha", "beta"):
        low, high = found["above_permuted"]["properties"][name]["interval"]
        assert low < 0 < high


def test_newcomers_need_no_order_of_symbols(compositional):
    """A code whose symbols are shuffled says as much to who must learn it anyway."""
    names = np.array([3, 0, 4, 1, 2])
    shuffled = type(compositional)(**{**vars(compositional), "tokens": names[compositional.tokens]})
    assert score_fresh_receivers(shuffled)["accuracy"]["mean"] > 0.9


def test_the_same_seed_gives_the_same_newcomers(compositional):
    assert score_fresh_receivers(compositional, seed=3) == score_fresh_receivers(
        compositional, seed=3
    )
