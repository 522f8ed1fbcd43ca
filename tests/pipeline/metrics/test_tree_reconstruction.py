"""Tree reconstruction error: against Andreas's code, least squares, and planted codes."""

import doctest
import importlib

import numpy as np
import pytest

from pipeline.metrics import METRICS, assess
from tests.helpers.codes import GRID, OBJECTS, PLANTED, arbitrary_code, noisy_grid, random_code
from tests.pipeline.metrics.make_field_references import FIELD, codes, some_clips

METRIC = METRICS["tree_reconstruction_error"]


def test_doctests():
    result = doctest.testmod(importlib.import_module("pipeline.metrics.tree_reconstruction"))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("positions", 0.0),
        ("positions exchanged", 0.0),
        ("each property twice", 0.0),
        ("one property", 0.0),
        ("nothing", 1.0),
    ],
)
def test_planted_codes_have_known_values(code, value):
    assert METRIC(PLANTED[code], GRID) == pytest.approx(value, abs=1e-12)


def test_a_noisy_code_beats_chance_and_noise_does_not():
    noisy, noise = noisy_grid()
    assert assess(METRIC, noisy, GRID, groups=OBJECTS, n=99).p_value == 0.01
    assert assess(METRIC, noise, GRID, groups=OBJECTS, n=99).p_value > 0.05


def test_parts_are_better_than_an_arbitrary_code():
    assert METRIC.sign * (METRIC(GRID, GRID) - METRIC(arbitrary_code(), GRID)) > 0.2


@pytest.mark.parametrize("name", list(codes()))
def test_it_is_as_near_as_andreass_descent(name):
    tokens, attributes = codes()[name]
    some, reference = some_clips(len(tokens)), FIELD["codes"][name]["reconstruction"]
    hot = np.eye(int(tokens.max()) + 1)[tokens[some]].reshape(len(some), -1)
    total = ((hot - hot.mean(0)) ** 2).sum()
    found = METRIC(tokens[some], attributes[some]) * total
    assert found <= reference + 1e-6
    assert found == pytest.approx(reference, abs=0.01 * total)


@pytest.mark.parametrize("seed", range(4))
def test_reconstruction_by_least_squares(seed):
    tokens, attributes = random_code(seed, seeds=1)
    hot = np.eye(5)[tokens[0]].reshape(60, -1)
    parts = np.concatenate([np.eye(4)[column] for column in attributes.T], axis=1)
    rest = hot - parts @ np.linalg.lstsq(parts, hot, rcond=None)[0]
    share = (rest**2).sum() / ((hot - hot.mean(0)) ** 2).sum()
    assert METRIC(tokens[0], attributes) == pytest.approx(share)
