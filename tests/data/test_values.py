import math

import pytest

from data.values import suspicious_values

MASSES = [float(mass) for mass in range(10, 50, 2)]


@pytest.mark.parametrize("sentinel", [-1, -9, -99, -999, -9999, 99, 999, 9999, 2147483647])
def test_a_sentinel_is_named_with_its_count_and_the_way_out(sentinel):
    (found,) = suspicious_values([*MASSES, sentinel, math.nan, sentinel])
    assert (found.kind, found.value, found.count) == ("sentinel", sentinel, 2)
    assert found.sentence("mass") == (
        f"mass is {sentinel:g} in 2 clips and 10 to 48 in the other 20: if that means unknown, "
        "leave the cell empty"
    )


@pytest.mark.parametrize(
    "values",
    [
        [],
        [math.nan] * 3,
        [-1],
        [5, -1],
        MASSES,
        [-1, 1] * 5,  # two levels
        [-1, 0, 1] * 5,
        [-1, 0, 1, 2, 3] * 2,  # a scale
        [-2.5, -1, 0.5, 1.25, 3],  # velocities
        [*MASSES, 99, 120, 140],
        range(900, 1010, 9),  # 999 is one of them
        [1, 3, 10, 30, 100, 300, 1000, 3000, 10_000],  # wide, without a gap
        [0.5, 0.6, 30, 31],  # two groups, 50 times apart
        [-0.002, -0.001, 0.0003, 0.003, 0.8, 0.9],  # it changes its sign
    ],
)
def test_what_may_well_have_been_measured(values):
    assert suspicious_values(values) == []


@pytest.mark.parametrize(
    "values", [[-1, 0.5, 0.75, 1.5], [-1, *(step / 20 for step in range(21))], [10, 20, -999]]
)
def test_a_sentinel_next_to_few_or_small_values(values):
    assert [found.kind for found in suspicious_values(values)] == ["sentinel"]


def test_two_sentinels_at_once():
    found = suspicious_values([*MASSES, -1, -999, -999])
    assert [(one.value, one.count) for one in found] == [(-999, 2), (-1, 1)]
    assert all((one.rest_low, one.rest_high) == (10, 48) for one in found)


def test_two_units_are_named_with_both_ranges():
    grams, kilograms = MASSES[:12], [mass / 1000 for mass in MASSES[12:]]
    (found,) = suspicious_values([*grams, *kilograms, math.nan])
    assert (found.kind, found.count, found.value) == ("mixed units", 8, 0.034)
    assert found.sentence("mass") == (
        "mass is 0.034 to 0.048 in 8 clips and 10 to 32 in the other 12, about 1,000 times less: "
        "if these are two units, write all values in one (an empty cell means unknown)"
    )
    (one,) = suspicious_values([*MASSES, 14_000])
    assert "mass is 14000 in 1 clip and 10 to 48 in the other 20, about 1,000 times more" in (
        one.sentence("mass")
    )


def test_a_sentinel_does_not_hide_two_units():
    found = suspicious_values([*MASSES, 0.01, 0.02, -999])
    assert [one.kind for one in found] == ["sentinel", "mixed units"]
    assert all(one.rest_low > 0 for one in found[1:])
