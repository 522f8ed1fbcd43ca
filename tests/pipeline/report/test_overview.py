"""Pages about several runs: a sweep, a comparison, and the list of a folder."""

import json
import shutil
from pathlib import Path

import pytest

from data import cache
from data.cache import Features
from pipeline.evaluation import evaluate
from pipeline.report import list_runs
from pipeline.report.report import FOLDER
from tests.helpers.command import run
from tests.helpers.pages import read_page


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, features: Features) -> Path:
    """A folder with a sweep of two runs and a third run, evaluated."""
    folder = tmp_path_factory.mktemp("runs")
    cache_path = tmp_path_factory.mktemp("cache") / "made.h5"
    cache.save(features, cache_path)
    brief = ("--property", "mass", "--seeds", "2", "--epochs", "2")
    done = run("train", cache_path, "-o", folder / "sweep", *brief, "--sweep", "vocab=3,5")
    assert done.exit_code == 0, done.stderr
    done = run("train", cache_path, "-o", folder / "alone", *brief)
    assert done.exit_code == 0, done.stderr
    evaluate(folder / "alone", permutations=10)
    return folder


def test_a_sweep_has_a_page_with_every_run(folder):
    done = run("report", folder / "sweep")
    assert done.exit_code == 0, done.stderr
    page = read_page(Path(done.stdout.strip()))
    assert done.stdout == f"{folder / 'sweep' / 'report.html'}\n"
    assert "A sweep over vocab" in page.words
    for vocab in (3, 5):
        assert f"vocab {vocab}" in page.words
        mean = json.loads((folder / "sweep" / f"vocab-{vocab}" / "metrics.json").read_text())
        assert f"{100 * mean['accuracy_test']['mean']:.1f} %" in page.words
    assert page.scripts == page.all("img") == []
    assert run("report", folder / "sweep").exit_code == 0  # its own page is replaced


def test_a_page_of_a_sweep_leads_to_the_pages_of_its_runs(folder):
    run("report", folder / "sweep" / "vocab-3")
    page = read_page(Path(run("report", folder / "sweep").stdout.strip()))
    assert [one["href"] for one in page.all("a")] == ["vocab-3/report.html"]


def test_what_is_of_one_run_is_refused_for_a_sweep(folder, tmp_path):
    for words in (("--clips", tmp_path), ("--corpus", tmp_path / "a.jsonl")):
        done = run("report", folder / "sweep", *words)
        assert done.exit_code == 2
        assert "is a sweep: --corpus, --clips and --cache are of one of its runs" in done.stderr
    (tmp_path / "mine.html").write_text("mine")
    done = run("report", folder / "sweep", "-o", tmp_path / "mine.html")
    assert done.exit_code == 1
    assert "is something else" in done.stderr
    assert (tmp_path / "mine.html").read_text() == "mine"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a\n1\n",
        b"folder,error\n../alone,\n",
        b"folder,error\n,\n",
        b"\xff",
        b"folder\nx\n",
        b"folder,error\nx,\n",
        b"vocab,folder,error\n3,x,,4\n",
        b'vocab,folder,error\n3,x,"' + b"a" * 200_000 + b"\n",
    ],
)
def test_a_damaged_sweep_is_a_sentence(tmp_path, content):
    (tmp_path / "sweep.csv").write_bytes(content)
    done = run("report", tmp_path)
    assert done.exit_code == 1
    assert "sweep.csv is damaged: " in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "report.html").exists()


def test_a_comparison_has_a_page(folder, tmp_path):
    runs = folder / "alone", folder / "sweep" / "vocab-3"
    words = ["compare", *runs, "-o", tmp_path / "page.html"]
    done = run(*words)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == run("compare", *runs).stdout
    page = read_page(tmp_path / "page.html")
    for name in (*map(str, runs), "2 seeds in common", "Difference, in points", "the two runs"):
        assert name in page.words
    assert page.scripts == []
    again = run(*words)
    assert again.exit_code == 1
    assert "page.html exists" in again.stderr
    three = run(*words, folder / "sweep" / "vocab-5", "--overwrite")
    assert three.exit_code == 0
    assert "corrected for 3 pairs (Holm)" in read_page(tmp_path / "page.html").words


def test_a_page_replaces_nothing_that_a_run_is_made_of(folder, tmp_path):
    sweep = tmp_path / "sweep"
    shutil.copytree(folder / "sweep", sweep)
    first, second = sweep / "vocab-3", sweep / "vocab-5"
    before = {path: path.read_bytes() for path in sweep.rglob("*") if path.is_file()}
    for place in (first / "metrics.json", second / "seeds" / "0" / "messages.jsonl"):
        for words in (("compare", first, second), ("report", sweep)):
            done = run(*words, "-o", place, "--overwrite")
            assert done.exit_code == 1
            assert f"{place} is not replaced: " in done.stderr
    done = run("report", sweep, "-o", sweep / "sweep.csv", "--overwrite")
    assert done.exit_code == 1
    assert f"sweep.csv is not replaced: {sweep} is made of it" in done.stderr
    assert {path: path.read_bytes() for path in before} == before


def test_a_folder_lists_its_runs_and_sweeps(folder, tmp_path):
    listed = list_runs(folder)
    assert [(Path(one.folder).name, one.kind) for one in listed] == [
        ("alone", "run"), ("sweep", "sweep"), ("vocab-3", "run"), ("vocab-5", "run"),
    ]  # fmt: skip
    alone, sweep, cell, _ = listed
    metrics = json.loads((folder / "alone" / "metrics.json").read_text())
    assert alone.accuracy == metrics["accuracy_test"]["mean"]
    assert alone.ridge == metrics["baselines"]["ridge"]["mean"]
    assert (alone.agents, alone.heads, alone.seeds, alone.sweep) == (2, 2, 2, "")
    assert (sweep.runs, cell.sweep, cell.vocab, cell.ridge) == (2, str(folder / "sweep"), 3, None)
    shown = run("runs", folder)
    assert shown.exit_code == 0
    assert f"{100 * alone.accuracy:.1f} %" in shown.stdout
    assert "a sweep of 2 runs" in shown.stdout
    assert json.loads(run("runs", folder, "--json").stdout)[0] == alone.to_json() | {
        "properties": ["mass"]
    }


def test_a_list_names_what_is_damaged_and_what_is_not_finished(folder, tmp_path):
    shutil.copytree(folder / "alone", tmp_path / "broken")
    (tmp_path / "broken" / "metrics.json").write_text("{}")
    (tmp_path / "begun" / "unfinished").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "config.json").write_text("{}")
    shown = run("runs", tmp_path)
    assert shown.exit_code == 3
    assert "failed: " in shown.stderr
    assert "metrics.json" in shown.stderr
    assert [line.split()[1:] for line in shown.stdout.splitlines()[1:]] == [
        ["not", "finished"], ["cannot", "be", "read"],
    ]  # fmt: skip


def test_a_folder_of_another_program_is_no_run(tmp_path):
    (tmp_path / "model" / "inner").mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "model" / name).write_text("{}")
    assert list_runs(tmp_path) == []


def test_a_folder_without_runs_and_no_folder(tmp_path):
    shown = run("runs", tmp_path)
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert "holds no runs: `heliograph train CACHE -o RUN` makes one" in shown.stderr
    gone = run("runs", tmp_path / "gone")
    assert gone.exit_code == 1
    assert "gone is no folder: name one that holds runs" in gone.stderr


def test_a_long_word_does_not_widen_a_page():
    style = (FOLDER / "report.css").read_text()
    body = style.partition("\nbody {")[2].partition("}")[0]
    assert "overflow-wrap: break-word" in body


def test_a_link_to_itself_among_the_files_of_a_run(folder, tmp_path):
    copy = shutil.copytree(folder / "sweep" / "vocab-3", tmp_path / "run")
    model = copy / "seeds" / "0" / "model.pt"
    model.unlink()
    model.symlink_to(model.name)
    done = run("report", copy, "-o", tmp_path / "page.html")
    assert done.exit_code == 0, done.stderr
    done = run("report", copy, "-o", model)
    assert done.exit_code == 1
    assert "is not replaced" in done.stderr
