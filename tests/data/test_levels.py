"""Levels of a label: values that are equal but for rounding are one."""

import numpy as np
import pytest

from data.levels import TOLERANCE, differs, levels, merged_values, snapped

GRID = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
SINGLE = GRID.astype(np.float32).astype(np.float64)


def test_float32_and_float64_of_one_decimal_are_one_level():
    assert levels(np.concatenate([GRID, SINGLE])).tolist() == [0, 1, 2, 3, 4] * 2
    both = snapped(np.concatenate([SINGLE, GRID]))
    assert both[:5].tolist() == both[5:].tolist()
    assert merged_values(np.concatenate([GRID, SINGLE])) == 4  # 0.5 is the same in both


def test_ratios_that_differ_in_the_last_bit_are_one_level():
    mass = np.arange(3, 300) / 7
    density = mass / (mass * 1.3)
    assert len(set(density)) > 1
    assert len(set(levels(density))) == 1


def test_a_chain_of_near_values_is_cut_where_it_is_wider_than_the_tolerance():
    chain = 1 + np.arange(10) * 0.4e-6
    assert levels(chain).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    wide = np.random.default_rng(0).permutation(np.linspace(1, 2, 50_001))
    assert len(set(levels(wide))) == 50_001


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e-3, 1.0, 1e7, 1e300])
def test_levels_do_not_depend_on_the_unit(scale):
    values = np.array([-3.0, -3.0 * (1 + 1e-7), 0.0, 1.0, 1.0 + 1e-7, 2.0]) * scale
    assert levels(values).tolist() == [0, 0, 1, 2, 2, 3]


def test_what_rounding_leaves_of_a_zero_is_zero():
    assert levels([0.0, 0.3 - 0.1 - 0.2, -0.0, 1.0, -1.0]).tolist() == [1, 1, 1, 2, 0]
    assert levels([1e-6, 2e-6, 1e6]).tolist() == [0, 1, 2]  # twelve decades are no rounding
    assert levels([*range(100), 9.97e36]).max() == 100  # one fill value makes no zeros


def test_unknown_and_infinite_values_have_levels_of_their_own():
    values = [np.nan, 2.0, np.inf, -np.inf, 2.0 + 1e-9, np.nan]
    assert levels(values).tolist() == [-1, 1, 2, 0, 1, -1]
    np.testing.assert_array_equal(snapped(values), [np.nan, 2, np.inf, -np.inf, 2, np.nan])
    assert levels([]).tolist() == []
    assert levels([np.nan]).tolist() == [-1]
    assert levels([1.7e308, -1.7e308, 0.0]).tolist() == [2, 0, 1]


def test_values_that_are_not_near_another_stay_to_the_bit():
    values = np.array([[-0.0, 0.0, 1.0], [3.0, -2.5, np.nan]])
    assert snapped(values).tobytes() == values.tobytes()
    assert snapped(snapped(np.concatenate([GRID, SINGLE]))).tobytes() == (
        snapped(np.concatenate([GRID, SINGLE])).tobytes()
    )


def test_a_difference_of_the_margin_is_none_however_it_is_rounded():
    assert 1.1 - 0.6 > 0.5 >= 0.8 - 0.3
    assert not differs([1.1, 0.8], [0.6, 0.3], 0.5).any()
    grams = np.array([270.5, 270.1], dtype=np.float32).astype(float)
    assert not differs(grams, np.array([270.0, 269.6]), 0.5).any()
    assert differs([270.51], [270.0], 0.5).all()
    assert differs([1.0], [1.0 + TOLERANCE / 10]).all()  # without a margin: as they are
    assert not differs([np.nan, 1.0], [1.0, np.nan], 0.5).any()
