"""Records of metrics: found by their files, complete, and the same however they are called."""

import dataclasses
import doctest
import importlib

import numpy as np
import pytest

from pipeline import metrics
from pipeline.metrics import METRICS, Metric, assess
from pipeline.metrics.metric import discover_metrics, record_of
from tests.helpers.codes import (
    GRID,
    OBJECTS,
    PLANTED,
    STRUCTURAL,
    arbitrary_code,
    noisy_grid,
    random_code,
)

NEW = """
import numpy as np

from pipeline.metrics import Metric

def first_symbol(tokens, attributes):
    return float(np.mean(tokens[:, 0] == attributes[:, 0]))

FIRST = Metric(
    name="first_symbol", title="First symbol", function=first_symbol,
    definition="the share of clips", chance="1 / bins", source="this test",
)
"""


class TestDiscovery:
    def test_the_structural_metrics_are_found_in_their_order(self):
        assert tuple(name for name, own in METRICS.items() if own.structural) == STRUCTURAL

    def test_a_new_file_adds_a_metric(self, tmp_path, monkeypatch):
        (tmp_path / "dropped.py").write_text(NEW)
        monkeypatch.setattr(metrics, "__path__", [*metrics.__path__, str(tmp_path)])
        found = discover_metrics()
        assert set(found) == {*METRICS, "first_symbol"}
        tokens, attributes = random_code(0)
        values = found["first_symbol"](tokens, attributes)
        assert values.tolist() == [(seed[:, 0] == attributes[:, 0]).mean() for seed in tokens]

    def test_a_name_for_two_metrics_is_refused(self, tmp_path, monkeypatch):
        (tmp_path / "twice.py").write_text(NEW.replace("first_symbol", "topsim"))
        monkeypatch.setattr(metrics, "__path__", [*metrics.__path__, str(tmp_path)])
        with pytest.raises(ValueError, match="another file has a Metric called 'topsim'"):
            discover_metrics()

    def test_a_function_is_known_by_its_record(self):
        assert record_of(metrics.topsim) is METRICS["topsim"]
        assert record_of(METRICS["topsim"]) is METRICS["topsim"]
        assert record_of(lambda tokens, attributes: 0.0) is None


class TestRecords:
    @pytest.mark.parametrize("metric", METRICS.values(), ids=str)
    def test_readers_are_told_what_they_need(self, metric):
        for name in ("title", "definition", "chance", "source", "undefined"):
            assert getattr(metric, name), name
        assert metric.range[0] < metric.range[1]

    @pytest.mark.parametrize("metric", METRICS.values(), ids=str)
    def test_values_are_in_the_range(self, metric):
        for seed in range(5):
            values = metric(*random_code(seed, clips=12, bins=3))
            assert np.all(metric.range[0] <= values)
            assert np.all(values <= metric.range[1])

    @pytest.mark.parametrize("name", STRUCTURAL)
    def test_too_few_properties_are_nan(self, name):
        metric = METRICS[name]
        tokens, attributes = random_code(0)
        enough = metric(tokens, attributes[:, : metric.properties])
        assert not np.isnan(enough).any()
        if metric.properties > 1:
            assert np.isnan(metric(tokens, attributes[:, : metric.properties - 1])).all()


class TestOneByOne:
    def test_a_metric_without_axes_gives_the_same(self):
        plain = dataclasses.replace(METRICS["topsim"], vectorised=False)
        tokens, attributes = random_code(7)
        draws = np.stack([attributes, attributes[::-1]])[:, None]
        np.testing.assert_allclose(
            plain(tokens, draws), METRICS["topsim"](tokens, draws), atol=1e-13
        )
        assert isinstance(plain(tokens[0], attributes[:, 0]), float)

    def test_its_nulls_and_draws_are_the_same(self):
        metric = METRICS["posdis_chaabouni2020"]
        plain = Metric(**vars(metric) | {"vectorised": False})
        tokens, attributes = random_code(8)
        for draw in (metrics.permutation_null, metrics.significance.bootstrap):
            np.testing.assert_allclose(
                draw(plain, tokens, attributes, n=5),
                draw(metric, tokens, attributes, n=5),
                atol=1e-13,
            )


class TestInvariance:
    @pytest.mark.parametrize("name", list(METRICS))
    def test_one_seed_alone_equals_the_same_seed_among_many(self, name):
        tokens, attributes = random_code(3, seeds=7)
        together = METRICS[name](tokens, attributes)
        for seed, one in enumerate(tokens):
            np.testing.assert_allclose(METRICS[name](one, attributes), together[seed], atol=1e-13)

    @pytest.mark.parametrize("name", list(METRICS))
    def test_the_order_of_clips_does_not_matter(self, name):
        tokens, attributes = random_code(4)
        order = np.random.default_rng(0).permutation(60)
        np.testing.assert_allclose(
            METRICS[name](tokens[:, order], attributes[order]),
            METRICS[name](tokens, attributes),
            atol=1e-13,
        )

    @pytest.mark.parametrize(
        "name", [name for name, own in METRICS.items() if not own.per_position]
    )
    def test_the_names_of_symbols_do_not_matter(self, name):
        tokens, attributes = random_code(5)
        renamed = np.array([4, 2, 0, 1, 3])[tokens]
        np.testing.assert_allclose(
            METRICS[name](renamed, attributes),
            METRICS[name](tokens, attributes),
            atol=1e-13,
        )

    @pytest.mark.parametrize("name", sorted(set(METRICS) - {"topsim"}))
    def test_a_weight_of_two_is_the_clip_twice(self, name):
        tokens, attributes = random_code(6)
        weights = np.random.default_rng(1).integers(0, 3, 60)
        rows = np.repeat(np.arange(60), weights)
        np.testing.assert_allclose(
            METRICS[name](tokens, attributes, weights=weights),
            METRICS[name](tokens[:, rows], attributes[rows]),
            atol=1e-13,
        )

    @pytest.mark.parametrize("name", list(METRICS))
    def test_leading_axes_broadcast(self, name):
        tokens, attributes = random_code(7)
        draws = np.stack([attributes, attributes[::-1]])
        values = METRICS[name](tokens, draws[:, None])
        for draw, some in enumerate(draws):
            np.testing.assert_allclose(values[draw], METRICS[name](tokens, some), atol=1e-13)


FIELD_METRICS = {
    "concept_best_matching": ("concept_best_matching", (1.0, 1.0, 0.5, 0.625, 0.25)),
    "context_independence": ("context_independence", (1.0, 1.0, 1.0, 0.625, 0.25)),
    "residual_entropy": ("residual_entropy", (0.0, 0.0, 0.0, 0.5, 1.0)),
    "tree_reconstruction_error": ("tree_reconstruction", (0.0, 0.0, 0.0, 0.0, 1.0)),
}
"""The module of each metric of the field, and its values of `KNOWN_CODES`."""
KNOWN_CODES = (
    "positions", "positions exchanged", "each property twice", "one property", "nothing",
)  # fmt: skip


@pytest.mark.parametrize("name", FIELD_METRICS)
class TestMetricsOfTheField:
    def test_doctests(self, name):
        module, _ = FIELD_METRICS[name]
        result = doctest.testmod(importlib.import_module(f"pipeline.metrics.{module}"))
        assert result.attempted > 0
        assert result.failed == 0

    @pytest.mark.parametrize("number", range(len(KNOWN_CODES)), ids=KNOWN_CODES)
    def test_planted_codes_have_known_values(self, name, number):
        _, values = FIELD_METRICS[name]
        found = METRICS[name](PLANTED[KNOWN_CODES[number]], GRID)
        assert found == pytest.approx(values[number], abs=1e-12)

    def test_a_noisy_code_beats_chance_and_noise_does_not(self, name):
        noisy, noise = noisy_grid()
        assert assess(METRICS[name], noisy, GRID, groups=OBJECTS, n=99).p_value == 0.01
        assert assess(METRICS[name], noise, GRID, groups=OBJECTS, n=99).p_value > 0.05

    def test_parts_are_better_than_an_arbitrary_code(self, name):
        metric = METRICS[name]
        assert metric.sign * (metric(GRID, GRID) - metric(arbitrary_code(), GRID)) > 0.2
