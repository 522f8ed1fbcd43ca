"""`heliograph demo`: everything, small."""

import shutil

import pytest

from pipeline.runs import Run
from tests.helpers.command import run


@pytest.mark.slow
def test_the_demo_runs_and_says_what_it_did(tmp_path):
    out = tmp_path / "demo"
    shown = run("demo", "--out", out, "--per-cell", 2, "--seeds", 1, "--epochs", 2)
    assert shown.exit_code == 0
    parts = (
        "chosen on validation", "chance", "baseline: majority", "baseline: pixels",
        "baseline: differences", "baseline: quantised_ridge", "baseline: ridge ",
        "baseline: quantised_labels", "control: shuffled labels", "last epoch",
        "video of a cell never seen",
    )  # fmt: skip
    places = [shown.stdout.index(part) for part in parts]
    assert places == sorted(places)
    assert "--pool motion3 --frames 16" in shown.stdout
    for name in (
        "clips/manifest.jsonl",
        "clips.png",
        "motion.h5",
        "run/model.pt",
    ):
        assert (out / name).is_file()
    control = Run.open(out / "run").metrics().shuffled_labels
    assert len(control.per_seed) == 2
    assert set(control.properties) == {"elasticity", "friction"}
    assert f"heliograph message {out / 'run'}" in shown.stdout
    again = run("demo", "--out", out, "--per-cell", 2, "--seeds", 1, "--epochs", 1)
    assert again.exit_code == 0
    shutil.copytree(out / "run", tmp_path / "mine" / "run")
    (tmp_path / "mine" / "run" / "notes.txt").write_text("of days")
    mine = run("demo", "--out", tmp_path / "mine", "--per-cell", 2)
    assert mine.exit_code == 1
    assert "is a run that the demo did not make" in mine.stderr
    other = run("demo", "--out", out, "--per-cell", 3)
    assert other.exit_code == 1
    assert "choose another --out" in other.stderr
