"""Extraction on a real Ray of two nodes, one of which is killed: the cache is that of one process.

All tests of Ray share a cluster, which takes long to start; each says how many nodes it wants.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from data import cache
from data.cache import read_ledger
from data.cache.ledger import new_entries
from data.errors import HeliographError, InvalidValueError
from data.video import Sampling
from pipeline.cluster import Cluster
from pipeline.extraction import extract
from tests.helpers.buckets import serve_bucket
from tests.helpers.cluster_backbones import (
    end_at_once,
    load_slow_tiny_together,
    load_tiny,
    load_tiny_with,
)
from tests.helpers.command import run
from tests.helpers.films import make_film
from tests.helpers.servers import Answer, serve

ray = pytest.importorskip("ray", reason="the package ray is not installed")

ROOT = Path(__file__).resolve().parents[3]
SETTINGS: dict[str, Any] = {"sampling": Sampling(frames=4), "dtype": "float32"}
DRIVER = """
import signal
import sys
from pathlib import Path
from data.video import Sampling
from pipeline.cluster import Cluster
from pipeline.extraction import extract, require_clips
from tests.helpers.cluster_backbones import load_slow_tiny
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background has none
films, out, address = sys.argv[1:]
require_clips(extract(
    films, out, backbone=load_slow_tiny, sampling=Sampling(frames=4), dtype="float32", workers=2,
    cluster=Cluster(address),
))
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films of which two are equal, and a file that is none."""
    films = tmp_path_factory.mktemp("films")
    for number in range(12):
        make_film(films / f"{number:02d}.mp4", number)
    shutil.copy(films / "01.mp4", films / "12.mp4")
    (films / "none.mp4").write_text("no film")
    return films


@pytest.fixture(scope="module")
def plain(films, tmp_path_factory) -> Path:
    """The cache that one process makes."""
    target = Path(tmp_path_factory.mktemp("plain")) / "plain.h5"
    extract(films, target, backbone=load_tiny(), workers=1, **SETTINGS)
    return target


def require_equal(left: Path, right: Path) -> None:
    assert cache.load(left).differences(cache.load(right)) == []
    assert cache.load(left).content_sha256 == cache.load(right).content_sha256
    assert cache.verify(right) == []
    assert not right.with_name(f"{right.name}.joined").exists()


def test_clips_at_addresses_are_fetched_by_the_actors(films, plain, nodes, tmp_path):
    nodes(2)
    names = sorted(film.name for film in films.iterdir())
    files = {f"/{film.name}": film.read_bytes() for film in films.iterdir()}
    files["/clips.csv"] = "\n".join(["path", *names]).encode()
    target = tmp_path / "c.h5"
    with serve(lambda method, path, headers: Answer(200, {}, files[path])) as server:
        table = f"{server.url}/clips.csv"
        extract(table, target, backbone=load_tiny, cluster=Cluster(), **SETTINGS)
    made = cache.load(target)
    assert made.content_sha256 == cache.load(plain).content_sha256
    assert list(made.clip_id) == names[:-1]


@pytest.mark.parametrize(("count", "actors"), [(1, 1), (2, 2), (2, 4)])
def test_the_cache_is_that_of_one_process(count, actors, films, plain, nodes, tmp_path):
    nodes(count)
    target, workers = tmp_path / "c.h5", 2 * count // actors
    summary = extract(
        films, target, backbone=load_tiny, workers=workers, cluster=Cluster(), **SETTINGS
    )
    assert (summary.done + summary.kept, list(summary.failed)) == (13, ["none.mp4"])
    assert (summary.clips, summary.left_to_others, summary.finished) == (14, 0, 14)
    assert summary.bottleneck in ("decode", "backbone")
    require_equal(plain, target)
    known = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    assert {entry["node"] for entry in read_ledger(target)} <= known
    if actors == 1:
        again = extract(films, target, backbone=load_tiny, cluster=Cluster(), **SETTINGS)
        assert (again.done, again.kept, len(again.failed)) == (0, 13, 1)
        require_equal(plain, target)


def test_a_node_that_is_killed_costs_its_clips_in_flight(films, plain, nodes, tmp_path):
    two = nodes(2)
    target, killed, counts = tmp_path / "c.h5", threading.Event(), []
    together = tmp_path / "loaded"
    together.mkdir()

    def kill(summary: Any) -> None:
        counts.append(summary.done)
        entries = [
            entry
            for path in tmp_path.glob("c.h5.joined/writers/*.jsonl")
            for entry, _ in new_entries(path, 0)
        ]
        done = {entry["node"] for entry in entries if entry["outcome"] == "done"}
        if len(done) == 2 and not killed.is_set():
            killed.set()
            two[-1].kill_raylet()

    summary = extract(
        films,
        target,
        backbone=partial(load_slow_tiny_together, together, 2),
        workers=1,
        cluster=Cluster(),
        progress=kill,
        **SETTINGS,
    )
    nodes(1)
    assert killed.is_set()
    assert max(counts) <= summary.done + summary.kept == 13
    assert any("was lost" in note for note in summary.notes)
    require_equal(plain, target)
    entries = [entry for entry in read_ledger(target) if entry["outcome"] == "done"]
    assert len({entry["node"] for entry in entries}) == 2
    assert len(entries) <= 13 + 4  # what was computed twice was in flight


def test_the_cache_may_be_at_an_address(films, plain, nodes, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    nodes(1)
    with serve_bucket() as bucket:
        names = ("AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        load = partial(load_tiny_with, {name: os.environ[name] for name in names})
        extract(films, "s3://clips/c.h5", backbone=load, cluster=Cluster(), **SETTINGS)
        assert bucket.names() == ["c.h5", "c.h5.ledger.jsonl"]
        (tmp_path / "c.h5").write_bytes(bucket.get("c.h5"))
    require_equal(plain, tmp_path / "c.h5")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_driver_that_is_stopped_or_killed_goes_on(
    how, films, plain, nodes, ray_cluster, tmp_path
):
    nodes(1)
    target = tmp_path / "c.h5"
    command = [sys.executable, "-c", DRIVER, films, target, ray_cluster.address]
    driver = subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("c.h5.joined/shards/*/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    driver.send_signal(how)
    _, said = driver.communicate(timeout=120)
    if how == signal.SIGINT:
        assert "StoppedError: interrupted with" in said.decode()
        assert 0 < len(cache.load(target).clip_id) < 13
    else:
        assert driver.returncode == -how
        assert not target.exists()
    summary = extract(films, target, backbone=load_tiny, workers=1, cluster=Cluster(), **SETTINGS)
    assert summary.kept > 0
    require_equal(plain, target)


def test_the_command(films, nodes, ray_cluster, tmp_path):
    nodes(1)
    out, words = tmp_path / "c.h5", ("--ray-address", ray_cluster.address, "--device", "cpu")
    shown = run("extract", films, "-o", out, "--backbone", "pixels", "--frames", 4, *words)
    assert shown.exit_code == 3
    assert "failed: none.mp4: a text file" in shown.stderr
    assert len(cache.load(out).clip_id) == 13
    shown = run("extract", films, "-o", tmp_path / "d.h5", "--backbone", "no", *words)
    assert shown.exit_code == 2
    assert "Error: no backbone 'no': choose one of" in shown.stderr
    shown = run("extract", films, "-o", tmp_path / "e.h5", "--workers", 3, *words)
    assert shown.exit_code == 1
    assert "no node of the Ray cluster has 3 cores: ask for fewer --workers" in shown.stderr
    words = ("--ray-address", ray_cluster.address, "--ray-gpus", 1)
    shown = run("extract", films, "-o", tmp_path / "f.h5", "--backbone", "pixels", *words)
    assert shown.exit_code == 1
    assert "no node of the Ray cluster has a GPU: leave --ray-gpus out, which ta" in shown.stderr
    assert not list(tmp_path.glob("f.h5*"))


def test_actors_load_the_backbone(films, tmp_path):
    with pytest.raises(InvalidValueError, match="give its name, or a function that loads it"):
        extract(films, tmp_path / "c.h5", backbone=load_tiny(), cluster=Cluster(), **SETTINGS)


def test_actors_that_end_again_and_again(films, nodes, tmp_path):
    nodes(1)
    with pytest.raises(HeliographError, match=r"end before they have done a clip: .*; each n"):
        extract(films, tmp_path / "c.h5", backbone=end_at_once, cluster=Cluster(), **SETTINGS)
