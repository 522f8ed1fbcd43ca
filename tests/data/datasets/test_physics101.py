import doctest
import math
import os
import shutil
from pathlib import Path

import pytest

from data.datasets import physics101
from data.datasets.dataset import DatasetError, count_unknown
from data.datasets.physics101 import conditions, index
from data.errors import HeliographError, InvalidValueError
from tests.helpers.trees import make_physics101_tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_physics101_tree(tmp_path)


def test_objects_then_paths_in_order(tree):
    assert [clip.id for clip in index(tree)] == [
        "scenarios/spring/cardboard_01/01/Camera_1.mp4",
        "scenarios/spring/foam_07/01/Camera_1.mp4",
        "scenarios/spring/foam_07/02/Camera_1.mp4",
        "scenarios/spring/unweighed/01/Camera_1.mp4",
    ]
    # By the parts of the path, as a sort of Path objects has it: "foam" before "foam-2".
    assert [clip.id.split("/")[3] for clip in index(tree, scenario="fall")] == [
        "foam",
        "foam-2",
        "table",
    ]


def test_labels_and_what_is_unknown(tree):
    cardboard, foam, _, unweighed = index(tree)
    assert cardboard.object == "cardboard_01"
    assert dict(cardboard.labels) == {"mass": 14.0, "volume": 28.0, "density": 0.5}
    assert foam.labels["mass"] == 51.3
    assert math.isnan(foam.labels["volume"])
    assert math.isnan(foam.labels["density"])
    assert math.isnan(unweighed.labels["mass"])
    assert count_unknown(index(tree)) == {"mass": 1, "volume": 3, "density": 3}


def test_all_scenarios_are_the_union(tree):
    everything = {clip.id for clip in index(tree, scenario="all")}
    parts = [{c.id for c in index(tree, scenario=name)} for name in physics101.SCENARIOS]
    assert everything == set.union(*parts)
    assert len(everything) == sum(map(len, parts)) == 8


def test_another_camera_sees_the_same_trials(tree):
    one = [clip.id for clip in index(tree, camera="Camera_1")]
    kinect = [clip.id for clip in index(tree, camera="Kinect_RGB_1")]
    assert kinect == [name.replace("Camera_1", "Kinect_RGB_1") for name in one]


def test_conditions_are_names():
    assert conditions("scenarios/ramp/cardboard_01/10/rug/01/Camera_1.mp4") == {
        "condition_1": "10",
        "condition_2": "rug",
    }
    assert conditions("scenarios/spring/cardboard_01/01/Camera_1.mp4") == {}
    with pytest.raises(DatasetError, match=r"x\.mp4 is not the id"):
        conditions("x.mp4")
    assert doctest.testmod(physics101).failed == 0


def test_the_description_says_where_to_get_it_and_what_it_lacks():
    assert "phys101.csail.mit.edu" in physics101.DESCRIPTION
    told = " ".join(physics101.DESCRIPTION.split())
    for part in (
        "17,408 clips",
        "Licence:",
        "objects/mass",
        "no numbers for friction or elasticity",
    ):
        assert part in told
    assert "surfaces and inclines, and no measurement of either" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scenario": "springs"}, "no scenario 'springs'; there is fall, ramp, spring and all"),
        ({"camera": "Camera_9"}, "no camera 'Camera_9'; there is Camera_1, Camera_2"),
    ],
)
def test_a_wrong_name_lists_the_right_ones(tree, arguments, message):
    with pytest.raises(InvalidValueError, match=message):
        index(tree, **arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cardboard_01 14\nfoam\n", r"objects/mass, line 2: not 'name value': 'foam'"),
        ("cardboard_01 heavy\n", r"objects/mass, line 1: not 'name value'"),
        ("a 1\na 2\n", r"objects/mass, line 2: a is 2 here and 1 above"),
    ],
)
def test_a_wrong_line_of_labels_is_named(tree, text, message):
    (tree / "objects/mass").write_text(text)
    with pytest.raises(DatasetError, match=message):
        index(tree)


def test_values_that_are_no_numbers_are_unknown_also_behind_a_byte_order_mark(tree):
    (tree / "objects/mass").write_text("\ufeffcardboard_01 14\nfoam_07 nan\n")
    masses = {clip.object: clip.labels["mass"] for clip in index(tree)}
    assert masses["cardboard_01"] == 14
    assert math.isnan(masses["foam_07"])


def test_a_folder_that_cannot_be_read_is_named(tree, monkeypatch):
    scandir = os.scandir

    def refused(path):
        if str(path).endswith("foam_07"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(HeliographError, match=r"foam_07 cannot be read: Permission denied"):
        index(tree)


def test_all_is_what_there_is(tree):
    shutil.rmtree(tree / "scenarios/fall")
    assert {clip.scenario for clip in index(tree, scenario="all")} == {"ramp", "spring"}


def test_what_is_not_there_is_named(tree, tmp_path):
    with pytest.raises(DatasetError, match="has no folder scenarios"):
        index(tmp_path / "elsewhere")
    (tree / "objects/vol").unlink()
    with pytest.raises(DatasetError, match=r"objects/vol cannot be read: No such file"):
        index(tree)


def test_a_scenario_without_clips(tree):
    for path in (tree / "scenarios/ramp").rglob("Camera_2.mp4"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"no Camera_2.mp4 of scenario ramp"):
        index(tree, scenario="ramp", camera="Camera_2")
