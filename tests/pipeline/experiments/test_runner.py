"""Experiments end to end, small; what is kept, and what is refused."""

import csv
import json
import math
import os
import re

import numpy as np
import pytest
import torch

from data import cache
from data.errors import HeliographError
from pipeline.experiments import (
    NAMES,
    accuracy_table,
    find,
    measure_notes,
    measure_tables,
    require_features,
)
from pipeline.experiments.recipe import PaperNumber, parse
from pipeline.experiments.tables import ALL, result_rows
from pipeline.runs import Outcome, RunMetrics
from pipeline.runs.metrics_schema import AboveMedian
from tests.helpers.command import run as run_command

RECIPE = """
title = "Small"
question = "Does <it> run?"
note = "Not the paper's scene."
[clips]
scene = "collision"
grid = 3
per_cell = 6
seconds = 1.0
[views.moving]
steps = 4
pool = "grid1+motion2"
[train]
properties = ["mass_ratio", "restitution"]
seeds = 1
epochs = 2
oracle_epochs = 2
vocab = 3
[evaluate]
outcome = "struck_distance_m"
action = "launch_speed_m_s"
permutations = 20
[measures]
"outcome.above_median.messages" = "far?"
"outcome.above_median_left_out.messages" = "far after another launch?"
"outcome.above_median.ratio" = "share"
"compositionality.posdis_wmcp" = "PosDis"
[[runs]]
name = "one"
title = "one agent"
agents = 1
[runs.paper]
accuracy = ["76.7 %", "phase 54f"]
[runs.control]
title = "one symbol"
"""


def run(*words):
    return run_command("experiment", *words)


def write_paper_ramp(path):
    """Write features of the paper's layout: a vector a scene, and a list of what each shows."""
    bins = [(e, f) for e in range(3) for f in range(3) for _ in range(4)]
    vectors = np.random.RandomState(0).randn(len(bins), 12) * 0.1
    vectors[:, :2] += bins
    index = [{"elasticity_bin": e, "friction_bin": f, "x_travel": 1.0} for e, f in bins]
    torch.save({"features": torch.tensor(vectors).half(), "index": index}, path)
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("mapped")
def test_a_recipe_from_video_to_page_and_again(tmp_path):
    own = tmp_path / "small.toml"
    own.write_text(RECIPE)
    words = (own, "--out", tmp_path / "out", "--backbone", "mapped", "--device", "cpu")
    shown = run(*words)
    assert shown.exit_code == 0, shown.output
    for part in ("one agent", "one symbol", "76.7 % (1)", "(1) phase 54f", "far?"):
        assert part in shown.stdout
    out = tmp_path / "out"
    folder = out / "small"
    features = cache.load(out / "features" / "collision-3x3x6-1s-mapped-grid1+motion2-4steps.h5")
    assert features.features.shape == (54, 4, 3 + 12)
    assert features.sampler["frames"] == 10
    with open(folder / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["setting"] for row in rows} == {"one agent", "one symbol"}
    assert {row["part"] for row in rows} == {ALL, "mass_ratio", "restitution", ""}
    assert json.loads((folder / "table.json").read_text())[0]["measure"] == "accuracy_test"
    about = json.loads((folder / "experiment.json").read_text())
    assert {"clips", "features of moving", "training one", "report one"} <= set(about["stages"])
    page = (folder / "report.html").read_text()
    assert "Does &lt;it&gt; run?" in page
    for link in re.findall(r'href="([^"]*)"', page):
        assert (folder / link).is_file()
    assert "http" not in page.replace("http-equiv", "")

    kept = [path for path in out.rglob("*") if path.is_file() and path.parent != folder]
    before = {path: path.stat().st_mtime_ns for path in kept}
    again = run(*words, "--json")
    assert again.exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    assert json.loads(again.stdout)["seconds"] == about["stages"]
    assert json.loads((folder / "experiment.json").read_text()) == about

    other = run(*words, "--seeds", 2)
    assert other.exit_code == 1
    assert "holds a finished run of something else" in other.stderr


@pytest.mark.slow
@pytest.mark.timeout(1500)  # on busy cores
@pytest.mark.usefixtures("mapped")
def test_all_of_ours_run_small(tmp_path, cache_path):
    paper_ramp = write_paper_ramp(tmp_path / "pooled.pt")
    shown = run(
        "all", "--out", tmp_path / "out", "--grid", 4, "--per-cell", 3, "--seeds", 1,
        "--epochs", 2, "--null", 0, "--backbone", "mapped,pixels", "--features", cache_path,
        "--features", f"paper-ramp={paper_ramp}", "--json",
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    found = {own["experiment"]: own for own in json.loads(shown.stdout)}
    lacking = ("three-backbones", "matched-frames", "residual-mass")
    assert tuple(found) == tuple(name for name in NAMES if name not in lacking)
    for name in lacking:
        assert f"{name} is left out: it needs" in shown.stderr
    for own in found.values():
        last = [line for line in own["lines"] if line["measure"] == "accuracy_last_epoch"]
        assert last
        assert all(0 <= line["mean"] <= 1 for line in last)
        assert (tmp_path / "out" / own["experiment"] / "report.html").is_file()
    claims = {own["name"]: own for own in found["claims"]["claims"]}
    assert "needs two seeds" in claims["swaps-seeds"]["measured"]
    assert claims["noise"]["rows"]
    assert "4-agents: from messages and speed " in claims["action"]["measured"]
    assert "what messages add " in claims["action"]["measured"]
    assert "restitution, asked " in claims["queries"]["measured"]
    assert "3-agents: accuracy " in claims["several-agents"]["measured"]
    assert "share of seeds compositional by it " in claims["seeds"]["measured"]
    assert claims["three-backbones"]["measured"].startswith("not run: needs the weights of V-JEP")
    assert (tmp_path / "out" / "claims" / "claims.md").is_file()
    made = {path.name for path in (tmp_path / "out" / "clips").iterdir()}
    assert made == {"ramp-4x4x3-2s", "collision-4x4x3-2s"}


def stand_in(path, steps=8):
    """Write features of 12 springs, six clips each: some say mass, some volume, which go along."""
    rng = np.random.default_rng(0)
    mass, count = np.repeat(np.arange(10.0, 130.0, 10.0), 6), 72
    volume = mass / 2 + np.repeat(np.tile([5.0, -5.0, 20.0], 4), 6)
    features = rng.normal(size=(count, steps, 6)) * 0.1
    features[:, :, 0] += mass[:, None] / 50
    features[:, :, 1] += volume[:, None] / 50
    objects = [f"spring{clip // 6}" for clip in range(count)]
    labels = {"mass": mass, "volume": volume, "mass_ratio": mass, "restitution": volume}
    made = cache.Features(
        features=features.astype(np.float32),
        clip_id=[f"{name}/{clip % 6}" for clip, name in enumerate(objects)],
        object=objects,
        scenario=["spring"] * count,
        labels=labels,
        fingerprint={"imported": True, "source": path.name},
    )
    cache.save(made, path)
    return path


@pytest.mark.slow
def test_recipes_of_features_that_are_not_here_run_on_stand_ins(tmp_path):
    video, frames, still = (
        stand_in(tmp_path / f"{name}.h5", steps)
        for name, steps in (("video", 8), ("frames", 16), ("still", 1))
    )
    out, size = tmp_path / "out", ("--seeds", 1, "--epochs", 1, "--out", tmp_path / "out")
    asked = {
        "three-backbones": {"vjepa2": video, "dinov2": still, "clip": still},
        "matched-frames": {"vjepa2": video, "dinov2": frames},
        "residual-mass": {"video": video},
    }
    for name, files in asked.items():
        given = [word for view, file in files.items() for word in ("--features", f"{view}={file}")]
        shown = run(name, *given, *size)
        assert shown.exit_code == 0, shown.output
        for training in find(name).trainings:
            assert training.title in shown.stdout
        assert "given: " in (out / name / "report.html").read_text()
    pairs = cache.load(out / "features" / "frames-averaged2.h5")
    assert pairs.features.shape == (72, 8, 6)
    config = json.loads((out / "residual-mass" / "runs" / "2-agents" / "config.json").read_text())
    assert config["config"]["properties"] == ["mass_without_volume"]

    claims = run(
        "claims", "--features", f"motion={video}", "--features", f"places={frames}",
        "--property", "mass", *size, "--json",
    )  # fmt: skip
    assert claims.exit_code == 0, claims.output
    assert "four-agents-pixels is left out: it sees pixels" in claims.stderr
    found = {own["name"]: own["measured"] for own in json.loads(claims.stdout)["claims"]}
    assert found["onboarding"].startswith("not run: the newcomer sees pixels: give it")
    assert "(sees places)" in found["onboarding-needed"]
    assert found["swaps"].startswith("not run: four-agents-pixels sees pixels")
    assert "without noise" in found["noise"]
    assert "three: accuracy " in found["three-backbones"]
    assert "dinov2-pairs: accuracy " in found["matched-frames"]
    assert "2-agents-mass: accuracy " in found["residual-mass"]
    assert not (out / "clips").exists()


def test_without_files_for_a_view_its_runs_are_left_out(tmp_path):
    file = stand_in(tmp_path / "video.h5")
    own = find("three-backbones")
    left_out = require_features(own, {"vjepa2": file, "dinov2": file})
    assert list(left_out) == ["vjepa2-clip", "dinov2-clip", "three", "four"]
    assert left_out["three"] == "sees clip: give it (.pt or .h5) with --features clip=FILE"
    other = own.sized(properties=["friction"])
    with pytest.raises(
        HeliographError, match=r"needs, features of the spring clips .* no friction"
    ):
        require_features(other, {"vjepa2": file, "dinov2": file})


@pytest.mark.slow
def test_agents_share_the_only_vector_of_a_scene(tmp_path):
    file = write_paper_ramp(tmp_path / "pooled.pt")
    out, size = tmp_path / "out", ("--seeds", 1, "--epochs", 2)
    shown = run("paper-ramp", "--features", f"paper-ramp={file}", "--out", out, *size)
    assert shown.exit_code == 0, shown.output
    rows = json.loads((out / "paper-ramp" / "table.json").read_text())
    assert "70.1 % ± 4.6" in {row["paper"] for row in rows}
    runs = out / "paper-ramp" / "runs"
    bits = {}
    for folder in runs.iterdir():
        config = json.loads((folder / "config.json").read_text())["config"]
        bits[folder.name] = config["agents"] * config["heads"] * math.log2(config["vocab"])
        messages = (folder / "messages.jsonl").read_text().splitlines()
        assert len(messages) == 36
    assert set(bits.values()) == {12.0}


def test_a_recipe_without_its_file_is_left_out_by_name(tmp_path):
    (tmp_path / "out").write_text("a file where the folder would be, so that no other runs")
    shown = run("all", "--features", tmp_path / "none.h5", "--out", tmp_path / "out")
    assert shown.exit_code == 1
    assert (
        "paper-ramp is left out: it needs --features paper-ramp=FILE, the paper's" in shown.stderr
    )
    assert "phase87 is left out" not in shown.stderr


def test_the_list_names_them_all():
    shown = run("--list", "--json")
    assert [row["name"] for row in json.loads(shown.stdout)] == list(NAMES)
    assert "collision-5x5x12-2s" in run("--list").stdout


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ((), 2, "name an experiment, or ask for the --list"),
        (("jump",), 2, "no experiment 'jump': choose one of ramp, "),
        (("phase87",), 2, "give the file (.pt or .h5) with --features"),
        (("ramp", "--backbone", "eyes"), 2, "no backbone 'eyes'"),
        (("ramp", "--backbone", "clip_vitl14,dinov2_vits14"), 2, "ramp takes one backbone, not 2"),
        (("phase87", "--features", "gone.h5"), 1, "gone.h5"),
        (("phase87", "--features", "gone.pt"), 1, "gone.pt"),
        (("phase87", "--features", "phase87=gone.pt"), 1, "gone.pt"),
        (("phase87", "--features", "odd/name=gone.pt"), 1, "odd/name=gone.pt"),
        (("phase87", "--features", "ramp=a.pt"), 2, "no 'ramp', choose one of features, phase87"),
        (("all", "--features", "jump=a.pt"), 2, "no 'jump', choose one of ramp, collision, "),
        (("ramp", "--features", "ramp=gone.pt"), 1, "gone.pt"),
        (("ramp", "--features", "motion=gone.h5"), 1, "gone.h5"),
        (("ramp", "--features", "gone.pt"), 1, "gone.pt"),
        (
            ("ramp", "--property", "mass"),
            1,
            "the scene ramp is not what ramp needs: it has no mass",
        ),
        (("claims", "--features", "a.h5"), 2, "claims has several views, name one of motion, pix"),
        (
            ("all", "--features", "claims=a.h5"),
            2,
            "claims has several views, with `heliograph experiment claims`, name one of motion",
        ),
        (
            ("three-backbones",),
            2,
            "give them (.pt or .h5) with --features vjepa2=FILE --features dinov2=FILE --features",
        ),
        (("residual-mass",), 2, "give it (.pt or .h5) with --features video=FILE"),
        (("phase87", "--features", "phase87="), 2, "--features phase87= names no file"),
        (
            ("all", "--features", "a.pt", "--features", "phase87=b.pt"),
            2,
            "two files for phase87, a.pt and b.pt",
        ),
    ],
)
def test_what_cannot_be_is_said(tmp_path, words, code, sentence):
    shown = run(*words, "--out", tmp_path / "out")
    assert shown.exit_code == code
    assert sentence in shown.stderr
    assert "Traceback" not in shown.stderr


def score(mean, **more):
    return {"mean": mean, "std": 0.1, "per_seed": [mean - 0.1, mean + 0.1]} | more


def with_outcome(stored, *, ratio):
    """Metrics with an outcome of which only the ratio is known."""
    above_median = AboveMedian.model_construct(ratio=ratio, retained=None)
    outcome = Outcome.model_construct(above_median=above_median)
    metrics = RunMetrics.read(stored, properties=(), seeds=2)
    return metrics.model_copy(update={"outcome": outcome})


def test_lines_and_tables_say_what_metrics_say():
    each = {
        "accuracy_test": score(0.6),
        "accuracy_last_epoch": score(0.5),
        "accuracy_published_protocol": score(0.7),
    }
    structure = {"interval": [None, None], "null_mean": 0.05, "null_low": 0.0, "null_high": 0.1}
    structure |= {"p_value": 0.0001, "p_per_seed": [0.1, 0.1], "verdict": "compositional"}
    structure |= {"codebook_mean": 0.0, "p_codebook": 0.01}
    estimate = {"interval": [0.4, 0.8]}
    stored = each | {
        "properties": {"a": each, "b": each},
        "kept_receiver": score(0.6, **estimate) | {"properties": {"a": score(0.6, **estimate)}},
        "baselines": {
            "ridge": score(0.9, **estimate) | {"properties": {"a": score(0.8, **estimate)}},
            "differences": score(0.7, **estimate) | {"properties": {}},
            "majority": None,
        },
        "compositionality": {"topsim": score(0.3) | structure, "posdis_wmcp": None},
    }
    metrics = with_outcome(stored, ratio=0.94)
    lines = result_rows(
        "two",
        "runs/two",
        metrics,
        measures={
            "compositionality.topsim": "TopSim",
            "compositionality.posdis_wmcp": "PosDis",
            "outcome.above_median.ratio": "share",
            "outcome.above_median.retained": "above chance",
            "outcome.gone": "gone",
        },
        paper={
            "accuracy": PaperNumber("98 %", "here"),
            "compositionality.topsim": PaperNumber("1", "x"),
        },
    )
    columns, rows = accuracy_table(lines)
    assert columns[4:] == ["ridge", "differences", "majority", "paper"]  # no run has pixels
    assert rows[0] == [
        "two",
        "60.0 ± 10.0 [40, 80]",
        "50.0 ± 10.0",
        "70.0 ± 10.0",
        "90.0",
        "70.0",
        "-",
        "98 % (1)",
    ]
    assert rows[1][0] == "  a"
    assert rows[1][4] == "80.0"
    assert rows[2][4] == "-"
    (shares, theirs), (structure, ours) = measure_tables(lines)
    assert shares == ["next to the accuracy, %", "here [95 %]"]
    assert theirs[:2] == [["two", ""], ["  share", "94.0"]]
    assert [row[1] for row in theirs[2:]] == ["-", "-"]
    assert structure[2:] == ["chance", "p", "verdict", "paper"]
    assert ours[1] == [
        "  TopSim",
        "0.30 ± 0.10 [0.00, 1.00]",
        "0.05",
        "p < 0.001",
        "compositional",
        "1 (2)",
    ]
    assert ours[2] == ["  PosDis", "-", "-", "-", "-", "-"]
    assert measure_notes(lines) == []  # an interval over seeds, and a verdict


def test_notes_say_what_intervals_of_structure_hold_and_how_verdicts_are_had():
    structure = {
        "interval": [0.1, 0.5], "null_mean": 0.05, "null_low": 0.0, "null_high": 0.1,
        "p_value": 0.0001, "p_per_seed": [0.1, 0.1], "verdict": "not tested",
        "codebook_mean": 0.0, "p_codebook": 0.01,
    }  # fmt: skip
    each = dict.fromkeys(
        ("accuracy_test", "accuracy_last_epoch", "accuracy_published_protocol"), score(0.6)
    )
    stored = each | {
        "properties": {"a": each},
        "compositionality": {"topsim": score(0.3) | structure},
    }
    metrics = with_outcome(stored, ratio=0.9)
    measures = {"compositionality.topsim": "TopSim"}
    lines = result_rows("s", "runs/s", metrics, measures=measures, paper={})
    coverage, untested = measure_notes(lines)
    assert "can be read as 95 % intervals, the others not" in coverage
    assert "`null = 39` under [train]" in untested
    assert measure_notes(lines[:3]) == []
    with_nulls = find("vocabulary").text.replace("[train]", "[train]\nnull = 39")
    assert {one.config().null for one in parse(with_nulls, "mine", "mine").trainings} == {39}


def test_columns_that_nothing_fills_are_left_out():
    each = dict.fromkeys(
        ("accuracy_test", "accuracy_last_epoch", "accuracy_published_protocol"), score(0.6)
    )
    metrics = with_outcome(each | {"properties": {"mass": each}}, ratio=0.9)
    measures = {"outcome.above_median.ratio": "r"}
    lines = result_rows("s", "runs/s", metrics, measures=measures, paper={})
    assert measure_tables(lines)[0][0] == ["next to the accuracy, %", "here [95 %]"]
    assert measure_tables(lines[:3]) == []
    columns, rows = accuracy_table(lines)
    assert (columns[0], rows[0][0]) == ("accuracy of mass, %", "s")


@pytest.mark.parametrize("given", ["phase87", "a=b.h5", "phase87=a=b.h5"])
def test_a_file_is_found_by_its_recipe_or_alone(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    for name in ("phase87", "a=b.h5"):
        (tmp_path / name).write_bytes(b"no cache")
    shown = run("phase87", "--features", given, "--out", "out")
    assert shown.exit_code == 1
    assert f"Error: {given.removeprefix('phase87=')}" in shown.stderr


@pytest.mark.parametrize("suffix", [".pt", ".h5"])
def test_features_that_are_no_file_are_refused_at_once(tmp_path, suffix):
    fifo = tmp_path / f"features{suffix}"
    os.mkfifo(fifo)
    shown = run("phase87", "--features", fifo, "--out", tmp_path / "out")
    assert shown.exit_code == 1
    assert f"Error: {fifo} " in shown.stderr


@pytest.mark.parametrize("name", ["experiment.json", "table.csv"])
def test_what_is_no_file_in_the_folder_of_an_experiment_is_not_waited_for(tmp_path, name):
    folder = tmp_path / "out" / "phase87"
    folder.mkdir(parents=True)
    os.mkfifo(folder / name)
    shown = run("phase87", "--features", tmp_path / "none.h5", "--out", tmp_path / "out")
    assert shown.exit_code == 1
    assert "Traceback" not in shown.stderr


def test_a_file_of_other_features_is_noticed_before_anything_is_made(tmp_path, cache_path):
    out = tmp_path / "out"
    shown = run("paper-ramp", "--features", cache_path, "--out", out)
    assert shown.exit_code == 1
    assert f"Error: {cache_path} is not what paper-ramp needs, the paper's features" in shown.stderr
    assert "it has no elasticity, its labels are mass, volume" in shown.stderr
    ramp = write_paper_ramp(tmp_path / "pooled.pt")
    out = tmp_path / "in_the_way"
    out.write_text("a file where the folder would be, so that nothing runs")
    shown = run("all", "--features", f"phase87={ramp}", "--out", out)
    first = shown.stderr.splitlines()[0]
    assert first.startswith(f"phase87: {ramp} is not what phase87 needs")
    assert "it has no mass, its labels are elasticity, friction" in first
    assert shown.stderr.count("is not what phase87 needs") == 1
