"""Runs and their caches at addresses: read as those on this machine, and never written."""

import json
import shutil
from collections.abc import Iterator

import numpy as np
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


@pytest.fixture(scope="module")
def parts(server, spoken_run, tmp_path_factory) -> str:
    """The cache as a folder of parts."""
    folder = tmp_path_factory.mktemp("parts") / "made.h5"
    cache.save(cache.load(spoken_run.source.path), folder, clips_per_part=9)
    for path in folder.iterdir():
        server.put(f"parts/made.h5/{path.name}", path.read_bytes())
    return "s3://clips/parts/made.h5"


class TestFolderOfParts:
    """A cache that is a folder of parts at an address, for every command that reads one."""

    def test_commands_of_caches(self, bucket, parts, spoken_run, tmp_path):
        whole = cache.load(spoken_run.source.path)
        shown = json.loads(run("cache", "info", parts, "--json").stdout)
        assert (shown["path"], shown["content_sha256"]) == (parts, whole.content_sha256)
        checked = run("cache", "verify", parts)
        assert (checked.exit_code, checked.stderr.splitlines()[-1]) == (0, f"{parts} is sound")
        assert run("cache", "merge", parts, "-o", tmp_path / "merged.h5").exit_code == 0
        assert cache.load(tmp_path / "merged.h5").content_sha256 == whole.content_sha256
        out = "s3://clips/parts/merged.h5"
        assert run("cache", "merge", parts, "-o", out).exit_code == 0
        assert bucket.count("PUT", "/clips/parts/merged.h5") == 1
        assert run("cache", "export", parts, "-o", tmp_path / "made.npz").exit_code == 0
        assert np.array_equal(np.load(tmp_path / "made.npz")["features"], whole.features)
        bucket.requests.clear()
        assert run("cache", "info", parts).exit_code == 0
        assert not bucket.count("GET", "parts/made.h5/")  # it is copied once

    @pytest.mark.usefixtures("bucket")
    def test_training_and_evaluation(self, parts, tmp_path):
        words = "--property", "mass", "--seeds", 1, "--epochs", 2
        made = run("train", parts, "-o", tmp_path / "run", *words)
        assert made.exit_code == 0, made.stderr
        stored = json.loads((tmp_path / "run" / "config.json").read_text())
        assert stored["caches"][0]["path"] == parts
        scored = run("evaluate", tmp_path / "run", "--permutations", 10, "--on", parts)
        assert scored.exit_code == 0, scored.stderr

    def test_labels_and_repair(self, bucket, parts, spoken_run, tmp_path):
        clips = cache.load(spoken_run.source.path).clip_id
        table = tmp_path / "mass.csv"
        table.write_text("path,mass\n" + "".join(f"{clip},7\n" for clip in clips))
        copy = "s3://clips/parts/labelled.h5"
        for name in bucket.names():
            if name.startswith("parts/made.h5/"):
                bucket.put(name.replace("made", "labelled"), bucket.get(name))
        labelled = run("cache", "label", copy, table)
        assert labelled.exit_code == 0, labelled.stderr
        after = cache.load(cache.copy_of(path_of(copy)))
        assert set(after.labels["mass"]) == {7}
        (name, *_) = [n for n in bucket.names() if "labelled.h5/" in n and n.endswith(".h5")]
        content = bytearray(bucket.get(name))
        content[3] ^= 1  # in the first copy of its seal
        bucket.put(name, bytes(content))
        assert run("cache", "verify", copy).exit_code == 1
        mended = run("cache", "verify", copy, "--repair", "--device", "cpu")
        assert (mended.exit_code, mended.stderr.splitlines()[-1]) == (0, f"{copy} is sound")
        assert run("cache", "verify", copy).exit_code == 0
