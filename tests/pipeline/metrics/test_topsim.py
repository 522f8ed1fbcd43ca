"""TopSim against other people's code, on known codes, and of many clips."""

import doctest
import importlib
import sys

import numpy as np
import pytest
from scipy.stats import spearmanr

from pipeline import metrics
from tests.helpers.codes import random_code
from tests.pipeline.metrics.make_metric_references import PAPER_PAIRS, REFERENCES, cases


@pytest.fixture(params=list(cases()))
def case(request):
    """Tokens, attributes, vocabulary and the reference values of one shared input."""
    return *cases()[request.param], REFERENCES["cases"][request.param]


def test_doctests():
    result = doctest.testmod(importlib.import_module("pipeline.metrics.topsim"))
    assert result.attempted > 0
    assert result.failed == 0


def sampling_error(tokens, attributes, pairs):
    """The spread of TopSim over samples of `pairs` pairs of clips, drawn with replacement."""
    rng = np.random.default_rng(0)
    values = []
    for _ in range(40):
        first, step = (
            rng.integers(len(tokens), size=pairs),
            rng.integers(1, len(tokens), size=pairs),
        )
        second = (first + step) % len(tokens)
        hamming = (tokens[first] != tokens[second]).sum(1)
        manhattan = np.abs(attributes[first] - attributes[second]).sum(1)
        values.append(spearmanr(hamming, manhattan).statistic)
    return np.std(values, ddof=1)


class TestReferences:
    def test_lies_within_the_error_of_the_papers_sample(self, case):
        tokens, attributes, _, values = case
        two = attributes[:, :2]
        clips = len(tokens)
        error = sampling_error(tokens, two, min(PAPER_PAIRS, clips * (clips - 1) // 2))
        assert abs(metrics.topsim(tokens, two) - values["paper"]["topsim_of_two"]) < 4 * error

    def test_with_egg(self, case):
        tokens, attributes, _, values = case
        assert metrics.topsim(tokens, attributes) == pytest.approx(
            values["egg"]["topsim"], abs=1e-12
        )


class TestMeaning:
    GRID = np.array([[i, j] for i in range(5) for j in range(5)])

    def test_constant_messages_score_nothing(self):
        assert metrics.topsim(np.zeros((25, 3), dtype=int), self.GRID) == 0.0

    def test_random_messages_score_nothing(self):
        assert abs(metrics.topsim(*random_code(1, seeds=100, clips=300, bins=5)).mean()) < 0.01

    def test_of_one_attribute_is_defined(self):
        assert metrics.topsim(self.GRID[:, :1], self.GRID[:, 0]) > 0.4


class TestManyClips:
    def test_pairs_are_sampled_within_the_error_of_that(self, monkeypatch):
        tokens, attributes = random_code(8, seeds=2, clips=400)
        tokens[..., 0] = attributes[:, 0]
        exact = metrics.topsim(tokens, attributes)
        errors = [sampling_error(seed, attributes, 20_000) for seed in tokens]
        assert max(errors) < 0.02
        monkeypatch.setattr(sys.modules["pipeline.metrics.topsim"], "MAX_PAIRS", 20_000)
        sampled = metrics.topsim(tokens, attributes)
        assert np.all(sampled != exact)
        assert np.all(np.abs(sampled - exact) < 4 * np.array(errors))

    def test_never_pairs_a_clip_with_itself(self, monkeypatch):
        monkeypatch.setattr(sys.modules["pipeline.metrics.topsim"], "MAX_PAIRS", 1_000)
        tokens = np.arange(100)[:, None]  # all messages differ: every Hamming distance is 1
        assert metrics.topsim(tokens, np.arange(100) % 7) == 0.0


def test_bootstrap_draws_are_the_same_bits_some_at_a_time(monkeypatch):
    rng = np.random.default_rng(0)
    tokens, attributes = rng.integers(0, 4, (2, 60, 3)), rng.integers(0, 5, (60, 2))
    objects = np.arange(60) // 3
    draws = rng.multinomial(20, np.full(20, 1 / 20), size=30)
    module = importlib.import_module("pipeline.metrics.topsim")
    whole = module.topsim_resampled(tokens, attributes, objects=objects, draws=draws)
    monkeypatch.setattr(module, "WEIGHTS_AT_ONCE", 7 * 210)  # of 20 objects: seven draws
    some = module.topsim_resampled(tokens, attributes, objects=objects, draws=draws)
    assert np.array_equal(whole, some)
