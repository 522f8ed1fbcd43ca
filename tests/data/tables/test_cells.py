import math

import pytest

from data.tables.cells import UNKNOWN, NoNumbers, Numbers, read_numbers


@pytest.mark.parametrize(
    ("cells", "values", "unit"),
    [
        (["14", " 1.5 ", ".5", "1.", "-2e-3"], [14, 1.5, 0.5, 1, -0.002], ""),
        (["14,5", "10", "-0,25"], [14.5, 10, -0.25], ""),
        (["14,5", "1,200"], [14.5, 1.2], ""),
        (["1.200,5", "950,25"], [1200.5, 950.25], ""),
        (["1,200.5", "1,200"], [1200.5, 1200], ""),
        (["1,200", "950.5"], [1200, 950.5], ""),
        (["1,200,300", "1"], [1_200_300, 1], ""),
        (["1.200.300", "1"], [1_200_300, 1], ""),
        (["1 200", "1\u00a0200,5"], [1200, 1200.5], ""),
        (["\u22123", "+4"], [-3, 4], ""),
        (["1.200", "0.250"], [1.2, 0.25], ""),
        (["14 g", "14.5g", "NA"], [14, 14.5, math.nan], "g"),
        (["14,5 m/s", "3 m/s"], [14.5, 3], "m/s"),
        (["20 °C", "1e2 °C"], [20, 100], "°C"),
        ([14, 2.5, None, math.nan, "3"], [14, 2.5, math.nan, math.nan, 3], ""),
    ],
)
def test_numbers(cells, values, unit):
    found = read_numbers(cells)
    assert isinstance(found, Numbers), found
    assert found.values == pytest.approx(values, nan_ok=True, rel=1e-15)
    assert found.unit == unit


@pytest.mark.parametrize("cell", sorted(UNKNOWN | {" NA ", "NaN", "None", "N/A", "NULL"}))
def test_what_means_unknown(cell):
    found = read_numbers([cell, "1"])
    assert isinstance(found, Numbers)
    assert math.isnan(found.values[0])
    assert read_numbers([cell]) == NoNumbers("it is empty")


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (["01_02", "01_03"], "no numbers, e.g. '01_02'"),
        (["1_000"], "no numbers"),
        (["0x10", "1"], "not a number, e.g. '0x10'"),
        (["2024-01-02"], "no numbers"),
        (["12:30"], "no numbers"),
        (["1.2.3", "1.2.4"], "no numbers"),
        (["heavy", "1", "light"], "no numbers, e.g. 'heavy'"),
        (["1,200", "1,350"], "'1,200' could be 1.2 or 1200"),
        (["1,200", "950"], "'1,200' could be 1.2 or 1200"),
        (["14 g", "1.4 kg"], "its cells have several units: 'g' and 'kg'"),
        (["14 g", "14"], "its cells have several units: 'g' and none"),
        ([True, False], "no numbers, e.g. True"),
    ],
)
def test_what_is_no_column_of_numbers(cells, reason):
    found = read_numbers(cells)
    assert isinstance(found, NoNumbers)
    assert found.reason.startswith(reason)


@pytest.mark.parametrize(
    "cells", [["1", "2", "12;5"], ["1.5", "2.5", "14,5"], ["14,5", "15,5", "2.5"], ["1", "0x10"]]
)
def test_a_wrong_cell_among_numbers_is_a_fault(cells):
    found = read_numbers(cells)
    assert isinstance(found, NoNumbers)
    assert (found.is_fault, found.row) == (True, len(cells) - 1)


def test_a_decimal_comma_elsewhere_makes_points_unsure():
    assert read_numbers(["1.200", "2.400"], decimal_comma=True) == NoNumbers(
        "'1.200' could be 1200 or 1.2", 0
    )
    found = read_numbers(["1.25", "2.4"], decimal_comma=True)
    assert isinstance(found, Numbers)
    assert found.values == [1.25, 2.4]
