"""Count tables and information: references, meaning, bins and wrong input."""

import doctest
import importlib
import math

import numpy as np
import pytest

from pipeline import metrics
from tests.helpers.codes import random_code
from tests.pipeline.metrics.make_metric_references import REFERENCES, cases, masses


@pytest.fixture(params=list(cases()))
def case(request):
    """Tokens, attributes, vocabulary and the reference values of one shared input."""
    return *cases()[request.param], REFERENCES["cases"][request.param]


def test_doctests():
    result = doctest.testmod(importlib.import_module("pipeline.metrics.information"))
    assert result.attempted > 0
    assert result.failed == 0


class TestReferences:
    def test_information_and_entropy_are_the_papers(self, case):
        tokens, attributes, vocab, values = case
        paper = values["paper"]
        np.testing.assert_allclose(
            metrics.mutual_information(tokens, attributes),
            paper["mutual_information_nats"],
            atol=1e-12,
        )
        np.testing.assert_allclose(
            metrics.entropy(tokens) / math.log(vocab), paper["entropies_over_log_vocab"], atol=1e-12
        )

    def test_message_entropy_is_eggs(self, case):
        tokens, _, _, values = case
        bits = metrics.message_entropy(tokens) / math.log(2)
        assert bits == pytest.approx(values["egg"]["message_entropy_bits"], abs=1e-5)

    def test_adjusted_information_is_scikit_learns(self, case):
        tokens, attributes, _, values = case
        adjusted = metrics.adjusted_mutual_information(tokens, attributes)
        np.testing.assert_allclose(adjusted, values["adjusted_mutual_information"], atol=1e-9)

    def test_bins_are_the_papers(self):
        assert metrics.bin_property(masses()).tolist() == REFERENCES["mass_bins"]


class TestMeaning:
    def test_constant_messages_inform_about_nothing(self):
        grid = np.array([[i, j] for i in range(5) for j in range(5)])
        constant = np.zeros((25, 3), dtype=int)
        for name in ("mutual_information", "adjusted_mutual_information"):
            assert np.all(metrics.METRICS[name](constant, grid) == 0.0), name

    def test_random_information_is_adjusted_away(self):
        tokens, attributes = random_code(2, seeds=200, clips=100, bins=5)
        assert metrics.mutual_information(tokens, attributes).mean() > 0.07
        assert abs(metrics.adjusted_mutual_information(tokens, attributes).mean()) < 0.003

    def test_information_of_two_vectors_is_a_float(self):
        value = metrics.mutual_information([0, 0, 1, 1], [5, 5, 3, 3])
        assert isinstance(value, float)
        assert value == pytest.approx(math.log(2))

    def test_message_statistics(self):
        tokens = np.array([[0, 1], [0, 1], [0, 2], [0, 2]])
        assert metrics.message_entropy(tokens) == pytest.approx(math.log(2))
        np.testing.assert_allclose(metrics.entropy(tokens), [0, math.log(2)])
        assert metrics.message_ids(np.stack([tokens, tokens[::-1]])).tolist() == [
            [0, 0, 1, 1],
            [1, 1, 0, 0],
        ]


class TestBins:
    def test_levels_of_a_grid_stay_as_they_are(self):
        assert metrics.bin_property([0.5, 0.1, 0.9, 0.1]).tolist() == [1, 0, 2, 0]

    def test_equal_values_share_a_bin_and_bins_have_no_gaps(self):
        values = np.concatenate([np.zeros(60), np.arange(1, 41)])
        bins = metrics.bin_property(values)
        assert len(set(bins[:60])) == 1
        assert sorted(set(bins)) == list(range(bins.max() + 1))

    def test_bins_are_about_equally_full(self):
        values = np.random.default_rng(0).normal(size=1000)
        assert np.bincount(metrics.bin_property(values, bins=8)).tolist() == [125] * 8

    def test_order_is_kept(self):
        values = np.random.default_rng(1).lognormal(size=200)
        assert (np.diff(metrics.bin_property(values)[np.argsort(values)]) >= 0).all()


class TestWrongInput:
    @pytest.mark.parametrize(
        ("tokens", "attributes", "message"),
        [
            ([[0.5]], [[1]], "tokens must be integers from 0, not float64"),
            ([[0]], [[1.5]], "attributes must be integers from 0, not float64; see bin_property"),
            ([[-1]], [[1]], "tokens must be integers from 0, and one is -1"),
            ([[0], [1]], [[1]], r"tokens \(2, 1\) and attributes \(1, 1\) must be"),
            ([0, 1], [0, 1], r"tokens must be \(\.\.\., N, positions\), not \(2,\)"),
            (np.zeros((0, 2), int), np.zeros((0, 2), int), r"not \(0, 2\)"),
        ],
    )
    def test_says_what_is_wrong(self, tokens, attributes, message):
        with pytest.raises(ValueError, match=message):
            metrics.posdis_wmcp(tokens, attributes)

    def test_a_property_with_unknown_values(self):
        with pytest.raises(ValueError, match="1 of 3 clips have no value of this property"):
            metrics.bin_property([1.0, np.nan, 2.0])

    def test_one_bin(self):
        with pytest.raises(ValueError, match="at least 2 bins, not 1"):
            metrics.bin_property([1.0, 2.0], bins=1)

    def test_a_table_is_no_property(self):
        with pytest.raises(ValueError, match=r"one value for each clip, \(N,\), not \(2, 2\)"):
            metrics.bin_property(np.zeros((2, 2)))


def test_values_equal_but_for_rounding_share_a_bin():
    grid = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    both = np.concatenate([grid, grid.astype(np.float32)])
    assert metrics.bin_property(both).tolist() == [0, 1, 2, 3, 4] * 2
