import doctest

import pytest

from data.tables import identity, names
from data.tables.names import is_row_number, role_of, split_unit, time_without_seconds


@pytest.mark.parametrize(
    ("written", "role"),
    [
        *((name, "object") for name in ("object", "Object", " object", "OBJ", "object_id")),
        *((name, "object") for name in ("Object ID", "objectName", "OBJECT", "object-id")),
        *((name, "path") for name in ("path", "Path", "file", "filename", "File Name", "video")),
        *((name, "start") for name in ("Start", "start_s", "t_start", "start [s]", "begin")),
        *((name, "end") for name in ("End", "end_s", "t_end", "stop", "End (s)")),
        *((name, "id") for name in ("ID", "clip_id", "clip")),
        ("Scenario", "scenario"),
        *((name, None) for name in ("mass", "subject", "objective", "endpoint", "index", "name")),
    ],
)
def test_roles_by_near_names(written, role):
    assert role_of(written) == role


@pytest.mark.parametrize(
    ("written", "name", "unit"),
    [
        ("mass [g]", "mass", "g"),
        ("mass (g)", "mass", "g"),
        ("Mass(kg) ", "Mass", "kg"),
        ("speed (m/s)", "speed", "m/s"),
        ("slip (µm)", "slip", "µm"),
        ("effort [points]", "effort", "points"),
        ("gap (left)", "gap (left)", ""),
        ("mass", "mass", ""),
        ("[g]", "[g]", ""),
    ],
)
def test_units_in_names(written, name, unit):
    assert split_unit(written) == (name, unit)


def test_times_in_other_units_are_known():
    assert time_without_seconds("start_ms") == "start"
    assert time_without_seconds("end frame") == "end"
    assert time_without_seconds("Start [ms]") == "start"
    assert time_without_seconds("start [s]") is None
    assert time_without_seconds("mass [g]") is None


def test_row_numbers():
    assert is_row_number("Unnamed: 0", ["0", "1", "2"])
    assert is_row_number("", ["1", "2", "3"])
    assert is_row_number("index", [0, 1, 2])
    assert not is_row_number("index", ["2", "0", "1"])
    assert not is_row_number("level", ["0", "1", "2"])


@pytest.mark.parametrize("module", [names, identity])
def test_the_examples(module):
    assert doctest.testmod(module).failed == 0
