"""Intervals of accuracies and of differences hold about as often as they say."""

import numpy as np
import pytest

from benchmarks.coverage import CASES, NOISES, Case, coverage, sample


def test_few_objects_of_which_all_are_right_leave_doubt():
    first, second = sample(Case(5, 5, 3, 2, alike=True), (0.0, 0.0, 0.0), 0)
    assert first.mean == pytest.approx([1.0])
    low, high = first.interval()[0]
    assert 0.6 < low < 0.9
    assert high == 1
    assert (first - second).interval()[0].tolist() == [0, 0]


def test_what_objects_share_does_not_vanish_with_more_seeds():
    noise = NOISES["usual"]
    widths = []
    for seeds in (2, 30):
        runs = [sample(Case(8, 8, seeds, 2, alike=True), noise, number)[0] for number in range(8)]
        widths.append(np.mean([np.ptp(run.interval()[0]) for run in runs]))
    assert widths[1] > 0.6 * widths[0]


@pytest.mark.slow
@pytest.mark.parametrize("case", [CASES[0], CASES[2], CASES[5]], ids=str)
def test_intervals_hold(case):
    held, apart, ratio = coverage(case, NOISES["usual"], 100)
    assert held >= 0.9  # 65 to 90 of 100 before, when objects and seeds were drawn again
    assert apart >= 0.88
    assert ratio >= 0.88
