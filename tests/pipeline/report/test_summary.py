"""The accuracy to believe, its interval, and the best baseline."""

import pytest

from pipeline.report import interval_of
from pipeline.report.summary import headline
from pipeline.runs import RunMetrics, Spread


def test_the_best_baseline_is_named_even_where_it_wins():
    own, ridge, majority = (
        {"mean": mean, "std": 0.0, "per_seed": [mean]} for mean in (0.6, 0.8, 0.5)
    )
    unknown = {"interval": [None, None]}
    stored = {
        "accuracy_test": None,
        "accuracy_last_epoch": own,
        "accuracy_published_protocol": own,
        "properties": {},
        "baselines": {"majority": majority | unknown, "ridge": ridge | unknown, "volume": None},
    }
    found = headline(RunMetrics.read(stored, properties=(), seeds=1))
    assert (found.accuracy, found.chosen, found.chance) == (0.6, False, 0.5)
    assert (found.best, found.best_accuracy) == ("ridge regression on the raw features", 0.8)


def test_an_interval_over_seeds_is_students():
    low, high, over = interval_of(Spread(mean=0.6, std=0.1, per_seed=[0.5, 0.6, 0.7]))
    assert over == "seeds"
    assert (low, high) == pytest.approx((0.6 - 4.302653 * 0.1 / 3**0.5, 0.6 + 0.248414), abs=1e-5)
