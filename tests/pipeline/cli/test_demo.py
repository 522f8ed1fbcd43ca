"""`heliograph demo`: everything, small."""

import shlex
import shutil

import pytest

from pipeline.experiments.demo import NULL_SEEDS
from pipeline.runs import Run
from tests.helpers.command import run


@pytest.mark.slow
def test_the_demo_runs_and_says_what_it_did(tmp_path):
    out = tmp_path / "my demo"
    shown = run("demo", "--out", out, "--per-cell", 2, "--seeds", 1, "--epochs", 2)
    assert shown.exit_code == 0
    parts = (
        "right, on cells never seen", "agents ", "differences ", "pixels ", "majority ",
        "quantised ridge ", "ridge  ", "Is its code compositional?", "video of a cell never seen",
        "message ", "in words ", "true ", "report.html", "What next",
    )  # fmt: skip
    place = 0
    for part in parts:
        place = shown.stdout.index(part, place) + 1
    assert "opens in the browser" not in shown.stderr  # nobody sees it
    for name in (
        "clips/manifest.jsonl",
        "clips.png",
        "messages.png",
        "run/report.html",
        "motion.h5",
        "run/model.pt",
    ):
        assert (out / name).is_file()
    control = Run.open(out / "run").metrics().shuffled_labels
    assert len(control.per_seed) == NULL_SEEDS
    assert set(control.properties) == {"elasticity", "friction"}
    commands = shown.stdout.partition("What next:")[2].splitlines()
    typed = [shlex.split(line) for line in commands if line.strip().startswith("heliograph ")]
    assert [words[1] for words in typed] == ["message", "train", "extract", "--help"]
    for words in typed:
        brief = ("--epochs", 1) if words[1] == "train" else ()
        assert run(*words[1:], *brief).exit_code == 0, words
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
