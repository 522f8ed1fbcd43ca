import json
import math
from pathlib import Path

import pytest

from data.clips import Clip
from data.datasets import Choice, Dataset, physics101
from data.manifests import read_manifest
from tests.helpers.command import run
from tests.helpers.trees import make_physics101_tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_physics101_tree(tmp_path)


def test_the_command_describes_without_a_tree():
    shown = run("index", "physics101", "--describe")
    assert (shown.exit_code, shown.stdout) == (0, physics101.DESCRIPTION)


def test_the_command_writes_factors_and_what_holds_out(tree, tmp_path):
    out = tmp_path / "fall.jsonl"
    words = ["index", "physics101", tree, "--scenario", "fall", "-o", out]
    shown = run(*words, "--factors", "--hold-out-by", "surface")
    assert shown.exit_code == 0, shown.stderr
    assert "surface: foam is 0, foam-2 is 1, table is 2" in shown.stderr
    assert "3 clips of 1 object" in shown.stderr
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
        (
            ["TREE", "-o", "x.jsonl", "--scenario", "springs"],
            "no scenario 'springs': choose one of fall, ramp, spring, all",
        ),
    ],
)
def test_wrong_usage_gets_a_sentence(words, sentence, tree):
    shown = run("index", "physics101", *(tree if word == "TREE" else word for word in words))
    assert shown.exit_code == 2
    assert sentence in shown.stderr


def test_another_dataset_is_another_command(monkeypatch, tmp_path):
    """What `data/datasets` has is listed, with the options that its record has."""

    def list_clips(root: Path, *, part: str) -> list[Clip]:
        return [Clip(id=f"{part}.mp4", path=root / f"{part}.mp4", labels={"charge": 2.0})]

    parts = Choice(name="part", values=("train", "test"), default="test", help="train or test.")
    dataset = Dataset(
        name="charges", summary="List charges.", description="None.", index=list_clips,
        choices=(parts,),
    )  # fmt: skip
    monkeypatch.setattr("data.datasets.known_datasets", lambda: {"charges": dataset})
    assert "charges  List charges." in run("index", "--help").stdout
    options = run("index", "charges", "--help").stdout
    assert "train or test.  [default: test]" in options
    assert "--factors" not in options
    assert "--plots" not in options
    out = tmp_path / "m.jsonl"
    shown = run("index", "charges", tmp_path, "-o", out, "--part", "train")
    assert (shown.exit_code, shown.stderr.strip()) == (0, f"{out}: 1 clip of 1 object")
    assert read_manifest(out)[0].id == "train.mp4"
    assert run("index", "physics101").exit_code == 2


def test_check_shows_each_column_and_the_files_that_are_gone(tmp_path):
    table, video = tmp_path / "clips.csv", tmp_path / "a\tb\x1b.mp4"
    video.touch()
    rows = f'{video.name},cup,"14,5",01_01\nb.mp4,cup,15,01_02\n'
    table.write_text(f"File,Object,mass [g],take\n{rows}")
    shown = run("index", "check", table)
    assert (shown.exit_code, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert lines[-5:-1] == [
        "  File      path",
        "  Object    object",
        "  mass [g]  label mass, 14.5 to 15 g, several values per object",
        "  take      left out: no numbers, e.g. '01_01' (line 2)",
    ]
    assert lines[-1] == f"warning: 1 clip names a file that cannot be found, first {tmp_path}/b.mp4"
    assert all("\t" not in line and "\x1b" not in line for line in lines)
    stored = json.loads(run("index", "check", table, "--json").stdout)
    assert (stored["clips"], stored["objects"], stored["decimal"]) == (2, 1, ",")
    assert (stored["missing_files"], stored["first_missing"]) == (1, f"{tmp_path}/b.mp4")
    assert stored["columns"][2]["unit"] == "g"


def test_check_does_not_say_that_addresses_are_gone(tmp_path):
    table = tmp_path / "clips.csv"
    table.write_text("path\ns3://bucket/a.mp4\n")
    lines = run("index", "check", table).stdout.splitlines()
    assert lines[-1] == "note: 1 clip at addresses: whether files are there was not looked at"
    assert json.loads(run("index", "check", table, "--json").stdout)["missing_files"] == 0


def test_check_refuses_with_a_sentence(tmp_path):
    table = tmp_path / "clips.csv"
    table.write_text("path,object\na.mp4,cup\nb.mp4,Cup\n")
    shown = run("index", "check", table)
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert "the object is 'cup' in line 2 and 'Cup' in line 3" in shown.stderr
    assert run("index", "check", tmp_path / "a.mp4").exit_code == 2
    assert run("index", "check", tmp_path / "gone.csv").exit_code == 1
    table.write_text("path,object\n")
    shown = run("index", "check", table)
    assert (shown.exit_code, f"there are no clips in {table}" in shown.stderr) == (1, True)


def test_check_refuses_one_file_with_two_objects(tmp_path):
    """So does `cache label`; `extract` before any work."""
    table = tmp_path / "t.csv"
    table.write_text("path,id,object\na.mp4,one,cup\na.mp4,two,ball\nb.mp4,three,cup\n")
    for words in (("index", "check"), ("cache", "label", tmp_path / "c.h5")):
        refused = run(*words, table)
        assert refused.exit_code == 1
        assert (
            f"{tmp_path / 'a.mp4'}: 'one' and 'two' have the same content, but the objects "
            "'cup' and 'ball': give them one object"
        ) in " ".join(refused.stderr.split())


def test_pictures_are_not_replaced_by_accident(tree, tmp_path):
    out, plots = tmp_path / "fall.jsonl", tmp_path / "plots"
    words = ["index", "physics101", tree, "--scenario", "fall", "-o", out, "--restitution"]
    words += ["--plots", plots]
    first, *others = [f"scenarios_fall_{name}.png" for name in picture_names(tree)]
    plots.mkdir()
    (plots / first).write_bytes(b"a picture of mine")
    refused = run(*words)
    assert refused.exit_code == 1
    assert (
        f"{plots / first} exists, and is something else: choose another --plots, or insist with "
        "--overwrite"
    ) in refused.stderr
    assert (plots / first).read_bytes() == b"a picture of mine"
    assert [path.name for path in plots.iterdir()] == [first]  # none is written, and no manifest
    assert not out.exists()
    assert run(*words, "--overwrite").exit_code == 0
    assert sorted(path.name for path in plots.iterdir()) == sorted([first, *others])
    before = (plots / first).read_bytes()
    assert before.startswith(b"\x89PNG")
    assert run(*words).exit_code == 0  # all of it is there, and equal
    assert (plots / first).read_bytes() == before


def picture_names(tree: Path) -> list[str]:
    root = tree / "scenarios" / "fall"
    films = sorted(path.relative_to(root).as_posix() for path in root.rglob("Camera_1.mp4"))
    return [name.removesuffix(".mp4").replace("/", "_") for name in films]
