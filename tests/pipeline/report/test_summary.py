"""The accuracy to believe, its interval, and the best baseline."""

import pytest

from pipeline.report import interval_of, score_rows
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
    assert (found.best, found.best_accuracy) == ("ridge (regression on the raw features)", 0.8)


def test_an_interval_over_seeds_is_students():
    low, high, over = interval_of(Spread(mean=0.6, std=0.1, per_seed=[0.5, 0.6, 0.7]))
    assert over == "seeds"
    assert (low, high) == pytest.approx((0.6 - 4.302653 * 0.1 / 3**0.5, 0.6 + 0.248414), abs=1e-5)


def read_run(**baselines: float) -> RunMetrics:
    """The metrics of a run of 60 %, with baselines."""
    own, *others = (
        {"mean": mean, "std": 0.0, "per_seed": [mean], "interval": [None, None], "properties": {}}
        for mean in (0.6, *baselines.values())
    )
    scores = {"accuracy_test": None, "accuracy_last_epoch": own, "accuracy_published_protocol": own}
    each = {
        name: entry | {"properties": {"mass": entry}}
        for name, entry in zip(baselines, others, strict=True)
    }
    stored = scores | {"properties": {"mass": scores}, "baselines": each}
    return RunMetrics.read(stored, properties=("mass",), seeds=1)


def test_the_true_labels_are_no_baseline_to_beat():
    found = headline(read_run(quantised_labels=1.0, ridge=0.7))
    assert found.best_accuracy == 0.7


def test_the_headline_goes_from_chance_to_what_the_code_could_carry():
    names = (
        "first_frame", "quantised_labels", "ridge", "quantised_ridge", "differences", "pixels",
        "majority",
    )  # fmt: skip
    _, rows = score_rows(read_run(**dict.fromkeys(names, 0.5)))
    agents = ["chosen on validation", "last epoch, nothing chosen"]
    assert [row[0] for row in rows] == [
        "chance",
        *(f"baseline: {name}" for name in ("majority", "pixels", "differences", "quantised ridge")),
        *agents,
        "published protocol (chosen on test)",
        *(f"baseline: {name}" for name in ("ridge", "quantised labels", "first frame")),
    ]
    _, older = score_rows(read_run(ridge=0.7))
    assert older[0] == ["chance", "50.0 %"]
