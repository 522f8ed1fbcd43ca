"""Tree reconstruction error: against Andreas's code, least squares, and planted codes."""

import numpy as np
import pytest

from pipeline.metrics import METRICS
from tests.helpers.codes import random_code
from tests.pipeline.metrics.make_field_references import FIELD, codes, some_clips

METRIC = METRICS["tree_reconstruction_error"]


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
