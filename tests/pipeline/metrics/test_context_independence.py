"""Context independence: against other people's code, counting, and planted codes."""

import math

import numpy as np
import pytest

from pipeline.metrics import METRICS
from tests.helpers.codes import GRID, random_code
from tests.pipeline.metrics.make_field_references import FIELD, codes

METRIC = METRICS["context_independence"]


@pytest.mark.parametrize(
    "name", ["compositional", "compositional, noisy", "holistic", "one position"]
)
def test_context_independence_is_korbaks_where_words_do_not_tie(name):
    tokens, attributes = codes()[name]
    found = METRIC(tokens, attributes)
    pairs = tokens.shape[1] * attributes.shape[1]
    reference = FIELD["codes"][name]["context_independence"]
    assert found == pytest.approx(pairs * reference, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_context_independence_by_counting(seed):
    tokens, attributes = random_code(seed, seeds=1, clips=30, positions=2, vocab=3, bins=3)
    clips = range(30)
    words = {
        (place, symbol): {clip for clip in clips if tokens[0][clip][place] == symbol}
        for place in range(2)
        for symbol in range(3)
    }
    concepts = [
        {clip for clip in clips if attributes[clip][prop] == level}
        for prop in range(2)
        for level in range(3)
    ]
    products = []
    for concept in concepts:
        shares = [
            (len(word & concept) / len(word), len(word & concept) / len(concept))
            for word in words.values()
        ]
        products.append(math.prod(max(shares)))  # of equals, the one with the larger product
    found = METRIC(tokens[0], attributes)
    assert found == pytest.approx(np.mean(products), abs=1e-12)


def test_a_word_in_every_message_hides_none():
    tokens, attributes = codes()["one position says nothing"]
    assert METRIC(tokens, attributes) >= 0.5


def test_a_concept_that_never_occurs_does_not_count():
    assert METRIC(GRID, GRID * [1, 0]) == pytest.approx((4 + 0.25) / 5)
