"""A run made again from its folder."""

import json

import pytest

from data import cache
from pipeline.training import options_of_run, train
from tests.helpers.command import run
from tests.helpers.features import make_features


def stored(folder):
    """What the configuration and the metrics of a run are."""
    config = json.loads((folder / "config.json").read_text())
    return config, json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize(
    "settings",
    [
        {"preset": "ridge", "epochs": 2, "vocab": 3, "agents": 1},
        {"epochs": 1, "axes": 0, "refit": False, "control": True, "tie_margin": {"mass": 1.5}},
        {"epochs": 1, "game": "referential", "distractors": 3, "receivers": 1},
    ],
    ids=["preset", "control", "game"],
)
def test_a_run_is_made_again_to_the_same_bits(settings, tmp_path):
    cache.save(make_features(), tmp_path / "c.h5")
    first, second = tmp_path / "first", tmp_path / "second"
    train([tmp_path / "c.h5"], first, properties=["mass"], seeds=2, device="cpu", **settings)
    shown = run("train", "--from", first, "-o", second, "--device", "cpu", "-q")
    assert shown.exit_code == 0, shown.output
    assert stored(first) == stored(second)
    assert (second / "control").exists() == settings.get("control", False)


def test_what_is_given_beside_it_goes_before(tmp_path):
    cache.save(make_features(), tmp_path / "c.h5")
    first = tmp_path / "first"
    train([tmp_path / "c.h5"], first, properties=["mass"], seeds=1, device="cpu", epochs=1)
    options = options_of_run(first)
    assert (options["epochs"], options["seeds"], options["control"]) == (1, 1, False)
    assert "vocab" not in options  # as its preset has it
    printed = run("train", "--from", first, "--vocab", 3, "--print-config").stdout
    assert "\nvocab = 3\n" in printed
    assert "\nepochs = 1\n" in printed
    assert f'\ncaches = ["{tmp_path / "c.h5"}"]\n' in printed


@pytest.mark.parametrize(
    "setting",
    [
        {"preset": "default", "null": 2},
        {"preset": "default", "keep_mean": True},
        {"preset": "default", "encoder": "ridge", "axes": 0},
        {"preset": "ridge", "encoder": "convolution"},  # as models have it, but not this preset
        {"preset": "ridge", "kept_epoch": "best"},  # as older runs of this preset
    ],
    ids=["null", "keep_mean", "ridge", "convolution", "kept_epoch"],
)
def test_settings_that_a_folder_may_leave_out_are_known(setting, tmp_path):
    cache.save(make_features(), tmp_path / "c.h5")
    first = tmp_path / "first"
    train(
        [tmp_path / "c.h5"], first, properties=["mass"], seeds=1, device="cpu", epochs=1, **setting
    )
    assert setting.items() <= options_of_run(first).items()


def test_what_is_no_run_is_a_sentence(tmp_path):
    shown = run("train", "--from", tmp_path, "-o", tmp_path / "x")
    assert shown.exit_code == 1
    assert "is no run" in shown.stderr
