"""The clock of a stream: where it goes back, and times that never do."""

import numpy as np
import pytest

from data.video.pyav.clock import LEAP, duration, find_joints, steady


def joints(
    pts: list[int], entry: list[int], *, reordered: bool = False, leaps: bool = False
) -> list[int]:
    shown = np.ones(len(pts), np.bool_)
    found = find_joints(
        np.array(pts), shown, np.array(entry, np.int8), reordered=reordered, leaps=leaps
    )
    return found.tolist()


@pytest.mark.parametrize(
    ("pts", "entry", "expected"),
    [
        ([0, 1, 2, 3], [2, 0, 2, 0], []),
        ([0, 3, 1, 2, 6, 4, 5], [2, 0, 0, 0, 1, 0, 0], []),  # the second group is open
        ([9, 10, 0, 1], [2, 0, 2, 0], [2]),
        ([9, 10, 0, 1, 2, 3, 0, 1], [2, 0, 2, 0, 2, 0, 2, 0], [2, 6]),
        ([5, 6, 6, 7], [2, 0, 2, 0], []),  # a time that is there twice is no clock that goes back
        ([0, LEAP + 2, LEAP + 3], [2, 2, 0], []),
    ],
)
def test_groups_that_overlap_are_joints(pts, entry, expected):
    assert joints(pts, entry) == expected


def test_without_entries_each_packet_is_a_group_unless_some_are_reordered():
    assert joints([0, 1, 2, 0, 1], [0, 0, 0, 0, 0]) == [3]
    assert joints([0, 2, 1, 3], [0, 0, 0, 0], reordered=True) == []


def test_a_leap_of_hours_is_a_joint_of_a_clock_of_33_bits():
    assert joints([0, LEAP + 1, LEAP + 2], [2, 2, 0], leaps=True) == [1]
    assert joints([0, LEAP, LEAP + 2], [2, 2, 0], leaps=True) == []


def test_frames_that_are_not_shown_have_no_time():
    shown = np.array([True, True, False, True])
    entry = np.array([2, 0, 2, 2], np.int8)
    assert not len(find_joints(np.array([5, 6, 0, 7]), shown, entry, reordered=False, leaps=False))


def test_the_parts_add_up():
    assert duration(np.array([100, 101, 103, 0, 4]), np.array([3])) == 7
    assert duration(np.array([100, 101]), np.zeros(0, np.int64)) == 1


def test_times_go_on_by_the_usual_step():
    ticks, parts = steady(np.array([*range(100, 148, 4), *range(0, 40, 4)]), leaps=False)
    assert ticks.tolist() == list(range(0, 88, 4))
    assert parts == [12]
    gap = np.array([*range(10), *range(50, 60)])
    assert steady(gap, leaps=False)[0].tolist() == gap.tolist()


def test_times_that_go_back_all_the_time_are_no_use():
    assert steady(np.array([0, 2, 1, 3, 5, 4] * 4), leaps=False) is None
    assert steady(np.array([4, 4, 4]), leaps=False) is None
    assert steady(np.array([4]), leaps=False)[0].tolist() == [0]
