"""From videos in a bucket to a page: every step reads, and extraction writes, at addresses."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import backbones
from data.copies import copy_of
from data.files import path_of
from pipeline.evaluation import evaluate
from pipeline.runs import Run
from pipeline.training import tasks
from tests.helpers.buckets import Bucket, serve_bucket
from tests.helpers.command import run
from tests.helpers.films import make_film
from tests.helpers.pages import read_page
from tests.helpers.tiny_backbone import TINY_ENTRY

CLIPS = 24
CACHE, OTHER, RUN = "s3://clips/made.h5", "s3://clips/other.h5", "s3://clips/runs/ours"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory) -> Iterator[Bucket]:
    """Films of twelve objects, and as many of others."""
    place = tmp_path_factory.mktemp("films")
    with serve_bucket() as bucket:
        for name, first in (("films", 0), ("others", CLIPS)):
            rows = ["path,object,mass,scenario"]
            for number in range(first, first + CLIPS):
                film = make_film(place / f"{number}.mp4", number, frames=9 + number // 2)
                bucket.put(f"{name}/{number}.mp4", film.read_bytes())
                rows.append(f"{number}.mp4,o{number // 2},{10 + number // 2 % 12},{name}")
            bucket.put(f"{name}/table.csv", "\n".join(rows).encode())
        yield bucket


@pytest.fixture(scope="module")
def folder(bucket, tmp_path_factory) -> Iterator[Path]:
    """A run that was trained on a cache in the bucket, where there is a copy of it, too."""
    place = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backbones.BACKBONES, "tiny", TINY_ENTRY)
        patch.setenv("XDG_CACHE_HOME", str(place / "home"))
        for name, out in (("films", CACHE), ("others", OTHER)):
            words = "--backbone", "tiny", "--device", "cpu", "--frames", 4
            made = run("extract", f"s3://clips/{name}/table.csv", "-o", out, *words)
            assert made.exit_code == 0, made.stderr
        words = "--property", "mass", "--seeds", 1, "--epochs", 2
        made = run("train", CACHE, "-o", place / "run", *words)
        assert made.exit_code == 0, made.stderr
        for path in (place / "run").rglob("*"):
            if path.is_file():
                name = path.relative_to(place / "run").as_posix()
                bucket.put(f"runs/ours/{name}", path.read_bytes())
        yield place / "run"


def test_report_of_a_run_there_on_its_videos_there(bucket, folder, tmp_path):
    page = tmp_path / "page.html"
    shown = run("report", RUN, "-o", page)
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.strip() == str(page)
    assert len(read_page(page).all("img")) > 1
    assert bucket.count("GET", "/films/") > 1
    refused = run("report", RUN)
    assert f"{RUN} is not written, as it is an address: copy" in refused.stderr
    assert not list(copy_of(path_of(RUN)).rglob("*.html"))


def test_evaluation_on_a_cache_there(folder):
    shown = run("evaluate", folder, "--on", OTHER, "--permutations", 10)
    assert shown.exit_code == 0, shown.stderr
    (transfer,) = Run.open(folder).metrics().transfer
    assert transfer == OTHER


def test_evaluation_on_videos_there(bucket, folder, monkeypatch):
    pytest.importorskip("cv2")
    module = sys.modules[evaluate.__module__]
    monkeypatch.setattr(module, "PARTS", module.PARTS[:1])  # the baselines alone
    bucket.requests.clear()
    shown = run("evaluate", folder, "--videos", "--permutations", 10)
    assert shown.exit_code == 0, shown.stderr
    baselines = Run.open(folder).metrics().baselines
    assert baselines["shortcuts"].mean > 0.5
    assert baselines["optical_flow"] is not None
    assert bucket.count("GET", "/films/") == CLIPS
    elsewhere = run(
        "evaluate", folder, "--videos", "--clips", "s3://clips/others", "--permutations", 10
    )
    assert elsewhere.exit_code == 0, elsewhere.stderr
    missing = Run.open(folder).metrics().missing_baselines["shortcuts"]
    assert "24 of 24 clips cannot be read from their videos" in missing


@pytest.mark.usefixtures("folder")
def test_a_node_copies_a_cache_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "driver"))
    word = f"films={copy_of(path_of(CACHE))}"
    place = tasks._place(word)
    assert place == ("films=", CACHE)
    assert tasks._place("a.h5") == ("", str(Path("a.h5").absolute()))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "node"))
    settings = {"properties": ["mass"], "seeds": range(1), "epochs": 1}
    trained = tasks._train([place], tmp_path / "run", settings, 1)
    assert trained.error is None
    (source,) = Run.open(tmp_path / "run").sources
    assert (source.name, str(source.path)) == ("films", CACHE)
    assert list((tmp_path / "node").rglob("made.h5"))
