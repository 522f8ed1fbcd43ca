"""Residual entropy: against its authors' code, counting, and planted codes."""

import math
from collections import Counter

import numpy as np
import pytest

from pipeline.metrics import METRICS, entropy
from tests.helpers.codes import GRID, random_code
from tests.pipeline.metrics.make_field_references import FIELD, bits

METRIC = METRICS["residual_entropy"]


@pytest.mark.parametrize("name", list(bits()))
def test_it_is_its_authors(name):
    found = METRIC(*bits()[name])
    assert found == pytest.approx(FIELD["bits"][name], abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_entropy_left_by_counting(seed):
    tokens, attributes = random_code(seed, seeds=1, clips=40, positions=3, vocab=3)
    shares = []
    told = METRICS["mutual_information"](tokens[0], attributes)
    unknown = [entropy(column[:, None])[0] for column in attributes.T]
    owner = (told / unknown).argmax(1)
    for number, column in enumerate(attributes.T):
        names = [tuple(clip[owner == number]) for clip in tokens[0]]
        pairs, alone = Counter(zip(names, column.tolist(), strict=True)), Counter(names)
        left = -sum(n / 40 * math.log(n / alone[name]) for (name, _), n in pairs.items())
        shares.append(left / unknown[number])
    found = METRIC(tokens[0], attributes)
    assert found == pytest.approx(np.mean(shares), abs=1e-12)


def test_a_property_that_never_varies_does_not_count():
    assert METRIC(GRID, GRID * [1, 0]) == 0.0
    assert math.isnan(METRIC(GRID, GRID * 0))
