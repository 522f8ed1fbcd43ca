"""A whole run evaluated: what is added, that it is documented, and what is refused."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from data import cache
from data.errors import HeliographError
from pipeline.evaluation import evaluate
from pipeline.evaluation.structure import assess_messages
from pipeline.metrics import COVERAGE, METRICS, VERDICTS, Metric
from pipeline.report import write_report
from pipeline.report.text import structure_rows
from pipeline.runs import Run, RunMetrics
from pipeline.training import train
from tests.helpers.command import run as run_command
from tests.helpers.pages import read_page

SHOWN: list[tuple[int, int, str]] = []
"""What `evaluate` shows while it computes `metrics`."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, features):
    """A cache, the same by another name, one of other clips, one of other features; a run."""
    folder = tmp_path_factory.mktemp("evaluated")
    action = np.arange(len(features)) % 3 + 1.0
    labels = features.labels | {"action": action, "outcome": features.labels["mass"] * action}
    kept = replace(features, labels=labels)
    cache.save(kept, folder / "made.h5")
    rng = np.random.default_rng(0)
    noise = rng.normal(size=features.features.shape).astype(np.float32)
    cache.save(replace(features, features=noise), folder / "random.h5")
    elsewhere = {
        "clip_id": [f"fall/{clip}" for clip in features.clip_id],
        "object": [f"new_{own}" for own in features.object],
        "scenario": ["fall"] * len(features),
        "fingerprint": dict(features.fingerprint) | {"source": "fall.pt"},
    }
    cache.save(replace(features, **elsewhere), folder / "fall.h5")
    train(
        folder / "made.h5",
        folder / "run",
        properties=["mass", "volume"],
        seeds=range(2),
        epochs=30,
        oracle_epochs=0,
        vocab=4,
        null=3,
    )
    return folder


@pytest.fixture(scope="module")
def metrics(folder):
    """Everything that `evaluate` can find, in one go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.evaluation.controls.STEPS", 60)
        patch.setattr("pipeline.evaluation.fresh_receivers.STEPS", 100)
        patch.setattr("pipeline.evaluation.probes.MLP_STEPS", 60)
        return evaluate(
            folder / "run",
            permutations=50,
            against={"random": folder / "random.h5"},
            on=[folder / "fall.h5", folder / "made.h5"],
            outcome=("outcome", "action"),
            controls=True,
            show=lambda *step: SHOWN.append(step),
        )


def test_what_is_shown_never_goes_back_and_ends_whole(metrics):
    done = [step[0] for step in SHOWN]
    assert done == sorted(done)
    assert done[0] == 0
    assert {step[1] for step in SHOWN} == {100}
    baselines = {step[0] for step in SHOWN if step[2].startswith("baseline")}
    assert len(baselines) > 5  # the longest part is told in steps
    assert SHOWN[-1] == (100, 100, "")
    assert {"baseline ridge", "fresh receivers", "transfer"} <= {step[2] for step in SHOWN}


def test_every_key_is_there(metrics):
    others = {
        "control",
        "imported_from",
        "pulled_from",
        "game",
        "unchecked",
        "leaks",
    }  # of other runs
    assert set(RunMetrics.model_fields) - others == metrics.model_fields_set


def test_a_key_that_the_type_does_not_have_cannot_be_written(folder, metrics):
    stored = metrics.to_json()
    for wrong in ({"luck": 1}, {"noise": stored["noise"] | {"colour": 3}}):
        with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
            metrics.with_keys(wrong)


def test_what_training_wrote_stays(folder, metrics):
    again = Run.open(folder / "run").metrics()
    assert again == metrics
    assert again.seeds == [0, 1]
    assert len(again.accuracy_test.per_seed) == 2


def test_intervals_hold_their_means(metrics):
    def look(value):
        if isinstance(value, dict):
            if {"mean", "interval"} <= set(value) and value["mean"] is not None:
                low, high = value["interval"]
                assert low <= high
            for inner in value.values():
                look(inner)

    look(metrics.to_json())


def test_every_metric_stands_beside_training_clips_and_null_seeds(metrics):
    for name, entry in metrics.compositionality.items():
        assert entry.clips == "held out"
        assert len(entry.on_training_clips.per_seed) == len(entry.per_seed) == 2
        assert len(entry.null_seeds.per_seed) == 3
        assert entry.null_seeds.p_value >= 0.25
        if METRICS[name].structural:
            assert entry.verdict in ("undecided", "no better than chance")
    assert set(metrics.own_positions) == {"mass", "volume"}
    assert all(0.25 <= own.p_value <= 1 for own in metrics.own_positions.values())


def test_tables_and_page_say_where_structure_was_measured(folder, metrics, tmp_path):
    columns, rows = structure_rows(metrics)
    assert columns[1:3] == ["held out", "training"]
    name = "posdis_chaabouni2020"
    own, entry = next(row for row in rows if row[0] == name), metrics.compositionality[name]
    assert own[1].startswith(f"{entry.mean:.3f}")
    assert own[2].startswith(f"{entry.on_training_clips.mean:.3f}")
    assert own[3:5] == [f"{entry.null_seeds.mean:.3f}", f"{entry.null_seeds.p_value:.3f}"]
    words = read_page(write_report(folder / "run", tmp_path / "page.html").path).words
    assert f"null seeds {entry.null_seeds.mean:.2f}" in words
    assert f"on training clips {entry.on_training_clips.mean:.2f}" in words
    assert f"{entry.verdict} : {VERDICTS[entry.verdict]}" in words
    assert "held-out clips" in words
    assert COVERAGE in words


def test_agents_that_can_be_told_from_their_controls(metrics):
    assert metrics.kept_receiver.properties["mass"].mean > 0.7
    assert metrics.baselines["ridge"].properties["mass"].mean > 0.9
    assert metrics.baselines["ridge_random"].properties["mass"].mean < 0.75
    assert metrics.controls["oracle"].properties["mass"].mean > 0.8
    assert metrics.controls["continuous"].properties["mass"].mean > 0.8
    assert metrics.fresh_receivers.accuracy.properties["mass"].mean > 0.75
    assert metrics.outcome.action.mean == 0.5
    assert metrics.outcome.features.mean > 0.85


def test_transfer_to_the_same_clips_is_no_loss(metrics, folder):
    """On its own cache the messages are those of training, and no object is new."""
    own = metrics.transfer[str(folder / "made.h5")]
    fall = metrics.transfer[str(folder / "fall.h5")]
    for name in ("mass", "volume"):
        both = [one.accuracy.properties[name].per_seed for one in (own, fall)]
        assert both[0] == pytest.approx(both[1])
    assert own.clips == fall.clips == 55
    assert own.trained_on > 0
    assert own.known_messages == fall.known_messages > 0.5
    assert fall.new_objects.mean == pytest.approx(fall.accuracy.mean)
    assert own.new_objects.mean != pytest.approx(own.accuracy.mean, abs=1e-9)
    assert fall.ridge.properties["mass"].mean > 0.9


def test_no_file_is_left_in_the_way(folder, metrics):
    names = {path.name for path in (folder / "run").iterdir()}
    assert not {name for name in names if name.startswith(".")}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"on": ["other.h5"]}, "was made with another backbone than the run's cache: its sha256"),
        ({"on": ["narrow.h5"]}, "has 4 steps of 6 features, the run's cache 4 of 12"),
        ({"on": ["unlabelled.h5"]}, "unlabelled.h5 has no label 'volume': its labels are mass"),
        ({"against": {"few": "few.h5"}}, "few.h5 lacks 36 of the run's 56 clips"),
        ({"outcome": ("gone", "action")}, "no label 'gone'"),
    ],
)
def test_wrong_caches_get_one_sentence(folder, features, tmp_path, options, sentence):
    other = dict(features.fingerprint) | {"backbone": "vjepa2_vitl"}
    changed = {
        "other.h5": replace(features, fingerprint=other),
        "narrow.h5": replace(features, features=features.features[:, :, :6]),
        "unlabelled.h5": replace(features, labels={"mass": features.labels["mass"]}),
        "few.h5": features.select(range(20)),
    }
    for name, own in changed.items():
        cache.save(own, tmp_path / name)
    if "on" in options:
        options = {"on": [tmp_path / name for name in options["on"]]}
    if "against" in options:
        options = {"against": {name: tmp_path / file for name, file in options["against"].items()}}
    before = (folder / "run" / "metrics.json").read_bytes()
    with pytest.raises(HeliographError) as error:
        evaluate(folder / "run", permutations=10, **options)
    if "sha256" not in sentence:
        assert sentence in str(error.value)
    else:
        assert "its backbone is 'vjepa2_vitl', the run's not known" in str(error.value)
    assert "\n" not in str(error.value)
    assert (folder / "run" / "metrics.json").read_bytes() == before


def test_the_help_names_the_baselines_without_a_network():
    shown = run_command("evaluate", "--help").stdout
    for name in ("pixels", "differences", "first_frame", "optical_flow", "shortcuts"):
        assert name in shown


def test_the_command_prints_tables(folder, tmp_path):
    shutil.copytree(folder / "run", tmp_path / "run")
    words = ["evaluate", str(tmp_path / "run"), "--permutations", "20"]
    shown = run_command(*words, "--against", f"blind={folder / 'random.h5'}")
    assert shown.exit_code == 0
    for text in (
        "baseline: ridge_blind",
        "new receivers on frozen messages",
        "all time steps over the middle one",
        "agent 2, position 1",
        "drop of the property that a position carries",
        "outcome (not trained on)",
        "bits a message",
    ):
        assert text in shown.stdout, text
    lacking = "no pixels, differences, first frame: 55 of 55 clips of made have no thumbnails"
    assert lacking in shown.stdout
    assert "baseline: volume" not in shown.stdout  # it is a property here


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--outcome", "mass"], 2, "--outcome and --action go together"),
        (["--against", "a=x.h5", "--against", "a=y.h5"], 2, "needs a unique name: NAME=CACHE"),
        (["--permutations", "1"], 2, "1 is not a whole number from 10 to 1000000"),
    ],
)
def test_wrong_words_get_a_sentence(folder, words, code, sentence):
    shown = run_command("evaluate", str(folder / "run"), *words)
    assert shown.exit_code == code
    assert sentence in shown.stderr
    assert "Traceback" not in shown.stderr


def test_where_smaller_is_better_chance_is_asked_for_small_values(
    compositional, metrics, monkeypatch
):
    errors = Metric(
        name="errors",
        title="Errors",
        function=lambda tokens, attributes: float(np.mean(tokens[:, 0] != attributes[:, 0])),
        definition="the share of clips whose first symbol is not the first property's bin",
        chance="1 - 1 / bins",
        source="this test",
        better="smaller",
    )
    monkeypatch.setitem(METRICS, errors.name, errors)
    keys = assess_messages(compositional, permutations=20)
    assert keys["compositionality"]["errors"]["p_value"] == pytest.approx(1 / 21)
    assert keys["bins"]["errors"]["5"]["p_value"] == pytest.approx(1 / 21)
    _, rows = structure_rows(metrics.with_keys(keys))
    assert next(row for row in rows if row[0] == "errors")[-1] == "smaller is better"


def test_a_new_metric_is_evaluated_stored_and_shown(compositional, metrics, monkeypatch):
    new = Metric(
        name="first_symbol",
        title="First symbol",
        function=lambda tokens, attributes: float(np.mean(tokens[:, 0] == attributes[:, 0])),
        definition="the share of clips whose first symbol is the first property's bin",
        chance="1 / bins",
        source="this test",
    )
    monkeypatch.setitem(METRICS, new.name, new)
    keys = assess_messages(compositional, permutations=20)
    assert keys["compositionality"]["first_symbol"]["mean"] == 1
    assert keys["compositionality"]["first_symbol"]["null_mean"] < 0.5
    assert set(keys["bins"]["first_symbol"]) == {"3", "5", "8"}
    _, rows = structure_rows(metrics.with_keys(keys))
    assert next(row for row in rows if row[0] == "first_symbol")[1] == "1.000 ± 0.000"
