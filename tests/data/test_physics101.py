import doctest
import math
from pathlib import Path

import pytest

from data import physics101
from data.physics101 import Physics101Error, factors, index, unknown


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    trials = {
        "spring": ["foam_07/02", "foam_07/01", "cardboard_01/01", "unweighed/01"],
        "fall": ["cardboard_01/table/01", "cardboard_01/foam/02", "cardboard_01/foam-2/01"],
        "ramp": ["cardboard_01/10/rug/01"],
    }
    for scenario, names in trials.items():
        for name in names:
            for camera in ("Camera_1", "Camera_2", "Kinect_RGB_1"):
                path = tmp_path / "scenarios" / scenario / name / f"{camera}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"")
    (tmp_path / "scenarios/spring/cardboard_01/01/notes.txt").write_text("not a clip")
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects/mass").write_text("cardboard_01 14\nfoam_07 51.3\n")
    (tmp_path / "objects/vol").write_text("cardboard_01\t28\n\nfoam_07 0\n")
    return tmp_path


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
    assert unknown(index(tree)) == {"mass": 1, "volume": 3, "density": 3}


def test_all_scenarios_are_the_union(tree):
    everything = {clip.id for clip in index(tree, scenario="all")}
    parts = [{c.id for c in index(tree, scenario=name)} for name in physics101.SCENARIOS]
    assert everything == set.union(*parts)
    assert len(everything) == sum(map(len, parts)) == 8


def test_another_camera_sees_the_same_trials(tree):
    one = [clip.id for clip in index(tree, camera="Camera_1")]
    kinect = [clip.id for clip in index(tree, camera="Kinect_RGB_1")]
    assert kinect == [name.replace("Camera_1", "Kinect_RGB_1") for name in one]


def test_factors_are_names():
    assert factors("scenarios/ramp/cardboard_01/10/rug/01/Camera_1.mp4") == {
        "condition_1": "10",
        "condition_2": "rug",
        "trial": "01",
    }
    assert factors("scenarios/spring/cardboard_01/01/Camera_1.mp4") == {"trial": "01"}
    with pytest.raises(Physics101Error, match=r"x\.mp4 is not the id"):
        factors("x.mp4")
    assert doctest.testmod(physics101).failed == 0


def test_the_description_says_where_to_get_it_and_what_it_lacks():
    assert "phys101.csail.mit.edu" in physics101.DESCRIPTION
    assert "no numbers for friction" in physics101.DESCRIPTION


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scenario": "springs"}, "no scenario 'springs'; there is fall, ramp, spring and all"),
        ({"camera": "Camera_9"}, "no camera 'Camera_9'; there is Camera_1, Camera_2"),
    ],
)
def test_a_wrong_name_lists_the_right_ones(tree, arguments, message):
    with pytest.raises(Physics101Error, match=message):
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
    with pytest.raises(Physics101Error, match=message):
        index(tree)


def test_what_is_not_there_is_named(tree, tmp_path):
    with pytest.raises(Physics101Error, match="has no folder scenarios"):
        index(tmp_path / "elsewhere")
    (tree / "objects/vol").unlink()
    with pytest.raises(Physics101Error, match=r"objects/vol cannot be read: No such file"):
        index(tree)


def test_a_scenario_without_clips(tree):
    for path in (tree / "scenarios/ramp").rglob("Camera_2.mp4"):
        path.unlink()
    with pytest.raises(Physics101Error, match=r"no Camera_2.mp4 of scenario ramp"):
        index(tree, scenario="ramp", camera="Camera_2")
