"""Ties up to rounding, and Spearman's correlation."""

import doctest
import importlib

import numpy as np
import pytest
from scipy.stats import spearmanr

from pipeline.metrics import exceeds, merge_ties, spearman
from pipeline.metrics.ranking import rank_correlation_of
from tests.helpers.rounding import last_bits
from tests.pipeline.metrics.make_metric_references import cases


def test_doctests():
    result = doctest.testmod(importlib.import_module("pipeline.metrics.ranking"))
    assert result.attempted > 0
    assert result.failed == 0


class TestTies:
    def test_values_that_differ_in_the_last_bit_become_one(self):
        values = np.repeat(np.random.default_rng(0).normal(size=10), 6)
        noisy = last_bits(values)
        assert len(np.unique(noisy)) > 10
        merged = merge_ties(noisy)
        assert len(np.unique(merged)) == 10
        assert merged == pytest.approx(values, rel=1e-12)

    def test_rounding_is_measured_by_the_largest_value(self):
        assert len(set(merge_ties([1e-17, -1e-17, 1.0]))) == 2
        assert len(set(merge_ties([1.0, 2.0, 3.0]) * 1e-30)) == 3

    def test_different_values_stay_as_they_are(self):
        values = np.random.default_rng(0).normal(size=(400, 3))
        assert np.array_equal(merge_ties(values), values)

    def test_columns_are_separate_and_nan_is_nobodys_equal(self):
        merged = merge_ties(np.array([[1.0, np.nan], [1.0 + 1e-15, np.nan], [2.0, 3.0]]))
        assert merged[:, 0].tolist() == [1.0, 1.0, 2.0]
        assert np.isnan(merged[:2, 1]).all()

    def test_nothing_stays_nothing(self):
        assert merge_ties(np.zeros((0, 2))).shape == (0, 2)

    def test_a_tie_exceeds_in_neither_order(self):
        noisy = last_bits(np.ones((30, 1)))
        assert (noisy[:, None] > noisy[None]).any()
        assert not exceeds(noisy).any()


class TestSpearman:
    def test_is_scipys(self):
        rng = np.random.default_rng(0)
        first, second = rng.integers(6, size=(2, 40)).astype(float)
        assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic)

    def test_of_a_constant_is_zero_also_in_the_last_bits(self):
        assert spearman(np.full(20, 0.3), np.arange(20)) == 0.0
        assert spearman(last_bits(np.full(20, 0.3)), np.arange(20)) == 0.0

    @pytest.mark.parametrize("name", list(cases()))
    def test_of_a_table_of_counts_is_scipys(self, name):
        tokens, attributes, _ = cases()[name]
        for symbols in tokens.T:
            for bins in attributes.T:
                table = np.zeros((symbols.max() + 1, bins.max() + 1))
                np.add.at(table, (symbols, bins), 1)
                constant = symbols.min() == symbols.max()
                expected = 0.0 if constant else spearmanr(symbols, bins).statistic
                assert rank_correlation_of(table) == pytest.approx(expected)
