"""Trainings on a real Ray: the same runs, and the same table."""

import json

import pytest

from pipeline.training.tasks import _place
from tests.helpers.command import run

RECIPE = """
title = "Small"
question = "The same table?"
note = "Given features."
given = "features with a mass"
[train]
properties = ["mass"]
seeds = 1
epochs = 1
[[runs]]
name = "one"
title = "one agent"
agents = 1
[[runs]]
name = "two"
title = "two agents"
agents = 2
"""
WORDS = ("--property", "mass", "--epochs", 1, "--seeds", 1, "--device", "cpu")


@pytest.mark.slow
def test_a_sweep_on_a_cluster_has_the_table_of_one_here(cache_path, nodes, tmp_path):
    nodes(1)
    here, there = tmp_path / "here", tmp_path / "there"
    for out, words in ((here, ()), (there, ("--ray",))):
        axes = ("--sweep", "split=objects,kfold-9,kfold")
        shown = run("train", cache_path, "-o", out, *WORDS, *axes, *words)
        assert shown.exit_code == 3
        assert "failed: split-kfold-9: 14 objects are too few for 9 folds" in shown.stderr
    assert (here / "sweep.csv").read_bytes() == (there / "sweep.csv").read_bytes()


@pytest.mark.slow
def test_an_experiment_on_a_cluster_has_the_table_of_one_here(cache_path, nodes, tmp_path):
    nodes(1)
    recipe, here, there = (tmp_path / name for name in ("small.toml", "here", "there"))
    recipe.write_text(RECIPE)
    for out, words in ((here, ()), (there, ("--ray",))):
        shown = run("experiment", recipe, "--features", cache_path, "--out", out, *words)
        assert shown.exit_code == 0, shown.output
    tables = [out / "small" / "table.csv" for out in (here, there)]
    assert tables[0].read_bytes() == tables[1].read_bytes()
    stages = json.loads((there / "small" / "experiment.json").read_text())["stages"]
    assert "trainings" in stages
    assert not {"training one", "training two"} & set(stages)


def test_ray_is_for_sweeps(cache_path, tmp_path):
    shown = run("train", cache_path, "-o", tmp_path / "run", *WORDS, "--ray")
    assert shown.exit_code == 2
    assert "--ray shares the trainings of a --sweep, and there is none" in shown.stderr
    shown = run("extract", tmp_path, "-o", tmp_path / "c.h5", "--ray", "--device", "cuda:1")
    assert shown.exit_code == 2
    assert "Ray chooses the GPU of each actor: leave --device cuda:1 out" in shown.stderr


def test_paths_are_those_of_every_node(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b.h5").touch()
    assert _place("c.h5") == ("", f"{tmp_path}/c.h5")
    assert _place("dino=c.h5") == ("dino=", f"{tmp_path}/c.h5")
    assert _place("a=b.h5") == ("", f"{tmp_path}/a=b.h5")
