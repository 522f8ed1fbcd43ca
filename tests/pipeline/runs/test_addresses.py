"""Runs and their caches at addresses: read as those on this machine, and never written."""

import json
import shutil
from collections.abc import Iterator

import pytest

from data import cache
from data.files import path_of
from pipeline.dataset import CacheSource
from pipeline.runs import Run, load_inputs
from tests.helpers.buckets import Bucket, serve_bucket
from tests.helpers.command import run
from tests.helpers.runs import reseal

CACHE = "s3://clips/sets/made.h5"


@pytest.fixture(scope="module")
def server(spoken_run) -> Iterator[Bucket]:
    """A bucket with a run and its cache."""
    with serve_bucket() as bucket:
        bucket.put("sets/made.h5", spoken_run.source.path.read_bytes())
        for path in spoken_run.folder.rglob("*"):
            if path.is_file():
                name = path.relative_to(spoken_run.folder).as_posix()
                bucket.put(f"runs/spoken/{name}", path.read_bytes())
        yield bucket


@pytest.fixture
def bucket(server, tmp_path, monkeypatch) -> Bucket:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return server


@pytest.mark.usefixtures("bucket")
def test_a_run_at_an_address_speaks_of_a_cache_at_one(spoken_run):
    here = run("message", spoken_run.folder, spoken_run.source.path)
    there = run("message", "s3://clips/runs/spoken", CACHE)
    assert there.exit_code == 0
    assert there.stdout == here.stdout != ""


@pytest.mark.usefixtures("bucket")
def test_nothing_is_written_into_it():
    shown = run("report", "s3://clips/runs/spoken")
    assert shown.exit_code == 1
    assert "s3://clips/runs/spoken is not written, as it is an address: copy" in shown.stderr


def test_a_cache_is_known_by_its_address(bucket, spoken_run, tmp_path):
    copy = cache.copy_of(path_of(CACHE))
    source = CacheSource.of(copy, cache.load(copy))
    assert str(source.path) == CACHE
    assert CacheSource.from_json(json.loads(json.dumps(source.to_json()))) == source
    folder = tmp_path / "run"
    shutil.copytree(spoken_run.folder, folder)
    stored = json.loads((folder / "config.json").read_text())
    stored["caches"][0]["path"] = CACHE
    (folder / "config.json").write_text(json.dumps(stored))
    reseal(folder)
    inputs = load_inputs(Run.open(folder))
    assert inputs.paths == (copy,)
    assert len(inputs.clips) == len(load_inputs(spoken_run).clips)
    bucket.faults["HEAD"] = ["403 Forbidden"] * 9
    shown = run("evaluate", folder)
    assert "the server answers 403, no access" in shown.stderr
    assert "--cache says where else it is" in shown.stderr
    bucket.faults.clear()
