"""Several devices of one machine, a process each: the cache is that of one process."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from data import cache
from data.cache import read_ledger
from data.clips import Clip
from data.errors import InvalidValueError
from pipeline.cluster import Cluster
from pipeline.extraction import extract, hosts
from tests.helpers.cluster_backbones import load_slow_tiny_together, load_tiny
from tests.helpers.command import run
from tests.helpers.films import make_film


@pytest.fixture
def with_a_failure(clips, folder) -> list[Clip]:
    return [*clips, Clip(id="none", path=folder / "none.mp4")]


@pytest.fixture
def plain(with_a_failure, tmp_path) -> Path:
    """The cache that one process makes."""
    extract(with_a_failure, tmp_path / "plain.h5", backbone=load_tiny(), sampling=4, workers=1)
    return tmp_path / "plain.h5"


@pytest.fixture
def started(monkeypatch) -> list[hosts.DeviceProcess]:
    """The processes that were started."""
    started: list[hosts.DeviceProcess] = []

    class Known(hosts.DeviceProcess):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            started.append(self)

    monkeypatch.setattr(hosts, "DeviceProcess", Known)
    return started


def require_equal(left: Path, right: Path) -> None:
    assert cache.load(left).differences(cache.load(right)) == []
    assert cache.load(left).content_sha256 == cache.load(right).content_sha256
    assert cache.verify(right) == []
    assert not right.with_name(f"{right.name}.joined").exists()


def test_a_device_that_dies_costs_its_clips_in_flight(with_a_failure, plain, tmp_path, started):
    target, counts, together = tmp_path / "c.h5", [], tmp_path / "loaded"
    together.mkdir()

    def kill_one(summary: Any) -> None:
        counts.append(summary.done)
        if summary.done > 1 and len(started) == 2 and started[1].child.process.poll() is None:
            started[1].child.kill()

    summary = extract(
        with_a_failure,
        target,
        backbone=partial(load_slow_tiny_together, together, 2),
        sampling=4,
        workers=2,
        devices="cpu,cpu",
        progress=kill_one,
    )
    assert (summary.done + summary.kept, list(summary.failed)) == (6, ["none"])
    assert (summary.clips, summary.finished, summary.left_to_others) == (7, 7, 0)
    assert max(counts) <= 6
    assert summary.bottleneck in ("decode", "backbone")
    assert any("an actor on cpu was lost" in note for note in summary.notes)
    require_equal(plain, target)
    done = [entry for entry in read_ledger(target) if entry["outcome"] == "done"]
    assert {(entry["device"], bool(entry["host"])) for entry in done} == {("cpu", True)}
    assert len(done) <= 6 + 4  # what was computed twice was in flight
    assert {one.child.process.returncode is None for one in started} == {False}


@pytest.mark.slow
def test_ctrl_c_leaves_a_cache_that_is_gone_on_with(tmp_path, started):
    target, together = tmp_path / "c.h5", tmp_path / "loaded"
    together.mkdir()
    films = [make_film(tmp_path / f"{number:02d}.mp4", number) for number in range(24)]

    def interrupt(summary: Any) -> None:
        if summary.done and not summary.interrupted:
            raise KeyboardInterrupt

    summary = extract(
        films,
        target,
        backbone=partial(load_slow_tiny_together, together, 2),
        sampling=4,
        workers=2,
        devices="cpu,cpu",
        progress=interrupt,
    )
    assert summary.interrupted
    assert 0 < len(cache.load(target).clip_id) < 24
    again = extract(films, target, backbone=load_tiny, sampling=4, devices="cpu,cpu")
    assert again.kept >= summary.done
    assert again.done + again.kept == 24
    extract(films, tmp_path / "plain.h5", backbone=load_tiny(), sampling=4)
    require_equal(tmp_path / "plain.h5", target)


def test_wrong_calls(clips, tmp_path):
    go = partial(extract, clips, tmp_path / "c.h5", sampling=4)
    with pytest.raises(InvalidValueError, match="each actor loads the backbone: give its name"):
        go(backbone=load_tiny(), devices="cpu,cpu")
    with pytest.raises(InvalidValueError, match="the backbone has its device: leave `devices` out"):
        go(backbone=load_tiny(), devices="cpu")
    with pytest.raises(InvalidValueError, match="Ray chooses the devices"):
        go(backbone=load_tiny, devices="cpu", cluster=Cluster())
    with pytest.raises(InvalidValueError, match="what a script or a function defines"):
        go(backbone=lambda device: load_tiny(device), devices="cpu,cpu")
    for options in ({"join": True}, {"repair": {"0": "0" * 64}}):
        with pytest.raises(InvalidValueError, match="join"):
            go(backbone=load_tiny, devices="cpu,cpu", **options)


@pytest.mark.slow
def test_the_command(folder, tmp_path):
    out, words = tmp_path / "c.h5", ("--backbone", "pixels", "--frames", 4)
    shown = run("extract", folder, "-o", out, *words, "--device", "cpu,cpu")
    assert shown.exit_code == 3
    assert "failed: none.mp4: a text file" in shown.stderr
    assert len(cache.load(out).clip_id) == 6


def test_a_wrong_command(folder, tmp_path, monkeypatch):
    def refused(*words: Any) -> str:
        shown = run("extract", folder, "-o", tmp_path / "c.h5", *words)
        assert shown.exit_code == (1 if "cuda:all" in words else 2)
        return shown.stderr

    assert "--device cpu,cpu shares the clips itself" in refused("--device", "cpu,cpu", "--join")
    assert "leave --every out" in refused("--device", "cpu,cpu", "--every", 1)
    said = refused("--device", "cpu", "--ray-gpus", 0.5)
    assert "--device cpu has no GPU for --ray-gpus 0.5: leave one of them out" in said
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    said = refused("--device", "cuda:all")
    assert "device 'cuda:all' was asked for, but torch sees no CUDA GPU here" in said
