"""Metrics against other people's code, against their definitions, and against themselves."""

import doctest
import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from pipeline import metrics

DATA = Path(__file__).resolve().parent
MODULES = ("information", "language", "resampling", "topsim", "significance")
SCALARS = ("posdis_wmcp", "posdis_chaabouni2020", "bosdis_wmcp", "bosdis_chaabouni2020", "topsim")


def _generator():
    spec = importlib.util.spec_from_file_location("references", DATA / "make_metric_references.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


INPUTS = _generator()
REFERENCES = json.loads((DATA / "metric_references.json").read_text(encoding="utf-8"))


@pytest.fixture(params=list(INPUTS.cases()))
def case(request):
    """Tokens, attributes, vocabulary and the reference values of one shared input."""
    return *INPUTS.cases()[request.param], REFERENCES["cases"][request.param]


def _random(seed=0, *, seeds=3, clips=60, positions=4, vocab=5, attributes=2, bins=4):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, vocab, (seeds, clips, positions))
    return tokens, rng.integers(0, bins, (clips, attributes))


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name):
    result = doctest.testmod(importlib.import_module(f"pipeline.metrics.{name}"))
    assert result.attempted > 0
    assert result.failed == 0


class TestAgreement:
    def test_with_the_paper(self, case):
        tokens, attributes, vocab, values = case
        paper = values["paper"]
        assert metrics.posdis_wmcp(tokens, attributes) == pytest.approx(paper["posdis"], abs=1e-12)
        assert metrics.bosdis_wmcp(tokens, attributes) == pytest.approx(paper["bosdis"], abs=1e-12)
        np.testing.assert_allclose(
            metrics.mutual_information(tokens, attributes),
            paper["mutual_information_nats"],
            atol=1e-12,
        )
        np.testing.assert_allclose(
            metrics.entropy(tokens) / math.log(vocab), paper["entropies_over_log_vocab"], atol=1e-12
        )

    def test_topsim_lies_within_the_error_of_the_papers_sample(self, case):
        tokens, attributes, _, values = case
        two = attributes[:, :2]
        clips = len(tokens)
        pairs = min(INPUTS.PAPER_PAIRS, clips * (clips - 1) // 2 - 1)
        error = metrics.topsim_sampled(tokens, two, pairs=pairs).standard_error
        assert abs(metrics.topsim(tokens, two) - values["paper"]["topsim_of_two"]) < 4 * error

    def test_with_egg(self, case):
        tokens, attributes, _, values = case
        egg = values["egg"]  # in float32
        posdis = metrics.posdis_chaabouni2020(tokens, attributes)
        bosdis = metrics.bosdis_chaabouni2020(tokens, attributes)
        assert posdis == pytest.approx(egg["posdis"], abs=2e-6)
        assert bosdis == pytest.approx(egg["bosdis_shifted"], abs=2e-6)
        assert metrics.topsim(tokens, attributes) == pytest.approx(egg["topsim"], abs=1e-12)
        bits = metrics.message_entropy(tokens) / math.log(2)
        assert bits == pytest.approx(egg["message_entropy_bits"], abs=1e-5)

    def test_with_scikit_learn(self, case):
        tokens, attributes, _, values = case
        ours = metrics.adjusted_mutual_information(tokens, attributes)
        np.testing.assert_allclose(ours, values["adjusted_mutual_information"], atol=1e-9)

    def test_auc_with_scikit_learn(self):
        assert metrics.auc(*INPUTS.scores()) == pytest.approx(REFERENCES["auc"], abs=1e-12)

    def test_bins_are_the_papers(self):
        assert metrics.bin_property(INPUTS.masses()).tolist() == REFERENCES["mass_bins"]

    def test_monotonicity_is_spearman(self, case):
        tokens, attributes, _, _ = case
        ours = metrics.monotonicity(tokens, attributes)
        for position, symbols in enumerate(tokens.T):
            if symbols.min() == symbols.max():
                assert ours[position].tolist() == [0.0] * attributes.shape[1]
                continue
            for place, bins in enumerate(attributes.T):
                assert ours[position, place] == pytest.approx(spearmanr(symbols, bins).statistic)


class TestMeaning:
    GRID = np.array([[i, j] for i in range(5) for j in range(5)])

    def test_a_compositional_code_scores_one(self):
        for name in ("posdis_wmcp", "posdis_chaabouni2020"):
            assert metrics.METRICS[name](self.GRID, self.GRID) == pytest.approx(1.0)
        apart = self.GRID + np.array([0, 5])  # no symbol in two positions
        for name in ("bosdis_wmcp", "bosdis_chaabouni2020"):
            assert metrics.METRICS[name](apart, self.GRID) == pytest.approx(1.0)

    def test_a_symbol_for_everything_scores_nothing(self):
        silent = np.zeros((25, 3), dtype=int)
        for name in SCALARS:
            assert metrics.METRICS[name](silent, self.GRID) == 0.0, name
        for name in ("mutual_information", "adjusted_mutual_information", "monotonicity"):
            assert np.all(metrics.METRICS[name](silent, self.GRID) == 0.0), name

    def test_random_messages_flatter_the_papers_posdis_and_not_chaabounis(self):
        tokens, attributes = _random(1, seeds=100, clips=300, bins=5)
        assert 0.25 < metrics.posdis_wmcp(tokens, attributes).mean() < 0.5
        assert metrics.posdis_chaabouni2020(tokens, attributes).mean() < 0.02
        assert abs(metrics.topsim(tokens, attributes).mean()) < 0.01

    def test_random_information_is_adjusted_away(self):
        tokens, attributes = _random(2, seeds=200, clips=100, bins=5)
        assert metrics.mutual_information(tokens, attributes).mean() > 0.07
        assert abs(metrics.adjusted_mutual_information(tokens, attributes).mean()) < 0.003

    @pytest.mark.parametrize("name", SCALARS[:4])
    def test_disentanglement_of_one_attribute_is_undefined(self, name):
        tokens, attributes = _random()
        assert np.isnan(metrics.METRICS[name](tokens, attributes[:, :1])).all()
        assert math.isnan(metrics.METRICS[name](tokens[0], attributes[:, 0]))

    def test_topsim_of_one_attribute_is_defined(self):
        assert metrics.topsim(self.GRID[:, :1], self.GRID[:, 0]) > 0.4

    def test_information_of_two_vectors_is_a_float(self):
        value = metrics.mutual_information([0, 0, 1, 1], [5, 5, 3, 3])
        assert isinstance(value, float)
        assert value == pytest.approx(math.log(2))

    def test_message_statistics(self):
        tokens = np.array([[0, 1], [0, 1], [0, 2], [0, 2]])
        assert metrics.message_uniqueness(tokens) == 0.5
        assert metrics.message_entropy(tokens) == pytest.approx(math.log(2))
        np.testing.assert_allclose(metrics.effective_vocabulary(tokens), [1, 2])
        assert metrics.message_ids(np.stack([tokens, tokens[::-1]])).tolist() == [
            [0, 0, 1, 1],
            [1, 1, 0, 0],
        ]

    def test_symbols_in_use_leaves_rare_ones_out(self):
        tokens = np.array([0] * 19 + [1])[:, None]
        assert metrics.symbols_in_use(tokens).tolist() == [1]
        assert metrics.symbols_in_use(tokens, above=0.04).tolist() == [2]


class TestInvariance:
    @pytest.mark.parametrize("name", list(metrics.METRICS))
    def test_one_seed_alone_equals_the_same_seed_among_many(self, name):
        tokens, attributes = _random(3, seeds=7)
        together = metrics.METRICS[name](tokens, attributes)
        for seed, one in enumerate(tokens):
            np.testing.assert_allclose(
                metrics.METRICS[name](one, attributes), together[seed], atol=1e-13
            )

    @pytest.mark.parametrize("name", list(metrics.METRICS))
    def test_the_order_of_clips_does_not_matter(self, name):
        tokens, attributes = _random(4)
        order = np.random.default_rng(0).permutation(60)
        np.testing.assert_allclose(
            metrics.METRICS[name](tokens[:, order], attributes[order]),
            metrics.METRICS[name](tokens, attributes),
            atol=1e-13,
        )

    @pytest.mark.parametrize("name", SCALARS)
    def test_the_names_of_symbols_do_not_matter(self, name):
        tokens, attributes = _random(5)
        renamed = np.array([4, 2, 0, 1, 3])[tokens]
        np.testing.assert_allclose(
            metrics.METRICS[name](renamed, attributes),
            metrics.METRICS[name](tokens, attributes),
            atol=1e-13,
        )

    @pytest.mark.parametrize("name", sorted(set(metrics.METRICS) - {"topsim"}))
    def test_a_weight_of_two_is_the_clip_twice(self, name):
        tokens, attributes = _random(6)
        weights = np.random.default_rng(1).integers(0, 3, 60)
        rows = np.repeat(np.arange(60), weights)
        np.testing.assert_allclose(
            metrics.METRICS[name](tokens, attributes, weights=weights),
            metrics.METRICS[name](tokens[:, rows], attributes[rows]),
            atol=1e-13,
        )

    @pytest.mark.parametrize("name", list(metrics.METRICS))
    def test_leading_axes_broadcast(self, name):
        tokens, attributes = _random(7)
        draws = np.stack([attributes, attributes[::-1]])
        values = metrics.METRICS[name](tokens, draws[:, None])
        for draw, some in enumerate(draws):
            np.testing.assert_allclose(
                values[draw], metrics.METRICS[name](tokens, some), atol=1e-13
            )


class TestTopsimOfManyClips:
    def test_is_sampled_within_its_error(self, monkeypatch):
        tokens, attributes = _random(8, seeds=2, clips=400)
        tokens[..., 0] = attributes[:, 0]
        exact = metrics.topsim(tokens, attributes)
        estimate = metrics.topsim_sampled(tokens, attributes, pairs=20_000, seed=1)
        assert np.all(estimate.standard_error < 0.02)
        assert np.all(np.abs(estimate.value - exact) < 4 * estimate.standard_error)
        monkeypatch.setattr(sys.modules["pipeline.metrics.topsim"], "MAX_PAIRS", 20_000)
        sampled = metrics.topsim(tokens, attributes)
        assert np.all(sampled != exact)
        assert np.all(np.abs(sampled - exact) < 4 * estimate.standard_error)

    def test_the_error_is_the_spread_of_repeated_draws(self):
        tokens, attributes = _random(9, seeds=1, clips=200)
        draws = [
            metrics.topsim_sampled(tokens[0], attributes, pairs=2_000, seed=s) for s in range(60)
        ]
        spread = np.std([one.value for one in draws], ddof=1)
        assert np.mean([one.standard_error for one in draws]) == pytest.approx(spread, rel=0.3)

    def test_never_pairs_a_clip_with_itself(self):
        tokens = np.arange(100)[:, None]  # all messages differ
        estimate = metrics.topsim_sampled(tokens, np.arange(100) % 7, pairs=1_000)
        assert estimate.value == 0.0  # every Hamming distance is 1


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

    def test_sensitivity_has_an_entry_for_each_number(self):
        values = np.random.default_rng(2).normal(size=(50, 2))
        tokens = np.stack([metrics.bin_property(v, bins=4) for v in values.T], axis=1)
        found = metrics.bin_sensitivity(metrics.posdis_chaabouni2020, tokens, values, bins=(2, 4))
        assert list(found) == [2, 4]
        attributes = np.stack([metrics.bin_property(v, bins=4) for v in values.T], axis=1)
        assert found[4] == metrics.posdis_chaabouni2020(tokens, attributes)


class TestAnswers:
    def test_accuracy_leaves_ties_out(self):
        right = np.array([[1, 1], [0, 1], [1, 0]], dtype=bool)
        counted = np.array([[1, 1], [1, 1], [1, 0]], dtype=bool)
        each, both = metrics.accuracy(right, counted=counted)
        assert each.tolist() == pytest.approx([2 / 3, 1.0])
        assert both == 0.5

    def test_accuracy_of_nothing_is_nan(self):
        each, both = metrics.accuracy(np.ones((2, 1)), counted=np.zeros((2, 1), dtype=bool))
        assert math.isnan(each[0])
        assert math.isnan(both)

    def test_auc_has_leading_axes_and_half_for_ties(self):
        values = metrics.auc([[1, 2, 3, 4], [4, 3, 2, 1], [1, 1, 1, 1]], [0, 0, 1, 1])
        assert values.tolist() == [1.0, 0.0, 0.5]

    def test_auc_of_one_class_is_nan(self):
        assert math.isnan(metrics.auc([0.1, 0.2], [1, 1]))


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

    def test_a_score_that_is_nan(self):
        with pytest.raises(ValueError, match="a score is NaN"):
            metrics.auc([np.nan, 1.0], [0, 1])
