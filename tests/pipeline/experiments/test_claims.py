"""Claims of recipes: read, measured on runs that are there, and set side by side on a page."""

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from data.errors import HeliographError
from pipeline.experiments.claim import Claim
from pipeline.experiments.claims import claims_page, markdown_table, measure_claims
from pipeline.experiments.page import render
from pipeline.experiments.recipe import find, parse
from pipeline.runs import Run

DOCS = Path(__file__).parents[3] / "docs" / "claims.md"

NOISE = """
[[claims]]
name = "noise"
title = "Noise"
says = "little is lost"
source = "README.md"
run = "two"
retest = "noise"
"""
RECIPE = """
title = "T"
[clips]
scene = "ramp"
[views.moving]
steps = 4
[train]
properties = ["elasticity"]
[[runs]]
name = "two"
"""


def claim(**changes):
    known = {"name": "one", "title": "T: 1 | 2", "says": "so", "source": "there", "run": "a"}
    return Claim.model_validate(known | changes)


@pytest.fixture
def folder(tmp_path, spoken_run):
    """An experiment with one run."""
    shutil.copytree(spoken_run.folder, tmp_path / "out" / "x" / "runs" / "a")
    return tmp_path / "out" / "x"


@pytest.fixture
def stages():
    done = []

    @contextmanager
    def stage(name):
        done.append(name)
        yield

    stage.done = done
    return stage


def test_claims_are_read_and_sized():
    asked = NOISE.replace('"noise"', '"onboarding"') + "sees = 'moving'\noptions = { steps = 500 }"
    own = parse(f"{RECIPE}{asked}", "own", "own.toml")
    assert [each.name for each in own.claims] == ["onboarding"]
    assert own.claims[0].options == {"steps": 500}
    assert own.sized(epochs=3).claims[0].options == {"steps": 30}
    assert own.sized(seeds=3).claims == own.claims


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"noise"\ntitle', '"a b"\ntitle', "'a b' is no name of a file"),
        ('retest = "noise"', "", "a claim has either a retest or measures"),
        ('retest = "noise"', 'retest = "noise"\nneeds = "x"', "needs are those of another experi"),
        ('run = "two"', 'run = ["two", "two"]', "a retest is of one run"),
        ('retest = "noise"', 'retest = "nois"', "no re-test 'nois': there are noise, onboarding"),
        ('retest = "noise"', 'measures = { "nothing" = "n" }', "metrics.json has no nothing"),
        ('run = "two"', 'run = "three"', "no run 'three': there are two"),
        ('run = "two"', 'run = "two"\nsees = "still"', "no view 'still' to see: there are moving"),
        ('run = "two"', 'run = "two"\nsees = "moving"', "the re-test noise has no sees"),
        ('run = "two"', 'run = "two"\nother = "two"', "the re-test noise has no other"),
        ('retest = "noise"', 'retest = "onboarding"', "the re-test onboarding needs sees"),
        (
            'retest = "noise"',
            'retest = "noise"\noptions = { sigma = 1 }',
            "the re-test noise has no option 'sigma': there are none",
        ),
        (
            'retest = "noise"',
            'retest = "onboarding"\nsees = "moving"\noptions = { steps = "many" }',
            "steps is a whole number of at least 1, not 'many'",
        ),
        (
            'retest = "noise"',
            'retest = "onboarding"\nsees = "moving"\noptions = { agent = 0 }',
            "agent is a whole number of at least 1, not 0",
        ),
        ('says = "little is lost"', "said = 1", "no key 'said': the keys are name, title, says"),
        ('retest = "noise"', f'retest = "noise"{NOISE}', "every claim needs a name of its own"),
    ],
)
def test_a_mistake_in_a_claim_is_a_sentence(old, new, reason):
    text = RECIPE + NOISE
    assert old in text
    with pytest.raises(HeliographError, match=r"own\.toml, claim") as refused:
        parse(text.replace(old, new), "own", "own.toml")
    assert reason in str(refused.value)


def test_what_is_measured_is_kept_until_the_run_or_the_question_changes(folder, stages):
    asked = claim(retest="noise")
    (first,) = measure_claims([asked], folder, {}, stages)
    assert first.sentence.endswith("% of the symbols wrong")
    (again,) = measure_claims([asked], folder, {}, stages)
    assert again == first
    assert stages.done == ["claim one"]
    kept = folder / "claims" / "one.json"
    stored = json.loads(kept.read_text())
    assert stored["run"] == Run.open(folder / "runs" / "a").id
    kept.write_text(json.dumps(stored | {"run": "another"}))
    measure_claims([asked], folder, {}, stages)
    kept.write_text("{")
    measure_claims([asked], folder, {}, stages)
    for entry in ({}, {"curve": []}, {"curve": [{"sigma": 0.1, "accuracy": {"mean": 0.5}}]}, 1):
        kept.write_text(json.dumps(stored | {"entry": entry}))  # of an older version
        assert measure_claims([asked], folder, {}, stages) == [first]
    assert stages.done == ["claim one"] * 7


def test_a_newcomer_sees_the_view_that_the_claim_names(folder, stages, spoken_run):
    made = spoken_run.folder.parent / "made.h5"
    asked = claim(retest="onboarding", sees="other", options={"steps": 2})
    (found,) = measure_claims([asked], folder, {"own": made, "other": made}, stages)
    assert "(sees other)" in found.sentence
    assert found.command == f"heliograph onboard {folder / 'runs' / 'a'} {made}"


def test_numbers_of_metrics_json_of_this_and_of_other_experiments(folder, stages):
    measures = {"accuracy_last_epoch": "last epoch"}
    own = claim(measures=measures)
    shutil.copytree(folder / "runs", folder.parent / "other" / "runs")
    other = claim(measures=measures, experiment="other")
    missing = claim(measures=measures, experiment="gone")
    needy = claim(measures=measures, experiment="matched-frames", needs="weights of V-JEPA 2")
    results = measure_claims([own, other, missing, needy], folder, {}, stages)
    mean = Run.open(folder / "runs" / "a").metrics().accuracy_last_epoch.mean
    for found in results[:2]:
        assert found.sentence.startswith(f"last epoch {100 * mean:.1f} ± ")
    out = folder.parent
    assert results[1].command == f"heliograph experiment other --out {out}"
    assert results[2].sentence == f"not run: heliograph experiment gone --out {out}, then this"
    assert results[3].sentence == "not run: needs weights of V-JEPA 2"
    files = "--features vjepa2=FILE --features dinov2=FILE"
    assert results[3].command == f"heliograph experiment matched-frames {files} --out {out}"
    page = claims_page("Claims", results, folder)
    assert page.count("Not run.") == 2
    assert "[T: 1 \\| 2](#t-1--2)" in page


def test_several_runs_are_read_side_by_side(folder, stages):
    shutil.copytree(folder / "runs" / "a", folder / "runs" / "b")
    asked = claim(measures={"accuracy_last_epoch": "last epoch"}, run=["a", "b"])
    (found,) = measure_claims([asked], folder, {}, stages)
    assert found.sentence.startswith("a: last epoch ")
    assert ". b: last epoch " in found.sentence
    assert [row[0] for row in found.table[1]] == ["a: last epoch", "b: last epoch"]


def test_claims_about_what_was_left_out_say_so(folder, stages, spoken_run):
    left_out = {"a": "sees motion: give it"}
    asked = [claim(retest="noise"), claim(retest="swaps", run="b", other="a")]
    for found in measure_claims(asked, folder, {}, stages, left_out):
        assert found.sentence == "not run: a sees motion: give it"
        assert found.table is None
    (found,) = measure_claims([claim(retest="onboarding", sees="other")], folder, {}, stages)
    assert found.sentence == (
        "not run: the newcomer sees other: give it with --features other=FILE"
    )
    assert stages.done == []


def test_the_page_of_the_experiment_shows_what_is_said_and_what_was_measured(folder, stages):
    asked = claim(retest="noise", holds="<much> more", file="results/a.json")
    results = measure_claims([asked], folder, {}, stages)
    own = parse(f"{RECIPE}{NOISE}", "own", "own.toml")
    about = {"views": {}, "runs": {}, "device": "cpu", "cores": 1, "versions": {}}
    page = render(own, [], about, {}, results)
    for part in ("<h2>Claims</h2>", "&lt;much&gt; more", "results/a.json", "sigma 0.5"):
        assert part in page
    assert "<h2>Claims</h2>" not in render(own, [], about, {})


def test_a_run_that_a_re_test_is_not_for_says_so(folder, stages, monkeypatch):
    monkeypatch.setattr("pipeline.runs.Run.has_symbols", False)
    (found,) = measure_claims([claim(retest="noise")], folder, {}, stages)
    assert found.sentence.startswith("not run: ")
    assert "claims are about agents that send symbols" in found.sentence
    assert found.table is None


def test_the_page_of_the_docs_has_every_claim_of_the_recipe():
    page = DOCS.read_text(encoding="utf-8")
    for own in find("claims").claims:
        row = markdown_table(([own.title], [[f"{own.says} ({own.source})"]]))
        for cell in row.splitlines()[::2]:
            assert cell.strip("| ") in page, "run `heliograph experiment claims`, copy claims.md"
        assert own.holds.replace("|", "\\|") in page
