"""Agreement of protocols up to a renaming of symbols."""

import doctest
import importlib

import numpy as np
import pytest

from pipeline.evaluation.agreement import (
    agent_agreement,
    agreement,
    relabelled_agreement,
    seed_agreement,
)


def test_doctests():
    result = doctest.testmod(importlib.import_module("pipeline.evaluation.agreement"))
    assert result.attempted > 0
    assert result.failed == 0


def test_renamed_symbols_and_swapped_positions_agree_wholly():
    rng = np.random.default_rng(0)
    first = rng.integers(5, size=(80, 3))
    names = np.array([3, 1, 4, 0, 2])
    second = names[first][:, [2, 0, 1]]
    found = agreement(first, second)
    assert found["adjusted_mutual_information"] == pytest.approx(1)
    assert found["matched"] == 1
    assert found["matched_by_chance"] < 0.5
    assert found["p_value"] < 0.05
    table = np.array(found["relabelled"])
    assert table[0, 1] == table[1, 2] == table[2, 0] == 1


def test_unrelated_protocols_agree_by_chance():
    rng = np.random.default_rng(0)
    found = agreement(*rng.integers(5, size=(2, 200, 2)))
    assert abs(found["adjusted_mutual_information"]) < 0.1
    assert found["matched"] == pytest.approx(found["matched_by_chance"], abs=0.05)
    assert found["p_value"] > 0.02


def test_the_best_renaming_is_one_to_one():
    """Two symbols of the first cannot both be called the same symbol of the second."""
    assert relabelled_agreement(np.array([[0], [0], [1], [1]]), np.zeros((4, 1), int)).item() == 0.5


def test_agents_and_seeds_within_a_run():
    rng = np.random.default_rng(0)
    symbols = rng.integers(4, size=(2, 60, 1, 2))
    tokens = np.concatenate(
        [symbols, 3 - symbols], axis=2
    )  # the second agent has other symbols for the same
    (pair,) = agent_agreement(tokens)
    assert pair["agents"] == [1, 2]
    assert pair["matched"] == 1
    between = seed_agreement(tokens)
    assert between is not None
    assert between["matched"] < 0.6
    assert seed_agreement(tokens[:1]) is None
