"""A grid of runs: one folder and one line each, finished ones left alone."""

import csv
import json
import sys

import pytest

from data.errors import HeliographError
from pipeline.runs import Run
from pipeline.training.sweep import parse_axis
from tests.helpers.command import run


def sweep(cache_path, out, *words):
    base = ["train", cache_path, "-o", out, "--property", "mass", "--epochs", 1, "--seeds", 1]
    return run(*base, *words)


def test_a_sweep_is_a_grid_with_one_table_that_goes_on(cache_path, tmp_path):
    out = tmp_path / "grid"
    shown = sweep(cache_path, out, "--sweep", "vocab=2,3", "agents=1,2")
    assert shown.exit_code == 0, shown.stderr
    names = [f"vocab-{v}_agents-{a}" for v in (2, 3) for a in (1, 2)]
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == sorted(names)
    config = Run.open(out / "vocab-3_agents-1").config
    assert (config.vocab, config.agents) == (3, 1)
    rows = list(csv.DictReader((out / "sweep.csv").open()))
    assert [row["folder"] for row in rows] == names
    for row in rows:
        found = Run.open(out / row["folder"]).metrics().accuracy_test
        assert float(row["accuracy_test_mean"]) == found.mean
        assert (row["seeds"], row["error"]) == ("1", "")
    assert len(shown.stdout.strip().splitlines()) == 5
    written = {name: (out / name / "metrics.json").stat().st_mtime_ns for name in names}

    more = sweep(cache_path, out, "--sweep", "vocab=2,3", "--sweep", "agents=1,2,3", "--json")
    rows = json.loads(more.stdout)
    assert [row["agents"] for row in rows] == ["1", "2", "3"] * 2
    for name, time in written.items():
        assert (out / name / "metrics.json").stat().st_mtime_ns == time
        assert f"{out / name} is finished already" in more.stderr


def test_a_cell_that_fails_is_named_and_leaves_the_others_alone(cache_path, tmp_path):
    shown = sweep(cache_path, tmp_path / "grid", "--sweep", "split=objects,kfold-9")
    assert shown.exit_code == 3
    sentence = "split-kfold-9: 14 objects are too few for 9 folds"
    assert f"\n{sentence}" in shown.stderr
    assert shown.stderr.splitlines()[-1].startswith(f"failed: {sentence}")
    rows = list(csv.DictReader((tmp_path / "grid" / "sweep.csv").open()))
    assert [bool(row["error"]) for row in rows] == [False, True]


def test_where_every_cell_fails_the_table_of_before_stays(cache_path, tmp_path):
    table = tmp_path / "grid" / "sweep.csv"
    shown = sweep(cache_path, table.parent, "--sweep", "split=kfold-2,kfold-9")
    assert shown.exit_code == 2
    assert "kfold-2 leaves no fold" in shown.stderr
    assert not table.exists()
    sweep(cache_path, table.parent, "--sweep", "vocab=2,3")
    written = table.read_bytes()
    assert sweep(cache_path, table.parent, "--sweep", "split=kfold-2,kfold-9").exit_code == 2
    assert table.read_bytes() == written


def test_where_every_training_breaks_off_no_empty_folder_stays(cache_path, tmp_path, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise HeliographError("too little memory")

    monkeypatch.setattr(sys.modules["pipeline.training.train"], "fit", broken)
    shown = sweep(cache_path, tmp_path / "new" / "grid", "--sweep", "vocab=2,3")
    assert shown.exit_code == 1
    assert shown.stderr.endswith("Error: too little memory\n")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("vocb=3", "--sweep has no key 'vocb': did you mean vocab?"),
        ("sender-l=3", "--sweep has no key 'sender_l': did you mean sender_lr?"),
        ("colour=1,2", "--sweep has no key 'colour': the keys are agents, axes, batch"),
        ("vocab=2,x", "vocab cannot be 'x'"),
        ("vocab=2,2", "--sweep has a value of vocab twice"),
        ("vocab", "--sweep vocab names no values: --sweep vocab=A,B,C"),
    ],
)
def test_a_wrong_axis_is_said(word, sentence):
    with pytest.raises(HeliographError) as error:
        parse_axis(word)
    assert sentence in str(error.value)


def test_axes_take_dashes_flags_and_lists_of_caches():
    assert parse_axis("sender-lr=1e-3,3e-4") == ("sender_lr", ["1e-3", "3e-4"])
    assert parse_axis("train_on_ties=yes,no") == ("train_on_ties", ["yes", "no"])
    assert parse_axis("agents=2,vjepa+dino") == ("agents", ["2", "vjepa+dino"])


def test_what_axes_need_is_left_out_where_a_cell_has_none(cache_path, tmp_path):
    """A shared setting means nothing in that cell; a swept one would make two cells one."""
    words = ("--property", "mass", "--seeds", 1, "--epochs", 1, "--no-refit", "--json")
    shown = run(
        "train", cache_path, "-o", tmp_path / "shared", *words, "--sweep", "axes=0,99",
        "--shrinkage", 2,
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    told = f"axes 99 are more than there are: {cache_path} has 12 dimensions"
    assert shown.stderr.count(told) == 1
    found = [Run.open(tmp_path / "shared" / f"axes-{n}").config.shrinkage for n in (0, 99)]
    assert found == [1.0, 2.0]  # the preset's own is left to stand
    words = (*words, "--sweep", "axes=0", "--sweep", "shrinkage=0,2")
    shown = run("train", cache_path, "-o", tmp_path / "swept", *words)
    assert shown.exit_code == 3
    assert "axes-0_shrinkage-2: shrinkage changes nothing where axes is 0" in shown.stderr
