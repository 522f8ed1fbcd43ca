"""Processes that extract the same clips at once: together they make the cache of one process."""

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from data import cache
from data.cache.joined import store as joined_store
from data.cache.joined.clip_lists import name_of_claim
from data.files import WriteError
from data.video import Sampling
from data.windows import Windows
from pipeline.extraction import extract
from tests.helpers.clips import encode
from tests.helpers.command import run
from tests.helpers.films import make_film

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = {"sampling": Sampling(frames=4), "workers": 1}
COMMAND = """
import sys
import torch
import backbones
from pipeline.cli import main
from tests.helpers.tiny_backbone import TINY_ENTRY
torch.set_num_threads(1)
backbones.BACKBONES["tiny"] = TINY_ENTRY
main()
"""


@pytest.fixture
def films(folder, tmp_path) -> Path:
    """Films of which two are equal, and a file that is none."""
    films = Path(shutil.copytree(folder, tmp_path / "films"))
    shutil.copy(films / "1.mp4", films / "4.mp4")
    return films


def require_equal(left: Path, right: Path) -> None:
    assert cache.load(left).differences(cache.load(right)) == []
    assert cache.verify(right) == []
    assert not right.with_name(f"{right.name}.joined").exists()


@pytest.mark.parametrize("count", [1, 3])
def test_together_they_make_the_cache_of_one(count, films, tmp_path, tiny):
    plain, joined = tmp_path / "plain.h5", tmp_path / "joined.h5"
    extract(films, plain, backbone=tiny(), **SETTINGS)

    def one(_: int) -> object:
        return extract(films, joined, backbone=tiny(), join=True, **SETTINGS)

    with ThreadPoolExecutor(count) as threads:
        found = list(threads.map(one, range(count)))
    assert sum(each.done + (count == 1) * each.kept for each in found) >= 5
    assert min(each.left_to_others for each in found) == 0
    for each in found:
        assert each.finished + each.left_to_others == 7
    require_equal(plain, joined)


CUT = {"windows": Windows(every=0.25, span=0.5), **SETTINGS}


class TestWindows:
    """Of every film of a second three windows, and of a short one none."""

    @pytest.fixture
    def films(self, films):
        for number in range(3):
            encode(films / f"long {number}.mp4", codec="mpeg4", frames=25 + number, rate=25)
        return films

    @pytest.fixture
    def plain(self, films, tmp_path, tiny):
        extract(films, tmp_path / "plain.h5", backbone=tiny(), **CUT)
        found = cache.load(tmp_path / "plain.h5")
        assert [clip for clip in found.clip_id if clip.startswith("long")] == [
            f"long {number}.mp4#{times}"
            for number in range(3)
            for times in ("000000-000000.5", "000000.25-000000.75", "000000.5-000001")
        ]
        return tmp_path / "plain.h5"

    @pytest.mark.parametrize("count", [1, 3])
    def test_together_they_make_the_cache_of_one(self, count, films, plain, tmp_path, tiny):
        joined = tmp_path / "joined.h5"

        def one(_: int) -> object:
            return extract(films, joined, backbone=tiny(), join=True, **CUT)

        with ThreadPoolExecutor(count) as threads:
            found = list(threads.map(one, range(count)))
        assert min(each.left_to_others for each in found) == 0
        require_equal(plain, joined)
        again = extract(films, joined, backbone=tiny(), join=True, **CUT)
        assert (again.done, again.kept) == (0, len(cache.load(plain)))
        require_equal(plain, joined)

    def test_what_one_left_another_goes_on_with(self, films, plain, tmp_path, tiny, monkeypatch):
        joined = tmp_path / "joined.h5"
        add, added = cache.JoinedStore.add, []

        def stopped(self, clip, *given, **named):
            if len(added) == 4:
                raise WriteError("stopped")
            added.append(clip.id)
            add(self, clip, *given, **named)

        with monkeypatch.context() as patch:
            patch.setattr(joined_store.random, "randrange", lambda count: count - 1)
            patch.setattr(cache.JoinedStore, "add", stopped)
            with pytest.raises(WriteError):
                extract(films, joined, backbone=tiny(), join=True, **CUT)
        assert not joined.exists()
        second = extract(films, joined, backbone=tiny(), join=True, **CUT)
        assert second.done + len(added) <= len(cache.load(plain))
        assert second.finished == second.clips == len(cache.load(plain)) + len(second.failed)
        require_equal(plain, joined)

    def test_consolidation_where_they_died(self, films, plain, tmp_path, tiny, monkeypatch):
        joined = tmp_path / "joined.h5"
        with monkeypatch.context() as patch:
            patch.setattr(cache.JoinedStore, "consolidate", lambda self, clips: self.target)
            patch.setattr(cache.JoinedStore, "close", lambda self: self.claims.stop())
            extract(films, joined, backbone=tiny(), join=True, **CUT)
        for claim in tmp_path.glob("joined.h5.joined/claims/*"):
            claim.unlink()
        found = cache.consolidate_joined(joined)
        assert (found.clips, found.unfinished) == (len(cache.load(plain)), 0)
        require_equal(plain, joined)

    def test_consolidation_where_none_was_done(self, films, tmp_path, tiny, monkeypatch):
        def stopped(*args, **details):
            raise WriteError("the disk is full")

        out = tmp_path / "joined.h5"
        with monkeypatch.context() as patch:
            patch.setattr(cache.JoinedStore, "add", stopped)
            patch.setattr(cache.JoinedStore, "close", lambda self: self.claims.stop())
            with pytest.raises(WriteError):
                extract(films, out, backbone=tiny(), join=True, **SETTINGS)
        for claim in tmp_path.glob("joined.h5.joined/claims/*"):
            claim.unlink()
        shown = run("cache", "consolidate", out)
        assert shown.exit_code == 1
        said = f"{out}: nothing to consolidate: none of [0-9]+ clips is done, and [01] failed; the"
        assert re.search(said, shown.stderr), shown.stderr
        assert not out.exists()

    def test_other_windows_are_refused(self, films, tmp_path, tiny):
        out, words = tmp_path / "c.h5", ("--backbone", "tiny", "--frames", 4, "--join")
        made = {"shape": [2, 5], "dtype": "float16", "windows": {"every": 0.25, "span": 0.5}}
        (tmp_path / "c.h5.joined").mkdir()
        (tmp_path / "c.h5.joined" / "features.json").write_text(json.dumps(made))
        shown = run("extract", films, "-o", out, *words)
        assert shown.exit_code == 1
        assert (
            "joined by cut windows with --every 0.25 --span 0.5, and this one nothing into windows"
            in shown.stderr
        )


def test_what_others_are_at_is_left_to_them(films, tmp_path, tiny, monkeypatch):
    out, words = tmp_path / "c.h5", ("--backbone", "tiny", "--frames", 4, "--join")
    claims = tmp_path / "c.h5.joined" / "claims"
    offer = cache.JoinedStore.offer

    def offered(self, clips, known):
        for number, clip in enumerate(offer(self, clips, known)):
            if number == 0:  # meanwhile another process takes the last clip
                name = name_of_claim([clips[-1]])
                (claims / name).write_text("00000000-1-1-0000000000000000")
            yield clip

    monkeypatch.setattr(joined_store.random, "randrange", lambda count: 0)
    monkeypatch.setattr(cache.JoinedStore, "offer", offered)
    shown = run("extract", films, "-o", out, *words)
    assert shown.exit_code == 0
    assert "c.h5 is not written yet: 1 clip left to other processes" in shown.stderr
    assert not out.exists()
    shown = run("cache", "consolidate", out)
    assert shown.exit_code == 1
    assert "is being extracted by process 1 of host 00000000; if that is dead" in shown.stderr
    for claim in claims.iterdir():
        claim.unlink()
    monkeypatch.setattr(cache.JoinedStore, "offer", offer)
    shown = run("cache", "consolidate", out)
    assert shown.exit_code == 3
    assert "c.h5: 6 clips, 0 failed" in shown.stderr
    assert "1 clip not done: the same extract command goes on with them" in shown.stderr
    shown = run("extract", films, "-o", out, *words)
    assert shown.exit_code == 3
    assert "failed: none.mp4" in shown.stderr


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, pytest.param(8, marks=pytest.mark.soak)])
def test_processes_that_are_killed(count, tmp_path, tiny):
    films, plain, joined = tmp_path / "films", tmp_path / "plain.h5", tmp_path / "joined.h5"
    films.mkdir()
    for number in range(12):
        make_film(films / f"{number:02d}.mp4", number)
    extract(films, plain, backbone=tiny(device="cpu"), **SETTINGS)
    words = ["extract", films, "-o", joined, "--join", "--backbone", "tiny", "--device", "cpu"]
    words += ["--frames", "4", "--workers", "1"]
    command = [sys.executable, "-c", COMMAND, *map(str, words)]

    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)

    generator = random.Random(count)
    begun = [start() for _ in range(count)]
    for _ in range(4):
        deadline = time.monotonic() + 120
        shards, seen = tmp_path / "joined.h5.joined", generator.randrange(1, 4)
        while len(list(shards.glob("*/*"))) < seen and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(generator.random())
        victim = generator.randrange(count)
        begun[victim].send_signal(signal.SIGKILL)
        begun[victim].wait()
        begun[victim] = start()
    assert {process.wait(300) for process in begun} == {0}
    if not joined.exists():  # who was left to finish was killed
        assert subprocess.run(command, cwd=ROOT, stderr=subprocess.DEVNULL).returncode == 0
    require_equal(plain, joined)
