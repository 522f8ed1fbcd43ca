"""Concept best matching: against its authors' code, all dictionaries, and planted ones."""

import itertools

import numpy as np
import pytest

from pipeline.metrics import METRICS, best_matches
from tests.helpers.codes import GRID, random_code
from tests.pipeline.metrics.make_field_references import FIELD, codes

METRIC = METRICS["concept_best_matching"]


@pytest.mark.parametrize("name", list(codes()))
def test_it_is_its_authors(name):
    reference = FIELD["codes"][name]["best_matching"]
    assert METRIC(*codes()[name]) == pytest.approx(reference["good"] / reference["all"], abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_best_dictionary_is_the_best_of_all(seed):
    tokens, attributes = random_code(
        seed, seeds=1, clips=12, positions=2, vocab=2, attributes=2, bins=2
    )
    words = [(place, symbol) for place in range(2) for symbol in range(2)]
    best = max(
        sum(
            tokens[0][clip][place] == symbol and attributes[clip][prop] == level
            for clip in range(12)
            for (place, symbol), (prop, level) in zip(words, concepts, strict=True)
        )
        for concepts in itertools.permutations(words)
    )
    found = METRIC(tokens[0], attributes)
    assert found == pytest.approx(best / 24)


def test_a_planted_dictionary_is_found():
    renamed = np.array([2, 0, 3, 1])[GRID[:, ::-1]]  # positions exchanged, symbols renamed
    found = {
        (one.position, one.symbol): (one.attribute, one.bin) for one in best_matches(renamed, GRID)
    }
    symbols = {0: 2, 1: 0, 2: 3, 3: 1}
    expected = {
        (1 - prop, symbols[level]): (prop, level) for prop in range(2) for level in range(4)
    }
    assert found == expected


def test_its_counts_are_those_of_clips():
    noisy = GRID.copy()
    noisy[:6, 0] = 3
    for one in best_matches(noisy, GRID):
        word = noisy[:, one.position] == one.symbol
        concept = GRID[:, one.attribute] == one.bin
        assert one.together == (word & concept).sum() > 0
        assert (one.word_clips, one.concept_clips) == (word.sum(), concept.sum())


@pytest.mark.parametrize("seed", range(3))
def test_its_clips_are_the_score(seed):
    tokens, attributes = random_code(seed, positions=2)
    kept = sum(one.together for one in best_matches(tokens[0], attributes))
    score = METRIC(tokens[0], attributes)
    assert kept / (60 * 2) == pytest.approx(score)
