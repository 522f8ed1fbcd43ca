import doctest
import math
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from data.datasets import physics101
from data.datasets.physics101 import (
    Physics101Error,
    factors,
    held_out_by,
    index,
    unknown,
    with_factors,
)
from data.errors import HeliographError
from data.manifests import read_manifest
from pipeline.cli import main


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
    told = " ".join(physics101.DESCRIPTION.split())
    for part in (
        "17,408 clips",
        "Licence:",
        "objects/mass",
        "no numbers for friction or elasticity",
    ):
        assert part in told
    assert "surfaces and inclines, and no measurement of either" in told


def test_factors_become_labels(tree):
    clips, codes = with_factors(index(tree, scenario="all"))
    assert codes == {
        "surface": {"foam": 0.0, "foam-2": 1.0, "table": 2.0},
        "condition_1": {"10": 10.0},
        "condition_2": {"rug": 0.0},
    }
    fall, ramp = clips[0], clips[3]
    assert (fall.scenario, ramp.scenario) == ("fall", "ramp")
    assert fall.labels["surface"] == 0.0
    assert math.isnan(fall.labels["condition_1"])
    assert (ramp.labels["condition_1"], ramp.labels["condition_2"]) == (10.0, 0.0)
    assert math.isnan(ramp.labels["surface"])
    assert fall.labels["mass"] == 14.0
    with pytest.raises(Physics101Error, match="has a label surface already"):
        with_factors(clips[:3])


def test_factors_can_be_held_out(tree):
    clips = held_out_by(index(tree, scenario="fall"), "surface")
    assert [clip.object for clip in clips] == ["surface=foam", "surface=foam-2", "surface=table"]
    with pytest.raises(Physics101Error, match=r"has no factor 'incline'; its factors are surface"):
        held_out_by(index(tree, scenario="fall"), "incline")
    with pytest.raises(Physics101Error, match=r"has no factor 'surface'; its factors are none"):
        held_out_by(index(tree), "surface")


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


def test_the_command_describes_without_a_tree():
    shown = run("index", "physics101", "--describe")
    assert (shown.exit_code, shown.stdout) == (0, physics101.DESCRIPTION)


def test_the_command_writes_factors_and_what_holds_out(tree, tmp_path):
    out = tmp_path / "fall.jsonl"
    words = ["index", "physics101", tree, "--scenario", "fall", "-o", out]
    shown = run(*words, "--factors", "--hold-out-by", "surface")
    assert shown.exit_code == 0, shown.stderr
    assert "surface: foam is 0, foam-2 is 1, table is 2" in shown.stderr
    assert "3 clips of 1 objects" in shown.stderr
    clips = read_manifest(out)
    assert [clip.labels["surface"] for clip in clips] == [0.0, 1.0, 2.0]
    assert clips[2].object == "surface=table"


def test_the_command_measures_restitution(tree, tmp_path):
    out, plots = tmp_path / "fall.jsonl", tmp_path / "plots"
    words = ["index", "physics101", tree, "--scenario", "fall", "-o", out, "--restitution"]
    shown = run(*words, "--plots", plots)
    assert shown.exit_code == 0, shown.stderr
    assert "restitution: 3 cannot be read" in shown.stderr  # the films of this tree are empty
    assert "3 clips have no restitution" in shown.stderr
    assert len(list(plots.glob("scenarios_fall_*.png"))) == 3
    assert all(math.isnan(clip.labels["restitution"]) for clip in read_manifest(out))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name a ROOT and a manifest with --out, or ask to --describe"),
        (["TREE", "-o", "x.jsonl", "--plots", "p"], "--plots shows the tracks of --restitution"),
        (["TREE", "-o", "x.csv"], "x.csv: manifests are written as .jsonl"),
        (["TREE", "-o", "x.jsonl", "--scenario", "spring", "--restitution"], "there are none"),
    ],
)
def test_wrong_usage_gets_a_sentence(words, sentence, tree):
    shown = run("index", "physics101", *(tree if word == "TREE" else word for word in words))
    assert shown.exit_code == 2
    assert sentence in shown.stderr


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
