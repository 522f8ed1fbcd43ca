import doctest
import math
import os
import shutil
from pathlib import Path

import pytest

from data.clips import ClipError
from data.datasets import physics101
from data.datasets.dataset import DatasetError, count_unknown
from data.datasets.physics101 import conditions, index
from data.errors import HeliographError, InvalidValueError
from data.manifests import read_manifest, write_manifest
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
        ({"scenario": "springs"}, "no scenario 'springs': choose one of fall, ramp, spring, all"),
        ({"camera": "Camera_9"}, "no camera 'Camera_9': choose one of Camera_1, Camera_2"),
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
    with pytest.raises(DatasetError, match="is no folder, and so is not a Physics 101 tree"):
        index(tmp_path / "elsewhere")
    (tree / "objects/vol").unlink()
    with pytest.raises(DatasetError, match=r"objects/vol cannot be read: No such file"):
        index(tree)


def test_a_scenario_without_clips(tree):
    for path in (tree / "scenarios/ramp").rglob("Camera_2.mp4"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"no Camera_2.mp4 of scenario ramp"):
        index(tree, scenario="ramp", camera="Camera_2")


def test_units_go_into_the_manifest_and_come_back(tree, tmp_path):
    out = tmp_path / "m.jsonl"
    write_manifest(index(tree), out)
    clip = read_manifest(out)[0]
    assert dict(clip.units) == {"mass": "g", "volume": "ml", "density": "g/ml"}
    assert dict(clip.labels) == {"mass": 14, "volume": 28, "density": 0.5}


def test_folders_with_blanks_and_names_of_several_words(tree):
    folder = tree / "scenarios/spring"
    (folder / "cardboard_01").rename(folder / "red card board")
    (tree / "objects/mass").write_text("red card board\t14,5\nfoam_07  51,3\n")
    (tree / "objects/vol").write_text("Red Card  board 28\n")
    clip = next(clip for clip in index(tree) if clip.object == "red card board")
    assert dict(clip.labels) == {"mass": 14.5, "volume": 28, "density": 14.5 / 28}
    assert clip.id == "scenarios/spring/red card board/01/Camera_1.mp4"


def test_objects_that_do_not_match_are_named(tree, caplog):
    (tree / "objects/mass").write_text("Cardboard_01 14\nfoam-07 51.3\n")
    (tree / "objects/vol").write_text("cardboard_01 28\nfoam_07 100\nunweighed 3\n")
    masses = {clip.object: clip.labels["mass"] for clip in index(tree)}
    assert masses["cardboard_01"] == 14
    assert math.isnan(masses["foam_07"])
    assert [record.getMessage() for record in caplog.records] == [
        f"{tree}/objects/mass: read 'Cardboard_01' for 'cardboard_01'",
        f"{tree}/objects/mass has no line for the objects 'foam_07', 'unweighed'; no folder has "
        "the name of its lines 'foam-07'",
    ]


def test_two_folders_for_one_object_are_refused(tree):
    folder = tree / "scenarios/spring"
    shutil.copytree(folder / "foam_07", folder / "Foam_07")
    with pytest.raises(ClipError, match=r"the object is 'Foam_07' in .* and 'foam_07' in"):
        index(tree)


@pytest.mark.parametrize("text", ["a 1_0\nb 2\n", "a 14 g\n", "a 1,200\nb 1,300\n"])
def test_a_value_that_is_no_number_for_sure_is_refused(tree, text):
    (tree / "objects/mass").write_text(text)
    with pytest.raises(DatasetError, match=r"objects/mass, line 1: not 'name value': 'a "):
        index(tree)
