"""`heliograph onboard`: a newcomer that sees another cache of a run's clips."""

import json
from dataclasses import replace

import numpy as np
import pytest

from data import cache
from tests.helpers.command import run
from tests.helpers.runs import contents


@pytest.fixture
def other(spoken_run, tmp_path):
    """The same clips with other features, in another order."""
    made = cache.load(spoken_run.folder.parent / "made.h5")
    order = np.random.default_rng(0).permutation(len(made))
    seen = np.concatenate([made.features[:, :2]] * 2, axis=2)
    cache.save(replace(made, features=seen).select(order), tmp_path / "other.h5")
    return tmp_path / "other.h5"


def test_a_newcomer_joins_and_nothing_is_written(spoken_run, other):
    before = contents(spoken_run.folder)
    words = ("onboard", spoken_run.folder, other, "--steps", 60)
    shown = run(*words)
    assert shown.exit_code == 0, shown.output
    for part in ("agent before", "silence", "permuted, %", "(sees other)", "of 2; the newcomer"):
        assert part in " ".join(shown.stdout.split())
    entry = json.loads(run(*words, "--agent", 1, "--json").stdout)
    assert entry["agent"] == 1
    assert [row["step"] for row in entry["curve"]] == [0, 1, 2, 5, 10, 20, 50, 60]
    learned = entry["curve"][-1]
    assert learned["accuracy"]["mean"] > learned["permuted"]["mean"]
    assert contents(spoken_run.folder) == before


def test_a_step_is_named_once(spoken_run, other):
    shown = " ".join(run("onboard", spoken_run.folder, other, "--steps", 1).stdout.split())
    assert shown.count(" after 1 step,") == 1
    assert "after 1," not in shown
    assert "the newcomer within 1 step in" in shown
    assert "-0.0" not in shown


def test_what_does_not_fit_is_refused_in_a_sentence(spoken_run, other, tmp_path):
    shown = run("onboard", spoken_run.folder, other, "--agent", 3)
    assert shown.exit_code == 2
    assert "no agent 3" in shown.stderr
    assert "has 2 agents, counted from 1" in shown.stderr
    few = tmp_path / "few.h5"
    cache.save(cache.load(other).select(np.arange(80)), few)
    shown = run("onboard", spoken_run.folder, few)
    assert shown.exit_code == 1
    assert f"{few} lacks 10 of the run's 90 clips" in shown.stderr
    shown = run("onboard", tmp_path, other)
    assert shown.exit_code == 1
    assert "Traceback" not in shown.stderr
