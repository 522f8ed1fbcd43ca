"""Metrics of the field: against their authors' code, against counting, and on planted codes."""

import doctest
import importlib
import itertools
import math
from collections import Counter

import numpy as np
import pytest

from pipeline.metrics import METRICS, assess, best_matches
from pipeline.metrics.information import entropy_of
from tests.helpers.codes import GRID, OBJECTS, arbitrary_code, random_code
from tests.pipeline.metrics.make_field_references import FIELD, bits, codes, some_clips

FIELD_METRICS = {
    "concept_best_matching": "concept_best_matching",
    "context_independence": "context_independence",
    "residual_entropy": "residual_entropy",
    "tree_reconstruction_error": "tree_reconstruction",
}
ROOMY = np.concatenate([GRID, GRID], axis=1)  # each property twice


@pytest.fixture(params=list(codes()))
def case(request):
    """Tokens, attributes and the reference values of one shared input."""
    return *codes()[request.param], FIELD["codes"][request.param]


@pytest.mark.parametrize("module", FIELD_METRICS.values())
def test_doctests(module):
    result = doctest.testmod(importlib.import_module(f"pipeline.metrics.{module}"))
    assert result.attempted > 0
    assert result.failed == 0


class TestReferences:
    def test_best_matching_is_its_authors(self, case):
        tokens, attributes, values = case
        found = METRICS["concept_best_matching"](tokens, attributes)
        reference = values["best_matching"]
        assert found == pytest.approx(reference["good"] / reference["all"], abs=1e-12)

    @pytest.mark.parametrize(
        "name", ["compositional", "compositional, noisy", "holistic", "one position"]
    )
    def test_context_independence_is_korbaks_where_words_do_not_tie(self, name):
        tokens, attributes = codes()[name]
        found = METRICS["context_independence"](tokens, attributes)
        pairs = tokens.shape[1] * attributes.shape[1]
        reference = FIELD["codes"][name]["context_independence"]
        assert found == pytest.approx(pairs * reference, abs=1e-6)

    def test_reconstruction_is_as_near_as_andreass_descent(self, case):
        tokens, attributes, values = case
        some = some_clips(len(tokens))
        hot = np.eye(int(tokens.max()) + 1)[tokens[some]].reshape(len(some), -1)
        total = ((hot - hot.mean(0)) ** 2).sum()
        found = METRICS["tree_reconstruction_error"](tokens[some], attributes[some]) * total
        assert found <= values["reconstruction"] + 1e-6
        assert found == pytest.approx(values["reconstruction"], abs=0.01 * total)

    @pytest.mark.parametrize("name", list(bits()))
    def test_residual_entropy_is_its_authors(self, name):
        found = METRICS["residual_entropy"](*bits()[name])
        assert found == pytest.approx(FIELD["bits"][name], abs=1e-6)


class TestCounting:
    """The definitions once more, clip by clip."""

    @pytest.mark.parametrize("seed", range(4))
    def test_the_best_dictionary_is_the_best_of_all(self, seed):
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
        found = METRICS["concept_best_matching"](tokens[0], attributes)
        assert found == pytest.approx(best / 24)

    @pytest.mark.parametrize("seed", range(4))
    def test_context_independence_by_counting(self, seed):
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
        found = METRICS["context_independence"](tokens[0], attributes)
        assert found == pytest.approx(np.mean(products), abs=1e-12)

    def test_a_word_in_every_message_hides_none(self):
        tokens, attributes = codes()["one position says nothing"]
        assert METRICS["context_independence"](tokens, attributes) >= 0.5

    @pytest.mark.parametrize("seed", range(4))
    def test_entropy_left_by_counting(self, seed):
        tokens, attributes = random_code(seed, seeds=1, clips=40, positions=3, vocab=3)
        shares = []
        told = METRICS["mutual_information"](tokens[0], attributes)
        unknown = [entropy_of(np.bincount(column)) for column in attributes.T]
        owner = (told / unknown).argmax(1)
        for number, column in enumerate(attributes.T):
            names = [tuple(clip[owner == number]) for clip in tokens[0]]
            pairs, alone = Counter(zip(names, column.tolist(), strict=True)), Counter(names)
            left = -sum(n / 40 * math.log(n / alone[name]) for (name, _), n in pairs.items())
            shares.append(left / unknown[number])
        found = METRICS["residual_entropy"](tokens[0], attributes)
        assert found == pytest.approx(np.mean(shares), abs=1e-12)

    @pytest.mark.parametrize("seed", range(4))
    def test_reconstruction_by_least_squares(self, seed):
        tokens, attributes = random_code(seed, seeds=1)
        hot = np.eye(5)[tokens[0]].reshape(60, -1)
        parts = np.concatenate([np.eye(4)[column] for column in attributes.T], axis=1)
        rest = hot - parts @ np.linalg.lstsq(parts, hot, rcond=None)[0]
        share = (rest**2).sum() / ((hot - hot.mean(0)) ** 2).sum()
        assert METRICS["tree_reconstruction_error"](tokens[0], attributes) == pytest.approx(share)


class TestPlanted:
    @pytest.mark.parametrize(
        ("code", "values"),
        [
            (GRID, (1.0, 1.0, 0.0, 0.0)),
            (GRID[:, ::-1], (1.0, 1.0, 0.0, 0.0)),
            # each property twice: half of the words are one too many
            (ROOMY, (0.5, 1.0, 0.0, 0.0)),
            # the second property is never told: its four concepts have the constant word, a quarter
            (GRID * [1, 0], (5 / 8, 5 / 8, 0.5, 0.0)),
            (GRID * 0, (1 / 8 * 2, 0.25, 1.0, 1.0)),
        ],
    )
    def test_known_values(self, code, values):
        found = [METRICS[name](code, GRID) for name in FIELD_METRICS]
        assert found == pytest.approx(values, abs=1e-12)

    @pytest.mark.parametrize("name", FIELD_METRICS)
    def test_a_code_with_parts_beats_chance_and_noise_does_not(self, name):
        rng = np.random.default_rng(0)
        noisy = np.where(rng.random((3, 48, 2)) < 0.2, rng.integers(0, 4, (3, 48, 2)), GRID)
        assert assess(METRICS[name], noisy, GRID, groups=OBJECTS, n=99).p_value == 0.01
        noise = rng.integers(0, 4, (3, 48, 2))
        assert assess(METRICS[name], noise, GRID, groups=OBJECTS, n=99).p_value > 0.05

    @pytest.mark.parametrize("name", FIELD_METRICS)
    def test_parts_are_better_than_an_arbitrary_code(self, name):
        metric = METRICS[name]
        better = metric.sign * (metric(GRID, GRID) - metric(arbitrary_code(), GRID))
        assert better > 0.2

    def test_one_property_may_be_constant(self):
        still = GRID * [1, 0]
        assert METRICS["residual_entropy"](GRID, still) == 0.0
        assert math.isnan(METRICS["residual_entropy"](GRID, GRID * 0))
        assert METRICS["context_independence"](GRID, still) == pytest.approx((4 + 0.25) / 5)


class TestDictionary:
    def test_a_planted_dictionary_is_found(self):
        renamed = np.array([2, 0, 3, 1])[GRID[:, ::-1]]  # positions exchanged, symbols renamed
        found = {
            (one.position, one.symbol): (one.attribute, one.bin)
            for one in best_matches(renamed, GRID)
        }
        symbols = {0: 2, 1: 0, 2: 3, 3: 1}
        expected = {
            (1 - prop, symbols[level]): (prop, level) for prop in range(2) for level in range(4)
        }
        assert found == expected

    def test_its_counts_are_those_of_clips(self):
        noisy = GRID.copy()
        noisy[:6, 0] = 3
        for one in best_matches(noisy, GRID):
            word = noisy[:, one.position] == one.symbol
            concept = GRID[:, one.attribute] == one.bin
            assert one.together == (word & concept).sum() > 0
            assert (one.word_clips, one.concept_clips) == (word.sum(), concept.sum())

    @pytest.mark.parametrize("seed", range(3))
    def test_its_clips_are_the_score(self, seed):
        tokens, attributes = random_code(seed, positions=2)
        kept = sum(one.together for one in best_matches(tokens[0], attributes))
        score = METRICS["concept_best_matching"](tokens[0], attributes)
        assert kept / (60 * 2) == pytest.approx(score)
