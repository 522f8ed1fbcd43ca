"""Nulls and bootstrap: what they are, and whether they can be believed."""

import doctest
import importlib
import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from pipeline import metrics
from pipeline.metrics import METRICS, Metric, draw_objects, number_objects, significance
from tests.helpers.codes import GRID, OBJECTS, STRUCTURAL, arbitrary_code, code_by_object

ONE_NUMBER = [name for name, metric in METRICS.items() if not metric.per_position]


def test_doctests():
    result = doctest.testmod(importlib.import_module("pipeline.metrics.significance"))
    assert result.attempted > 0
    assert result.failed == 0


class TestPermutationNull:
    def test_shapes(self):
        tokens = np.stack([GRID, GRID[:, ::-1]])
        assert metrics.permutation_null(metrics.topsim, GRID, GRID, n=7).shape == (7,)
        assert metrics.permutation_null(metrics.topsim, tokens, GRID, n=7).shape == (7, 2)
        matrix = metrics.permutation_null(metrics.mutual_information, tokens, GRID, n=7)
        assert matrix.shape == (7, 2, 2, 2)

    def test_repeats_with_the_seed(self):
        one, same, other = (
            metrics.permutation_null(metrics.posdis_wmcp, GRID, GRID, n=9, seed=seed)
            for seed in (1, 1, 2)
        )
        assert (one == same).all()
        assert (one != other).any()

    @pytest.mark.parametrize("name", list(METRICS))
    @pytest.mark.parametrize("groups", [None, OBJECTS])
    def test_batches_equal_one_draw_at_a_time(self, name, groups):
        metric = METRICS[name]
        tokens = np.random.default_rng(0).integers(0, 5, (3, 48, 3))
        batched = metrics.permutation_null(metric, tokens, GRID, n=11, groups=groups)
        single = metrics.permutation_null(
            lambda tokens, attributes: metric(tokens, attributes), tokens, GRID, n=11, groups=groups
        )
        np.testing.assert_allclose(batched, single, atol=1e-13)

    def test_large_inputs_run_in_several_batches(self):
        rng = np.random.default_rng(0)
        tokens, attributes = rng.integers(0, 3, (2_000, 1)), rng.integers(0, 3, (2_000, 2))
        null = metrics.permutation_null(metrics.posdis_chaabouni2020, tokens, attributes, n=10)
        assert null.shape == (10,)
        assert len(set(null)) == 10

    def test_of_a_perfect_code_is_far_below_it(self):
        null = metrics.permutation_null(metrics.posdis_chaabouni2020, GRID, GRID, n=200)
        assert null.max() < 0.5
        assert significance.p_value(1.0, null) == pytest.approx(1 / 201)

    def test_only_whole_objects_give_honest_p_values(self):
        """Messages know the object and nothing of its properties: 5 % may reach p <= 0.05."""
        rng = np.random.default_rng(3)
        found = {"clips": 0, "objects": 0}
        for _ in range(60):
            tokens, attributes, group = code_by_object(rng)
            observed = metrics.mutual_information(tokens, attributes)[0, 0]
            for name, groups in (("clips", None), ("objects", group)):
                null = metrics.permutation_null(
                    metrics.mutual_information, tokens, attributes, n=99, groups=groups
                )
                found[name] += significance.p_value(observed, null[:, 0, 0]) <= 0.05
        assert found["clips"] > 50
        assert found["objects"] <= 8


class TestCodebookNull:
    @pytest.mark.parametrize("name", STRUCTURAL)
    def test_shapes_and_seeds(self, name):
        tokens = np.stack([GRID, GRID[:, ::-1]])
        null = significance.codebook_null(METRICS[name], tokens, GRID, n=6)
        assert null.shape == (6, 2)
        assert (null[:, 0] != null[:, 1]).any()

    def test_topsim_by_words_equals_topsim_by_clips(self):
        rng = np.random.default_rng(0)
        tokens, attributes = rng.integers(0, 3, (2, 50, 3)), rng.integers(0, 4, (50, 2))
        by_words = significance.codebook_null(metrics.topsim, tokens, attributes, n=20)
        by_clips = significance.codebook_null(
            lambda tokens, attributes: metrics.topsim(tokens, attributes), tokens, attributes, n=20
        )
        np.testing.assert_allclose(by_words, by_clips, atol=1e-13)

    def test_keeps_what_the_whole_message_says(self):
        def whole(tokens, attributes):
            ids = metrics.message_ids(tokens)
            return metrics.mutual_information(ids[..., None], attributes)[..., 0, 0]

        null = significance.codebook_null(whole, GRID, GRID, n=5)
        np.testing.assert_allclose(null, whole(GRID, GRID))

    @pytest.mark.parametrize("name", ["posdis_wmcp", "posdis_chaabouni2020", "topsim"])
    def test_tells_a_compositional_code_from_an_arbitrary_one(self, name):
        metric = METRICS[name]
        arbitrary = arbitrary_code()
        for tokens, beaten in ((GRID, True), (arbitrary, False)):
            null = significance.codebook_null(metric, tokens, GRID, n=99)
            assert (significance.p_value(metric(tokens, GRID), null) <= 0.05) == beaten


class TestPValue:
    def test_counts_the_observed_one(self):
        assert significance.p_value(2.0, np.zeros(99)) == 0.01
        assert significance.p_value(0.0, np.zeros(99)) == 1.0

    def test_rounding_makes_no_difference(self):
        assert significance.p_value(0.1 + 0.2, [0.3, 0.0, 0.0]) == 0.5

    def test_of_several_seeds(self):
        p = significance.p_value([0.5, np.nan], np.zeros((9, 2)))
        assert p[0] == 0.1
        assert np.isnan(p[1])


class TestBootstrap:
    def test_an_object_is_drawn_with_all_its_clips(self):
        objects = number_objects(list("aabbbc"), 6)
        draws = draw_objects(objects, n=40)
        assert (draws.sum(1) == 3).all()
        counts = significance.bootstrap(
            lambda tokens, attributes: len(tokens), np.zeros((6, 1), int), np.arange(6),
            groups=list("aabbbc"), n=40,
        )  # fmt: skip
        assert (counts == draws @ [2, 3, 1]).all()

    @pytest.mark.parametrize("name", sorted(set(METRICS) - {"topsim"}))
    def test_batches_equal_one_draw_at_a_time(self, name):
        metric = METRICS[name]
        tokens = np.random.default_rng(0).integers(0, 5, (3, 48, 3))
        batched = significance.bootstrap(metric, tokens, GRID, groups=OBJECTS, n=9)
        single = significance.bootstrap(
            lambda tokens, attributes: metric(tokens, attributes),
            tokens, GRID, groups=OBJECTS, n=9,
        )  # fmt: skip
        np.testing.assert_allclose(batched, single, atol=1e-13)

    def test_topsim_pairs_no_clip_with_its_copy(self):
        rng = np.random.default_rng(0)
        tokens, attributes = rng.integers(0, 3, (2, 24, 3)), rng.integers(0, 4, (24, 2))
        objects = np.repeat(np.arange(8), 3)
        draws = significance.bootstrap(metrics.topsim, tokens, attributes, groups=objects, n=12)
        copies = draw_objects(objects, n=12)
        for drawn, often in zip(draws, copies, strict=True):
            names = [(name, copy) for name, times in enumerate(often) for copy in range(times)]
            rows = [(clip, one) for one in names for clip in np.flatnonzero(objects == one[0])]
            pairs = [
                (a, b)
                for place, (a, one) in enumerate(rows)
                for b, other in rows[place + 1 :]
                if one == other or one[0] != other[0]
            ]
            first, second = np.array(pairs).T
            likeness = np.abs(attributes[first] - attributes[second]).sum(1)
            for seed in range(2):
                far = (tokens[seed][first] != tokens[seed][second]).sum(1)
                assert drawn[seed] == pytest.approx(spearmanr(likeness, far).statistic, abs=1e-12)

    def test_the_interval_holds_the_truth_where_percentiles_do_not(self):
        """Messages without any information: the truth is 0, the plug-in estimate is not."""
        rng = np.random.default_rng(5)
        pivotal = percentile = 0
        for seed in range(25):
            tokens, attributes, group = code_by_object(rng, objects=40, clips_each=3)
            metric = metrics.posdis_chaabouni2020
            draws = significance.bootstrap(
                metric, tokens, attributes, groups=group, n=200, seed=seed
            )
            low, high = significance.interval(metric(tokens, attributes), draws)
            pivotal += low <= 0 <= high
            percentile += np.quantile(draws, 0.025) <= 0
        assert pivotal >= 22
        assert percentile == 0

    def test_the_interval_stays_within_what_is_possible(self):
        low, high = significance.interval(0.1, [0.1, 0.5, 0.9], within=(0.0, 1.0))
        assert low == 0.0
        assert 0.0 < high < 0.2

    def test_the_interval_reaches_from_a_biased_value_to_where_it_should_be(self):
        assert significance.interval(0.4, [0.2, 0.25, 0.3], within=(0.0, 1.0)) == (
            0.4,
            pytest.approx(0.6, abs=0.01),
        )
        low, high = significance.interval(np.array([0.4, 0.4]), [[0.7, 0.3], [0.8, 0.5]])
        assert low[0] < high[0] == 0.4
        assert low[1] < 0.4 < high[1]

    def test_an_undefined_metric_has_no_interval(self):
        draws = significance.bootstrap(metrics.posdis_wmcp, GRID, GRID[:, 0], n=5)
        assert np.isnan(significance.interval(np.nan, draws)).all()

    def test_fewer_objects_make_a_wider_interval(self):
        rng = np.random.default_rng(0)
        tokens, attributes, group = code_by_object(rng, objects=40, clips_each=5, strength=0.7)
        value = metrics.topsim(tokens, attributes)
        widths = []
        for groups in (group, None):
            draws = significance.bootstrap(metrics.topsim, tokens, attributes, groups=groups)
            widths += np.diff(significance.interval(value, draws)).tolist()
        assert widths[0] > 1.5 * widths[1]


class TestAssess:
    def test_a_compositional_code(self):
        found = significance.assess(
            METRICS["topsim"], np.stack([GRID] * 3), GRID, groups=OBJECTS, n=99
        )
        assert found.p_value == pytest.approx(0.01)
        assert found.p_codebook == pytest.approx(1 / 201)
        assert found.null_low < found.null_mean < found.null_high < found.mean
        assert found.std == pytest.approx(0.0, abs=1e-12)
        assert found.per_seed.shape == (3,)

    @pytest.mark.parametrize(("better", "p"), [("larger", 1.0), ("smaller", 0.01)])
    def test_chance_is_asked_for_what_speaks_for_the_code(self, better, p):
        errors = Metric(
            name="errors", title="Errors", definition="the share of wrong first symbols",
            function=lambda tokens, attributes: float(np.mean(tokens[:, 0] != attributes[:, 0])),
            chance="3/4", source="this test", better=better,
        )  # fmt: skip
        found = significance.assess(errors, np.stack([GRID] * 2), GRID, groups=OBJECTS, n=99)
        assert found.mean == 0.0
        assert found.null_mean > 0.5
        assert found.p_value == pytest.approx(p)
        assert found.p_per_seed == pytest.approx([p, p])

    def test_random_messages_are_no_better_than_chance(self):
        rng = np.random.default_rng(1)
        tokens = rng.integers(0, 4, (5, 48, 2))
        for name in STRUCTURAL:
            found = significance.assess(METRICS[name], tokens, GRID, groups=OBJECTS, n=199)
            assert found.p_value > 0.05 / len(STRUCTURAL), name
        assert significance.assess(METRICS["posdis_wmcp"], tokens, GRID, n=99).mean > 0.25

    def test_an_arbitrary_code_informs_without_structure(self):
        arbitrary = arbitrary_code()
        whole = metrics.message_ids(arbitrary)[:, None]
        assert metrics.mutual_information(whole, GRID) == pytest.approx(np.log(4))
        for name in ("posdis_wmcp", "posdis_chaabouni2020", "topsim"):
            assert significance.assess(METRICS[name], arbitrary, GRID, n=199).p_codebook > 0.05

    def test_one_attribute_is_undefined_and_nan(self):
        found = significance.assess(METRICS["posdis_wmcp"], GRID, GRID[:, 0], n=9, n_codebook=9)
        values = found.to_json()
        assert np.isnan([values["mean"], *values["per_seed"], values["p_value"]]).all()

    @pytest.mark.parametrize("name", ONE_NUMBER)
    def test_everything_is_json(self, name):
        tokens = np.stack([GRID, GRID[:, ::-1]])
        found = significance.assess(METRICS[name], tokens, GRID, groups=OBJECTS, n=20, n_codebook=5)
        plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
        assert plain["interval"] is not None
        assert np.shape(plain["per_seed"]) == found.per_seed.shape
        assert np.all(np.asarray(found.low) <= np.asarray(found.high))

    def test_each_seed_counts_on_clips_of_its_own(self):
        rng = np.random.default_rng(0)
        tokens = np.stack([GRID, rng.integers(0, 4, GRID.shape)])
        first, second = np.arange(24), np.arange(20, 48)
        changed = tokens.copy()
        changed[0, 24:], changed[1, :20] = 0, 0  # clips that do not count
        for name in ONE_NUMBER:
            one, other = (
                significance.assess(
                    METRICS[name], some, GRID, groups=OBJECTS, clips=[first, second], n=19
                )
                for some in (tokens, changed)
            )
            assert one.to_json() == other.to_json()
            alone = float(METRICS[name](tokens[1, second], GRID[second]))
            assert one.per_seed[1] == pytest.approx(alone)

    def test_a_draw_does_the_same_to_seeds_of_the_same_clips(self):
        tokens = np.stack([GRID, GRID])
        clips = [np.arange(10, 48)] * 2
        _, null = significance.permuted_values(
            METRICS["topsim"], tokens, GRID, clips=clips, groups=OBJECTS, n=20
        )
        assert (null[:, 0] == null[:, 1]).all()

    def test_a_table_of_positions_is_refused(self):
        with pytest.raises(ValueError, match="mutual_information is a table of positions"):
            significance.assess(METRICS["mutual_information"], GRID, GRID)
