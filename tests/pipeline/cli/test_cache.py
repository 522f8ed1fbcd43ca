import json
import re
from dataclasses import replace

import numpy as np
import pytest

import backbones
from data.cache import load, save
from tests.helpers.caches import features
from tests.helpers.command import run
from tests.helpers.features import make_features
from tests.helpers.paper_files import make_paper_features
from tests.helpers.tiny_backbone import TINY_ENTRY


def test_info_shows_names_to_the_letter(tmp_path):
    names = ["a[v2].mp4", "take[/c].mp4", ":smile:.mp4"]
    save(features(failures=[(name, "[red] too short") for name in names]), tmp_path / "c.h5")
    shown = run("cache", "info", str(tmp_path / "c.h5"))
    for name in names:
        assert re.search(rf"failed: {re.escape(name)} +\[red\] too short", shown.stdout)


def test_info_is_for_people_and_its_json_for_programs(tmp_path):
    made = features(labels={"mass": np.array([1, np.nan, *5 * [2.5]])})
    save(made, tmp_path / "c.h5")
    shown = " ".join(run("cache", "info", tmp_path / "c.h5").stdout.split())
    size = (tmp_path / "c.h5").stat().st_size
    assert f"size {size / 1000:.1f} kB ({size:,} bytes)" in shown
    assert "label: mass 6 of 7 known, 1 to 2.5" in shown
    assert not set('{}"[]') & set(shown)
    told = json.loads(run("cache", "info", tmp_path / "c.h5", "--json").stdout)
    assert told["bytes"] == size
    assert told["labels"]["mass"]["known"] == 6
    assert told["fingerprint"] == made.fingerprint


def test_info_says_of_how_many_clips_the_scenario_is_not_known(tmp_path):
    scenarios = ["", "", "", "", "", "ramp", "ramp"]
    save(features(scenario=scenarios), tmp_path / "c.h5")
    shown = run("cache", "info", tmp_path / "c.h5").stdout
    assert re.search(r"^scenarios +\(none\) 5, ramp 2 *$", shown, re.MULTILINE)


def test_export_names_the_clips_that_are_left_out(tmp_path):
    masses = np.array([1, np.nan, *5 * [1.0]])
    save(features(labels={"mass": masses}), tmp_path / "c.h5")
    words = ["cache", "export", str(tmp_path / "c.h5"), "-o", str(tmp_path / "x.pt")]
    shown = run(*words)
    assert shown.exit_code == 0
    assert "left out: 1 clip without a known mass (c/é 1.mp4)" in shown.stderr


@pytest.mark.parametrize(("name", "found"), [("null", "no suffix"), ("x.TXT", "the suffix .TXT")])
def test_export_to_a_name_that_says_no_format(name, found, tmp_path):
    save(features(), tmp_path / "c.h5")
    shown = run("cache", "export", tmp_path / "c.h5", "-o", tmp_path / name)
    assert shown.exit_code == 2
    assert f"{tmp_path / name} has {found}, which says no format to export to: " in shown.stderr
    assert "choose a name that ends in .pt or .npz or .safetensors" in shown.stderr


@pytest.fixture
def imported(tmp_path):
    """Import of features (12, 8, 16) of the paper's form, with words of the command."""

    def run_import(*words: object, name: str = "imported.h5"):
        make_paper_features(tmp_path / "paper.pt")
        return run("cache", "import", tmp_path / "paper.pt", "-o", tmp_path / name, *words)

    return run_import


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--backbone", "nothing"], "no backbone 'nothing': choose one of"),
        (["--backbone", "timm:nothing"], "timm has no model 'nothing'"),
        (
            ["--backbone", "dinov2_vits14"],
            "dinov2_vits14 gives 384 numbers a step, and these features have 16",
        ),
        (["--frames", "10"], "has 8 time steps, which 10 frames cannot give"),
        (["--backbone", "tiny", "--frames", "8"], "tiny gives 4 steps of 8 frames, and these"),
        (["--backbone", "tiny", "--preprocess", "odd"], "no preprocessing 'odd'"),
        (
            ["--backbone", "tiny", "--preprocess", "paper"],
            "no preprocessing of tiny 'paper': choose one of official",
        ),
    ],
)
def test_an_impossible_declaration_is_refused(words, reason, imported, tmp_path, monkeypatch):
    entry = replace(TINY_ENTRY, dim=16, preprocessings=("official",))
    monkeypatch.setitem(backbones.BACKBONES, "tiny", entry)
    shown = imported(*words)
    assert shown.exit_code == 2
    assert reason in shown.stderr
    assert not (tmp_path / "imported.h5").exists()


def test_what_is_declared_is_shown_as_declared(imported, tmp_path, monkeypatch):
    monkeypatch.setitem(backbones.BACKBONES, "tiny", replace(TINY_ENTRY, dim=16))
    shown = imported("--backbone", "tiny", "--frames", "16", "--preprocess", "paper")
    assert shown.exit_code == 0, shown.stderr
    shown = run("cache", "info", tmp_path / "imported.h5", terminal_width=300)
    words = "imported features, tiny, 16 frames, preprocessing paper, as declared (from paper.pt)"
    assert words in " ".join(shown.stdout.split())
    assert "fingerprint, as declared" in shown.stdout
    info = json.loads(run("cache", "info", tmp_path / "imported.h5", "--json").stdout)
    assert info["origin"] == words
    imported(name="other.h5")
    info = json.loads(run("cache", "info", tmp_path / "other.h5", "--json").stdout)
    assert info["origin"] == "imported features, of unknown origin (from paper.pt)"


def test_a_cache_that_lost_its_seal_is_imported(tmp_path):
    save(features(), tmp_path / "c.h5")
    with open(tmp_path / "c.h5", "r+b") as file:
        file.write(bytes(512))
    refused = run("cache", "info", tmp_path / "c.h5")
    assert refused.exit_code == 1
    assert "heliograph cache import reads such a file" in refused.stderr
    assert run("cache", "import", tmp_path / "c.h5", "-o", tmp_path / "new.h5").exit_code == 0
    info = json.loads(run("cache", "info", tmp_path / "new.h5", "--json").stdout)
    assert info["origin"] == "imported features, in its file fake, as declared (from c.h5)"


def test_the_size_of_parts_is_chosen(tmp_path):
    for name, rows in (("a", range(4)), ("b", range(4, 7))):
        save(features().select(rows), tmp_path / f"{name}.h5")
    inputs, out = [tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "c.h5"
    size = 2 * features().features[0].nbytes / 1e9
    merged = run("cache", "merge", *inputs, "-o", out, "--part-size", size)
    assert merged.exit_code == 0, merged.output
    assert sorted(len(load(part)) for part in out.glob("*.h5")) == [1, 2, 2, 2]
    assert load(out).differences(features()) == []
    again = run("cache", "merge", *inputs, "-o", out, "--part-size", 2 * size)
    assert "already there" in again.stderr
    assert len(list(out.glob("*.h5"))) == 4


def test_label_prints_what_changes_and_leaves_the_file_where_nothing_does(tmp_path):
    made = make_features()
    save(made, tmp_path / "c.h5")
    lines = ["id,path,object,mass"]
    lines += [
        f"{clip},{clip},{name},{mass + (row == 2)}"
        for row, (clip, name, mass) in enumerate(
            zip(made.clip_id, made.object, made.labels["mass"], strict=True)
        )
        if row != 3 and not np.isnan(mass)
    ]
    (tmp_path / "t.csv").write_text("\n".join([*lines, "new,new,new,5.0"]))
    arguments = ["cache", "label", str(tmp_path / "c.h5"), str(tmp_path / "t.csv")]
    done = run(*arguments)
    assert done.exit_code == 0, done.stderr
    assert "mass: 1 changed (object_00/2: 10 -> 11)" in done.stdout
    assert "2 clips (object_00/3, object_13/3) not in" in done.stdout
    assert "1 clip (new) not in" in done.stdout
    content = (tmp_path / "c.h5").read_bytes()
    again = run(*arguments)
    assert "nothing to change" in again.stderr
    assert (tmp_path / "c.h5").read_bytes() == content


def test_import_takes_a_folder_of_npy_and_labels_of_a_table(tmp_path):
    for number in range(3):
        steps = np.full((5 + number, 2), number, np.float32)
        np.save(tmp_path / f"v{number}_rgb.npy", steps)
        np.save(tmp_path / f"v{number}_fps.npy", np.array(25.0))
    (tmp_path / "clips.csv").write_text("path,object,mass (g)\nv0.mp4,cup,3.5\nv1.mp4,ball,4\n")
    out = tmp_path / "out.h5"
    words = ("cache", "import", tmp_path, "-o", out, "--files", "*_rgb.npy")
    shown = run(*words)
    assert (shown.exit_code, "--steps N takes N steps of each" in shown.stderr) == (1, True)
    assert not out.exists()
    shown = run(*words, "--steps", 4, "--labels", tmp_path / "clips.csv")
    assert shown.exit_code == 0, shown.output
    found = load(out)
    assert (list(found.clip_id), list(found.object)) == (["v0", "v1", "v2"], ["cup", "ball", ""])
    assert found.labels["mass"].tolist()[:2] == [3.5, 4.0]
    assert found.label_units == {"mass": "g"}
    assert found.features.shape == (3, 4, 2)
