"""Axes: ticks, logarithms, and axes without a range."""

import pytest

from pipeline.report.charts import Axis


@pytest.mark.parametrize(("low", "high"), [(0.03, 0.97), (7.7, 269.9), (-3.0, 12.0), (1e-4, 2e-4)])
@pytest.mark.parametrize("number", [3, 5])
def test_ticks_are_round_and_where_they_say(low, high, number):
    axis = Axis(low, high)
    ticks = axis.ticks(number)
    assert 2 <= len(ticks) <= 2 * number
    for place, text in ticks:
        assert place == pytest.approx(100 * (float(text) - low) / (high - low), abs=0.02)


def test_an_axis_of_a_wide_range_is_logarithmic():
    axis = Axis.of([1.0, 10.0, 100.0])
    assert axis.log
    assert axis.at(10.0) == pytest.approx(50.0)
    assert not Axis.of([1.0, 10.0]).log
    assert Axis.of([5.0, 5.0]).at(5.0) == pytest.approx(50.0)
