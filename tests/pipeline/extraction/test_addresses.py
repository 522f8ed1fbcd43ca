"""Clips at addresses: the cache that the same files on this machine give."""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import polars
import pytest

import backbones
from data import cache, listings, remote
from data.cache import CacheError
from data.clips import ClipError
from data.errors import InvalidValueError
from data.files import path_of, temporary_path
from data.manifests import list_clips
from data.video import Sampling
from data.windows import Windows
from pipeline.extraction import extract
from tests.helpers.buckets import Bucket, serve_bucket
from tests.helpers.caches import full
from tests.helpers.cluster_backbones import load_tiny
from tests.helpers.command import run
from tests.helpers.paper_files import make_paper_features
from tests.helpers.tiny_backbone import TINY_ENTRY

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = {"sampling": Sampling(frames=4), "workers": 2}
JOIN = """
import sys
from data.video import Sampling
from pipeline.extraction import extract
from tests.helpers.cluster_backbones import load_slow_tiny
backbone = load_slow_tiny()
extract(*sys.argv[1:], backbone=backbone, sampling=Sampling(frames=4), workers=1, join=True)
"""


@pytest.fixture(scope="module")
def bucket(folder) -> Iterator[Bucket]:
    """The films of the folder, in `films/`, with a table of them."""
    with serve_bucket() as bucket:
        for film in sorted(folder.glob("*.mp4")):
            bucket.put(f"films/{film.name}", film.read_bytes())
        rows = [f"{n}.mp4,o{n % 2},{n + 0.5}" for n in range(6)]
        bucket.put("films/table.csv", "\n".join(["path,object,mass", *rows]).encode())
        yield bucket


@pytest.fixture(autouse=True)
def _clean(bucket, tmp_path_factory, monkeypatch) -> Iterator[None]:
    """See that no file that was fetched is left."""
    place = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    bucket.requests.clear()
    bucket.faults.clear()
    yield
    assert not list(place.glob(".heliograph*"))


def test_the_cache_is_that_of_files_here(bucket, clips, folder, tmp_path, tiny):
    extract(clips, tmp_path / "here.h5", backbone=tiny(), **SETTINGS)
    there = [replace(c, path=path_of(f"s3://clips/films/{c.path.name}")) for c in clips]
    summary = extract(there, tmp_path / "there.h5", backbone=tiny(), **SETTINGS)
    assert (summary.done, summary.failed) == (6, {})
    here, cached = cache.load(tmp_path / "here.h5"), cache.load(tmp_path / "there.h5")
    assert here.differences(cached) == []
    assert list(here.key) == list(cached.key)
    assert bucket.count("GET", ".mp4") == 6  # each is read once


def test_what_is_recorded_is_not_fetched_again(bucket, tmp_path, tiny):
    folder, out = "s3://clips/films", tmp_path / "a.h5"
    first = extract(folder, out, backbone=tiny(), **SETTINGS)
    assert (first.done, list(first.failed)) == (6, ["none.mp4"])
    bucket.requests.clear()
    again = extract(folder, out, backbone=tiny(), **SETTINGS)
    assert (again.kept, list(again.failed)) == (6, ["none.mp4"])
    asked = {path for verb, path in bucket.requests if verb == "HEAD"}
    assert asked == {"/clips/films/none.mp4"}  # the list of the folder told of the others
    assert [path for verb, path in bucket.requests if verb == "GET" and "list" not in path] == [
        "/clips",
        "/clips/films/none.mp4",
    ]
    bucket.requests.clear()
    rehashed = extract(folder, out, backbone=tiny(), rehash=True, **SETTINGS)
    assert rehashed.kept == 6
    assert bucket.count("GET", ".mp4") == 7


def test_a_file_that_changed_is_fetched(bucket, folder, tmp_path, tiny):
    at = bucket.put("other/a.mp4", (folder / "0.mp4").read_bytes())
    extract(at, tmp_path / "a.h5", backbone=tiny(), **SETTINGS)
    bucket.put("other/a.mp4", (folder / "1.mp4").read_bytes())
    assert extract(at, tmp_path / "a.h5", backbone=tiny(), **SETTINGS).done == 1


def test_a_table_at_an_address(bucket, tmp_path, tiny):
    clips = list_clips(["s3://clips/films/table.csv"])
    assert [str(clip.path) for clip in clips[:2]] == [
        "s3://clips/films/0.mp4",
        "s3://clips/films/1.mp4",
    ]
    assert (clips[1].id, clips[1].object, clips[1].labels) == ("1.mp4", "o1", {"mass": 1.5})
    here = tmp_path / "clips.csv"
    here.write_text("path\ns3://clips/films/3.mp4\n")
    (clip,) = list_clips([here])
    assert str(clip.path) == "s3://clips/films/3.mp4"
    here.write_text("path\ns3://clips//3.mp4\n")
    with pytest.raises(ClipError, match=r"clips\.csv, line 2: .* name that is empty"):
        list_clips([here])


def test_parquet_tables_at_addresses(bucket):
    polars.DataFrame({"path": ["0.mp4"], "mass": [1.5]}).write_parquet(file := io.BytesIO())
    bucket.put("films/table.parquet", file.getvalue())
    (clip,) = list_clips(["s3://clips/films/table.parquet"])
    assert (str(clip.path), clip.labels) == ("s3://clips/films/0.mp4", {"mass": 1.5})
    bucket.put("films/table.parquet", b"PAR1 damaged PAR1")
    with pytest.raises(ClipError, match=r"^s3://clips/films/table\.parquet is no sound Parquet"):
        list_clips(["s3://clips/films/table.parquet"])


def test_a_second_run_of_a_table_asks_for_no_clip(bucket, tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(listings, "LEAST_FILES", 6)
    monkeypatch.setattr(remote, "_listed", {})
    table, out = "s3://clips/films/table.csv", tmp_path / "a.h5"
    assert extract(table, out, backbone=tiny(), **SETTINGS).done == 6
    assert bucket.count("GET", ".mp4") == 6
    assert not listings_of(bucket)  # a first run has nothing to compare
    bucket.requests.clear()
    assert extract(table, out, backbone=tiny(), **SETTINGS).kept == 6
    assert not bucket.count("HEAD", ".mp4")
    assert len(listings_of(bucket)) == 1


def listings_of(bucket: Bucket) -> list[tuple[str, str]]:
    """Return the requests for lists of the bucket."""
    return [one for one in bucket.requests if one == ("GET", "/clips")]


def test_what_cannot_be_had_costs_its_clip(bucket, tmp_path, tiny):
    given = ["s3://clips/films/0.mp4", "s3://clips/films/gone.mp4", "s3://no-bucket/a.mp4"]
    summary = extract(given, tmp_path / "a.h5", backbone=tiny(), **SETTINGS)
    assert summary.done == 1
    assert summary.failed == {
        "gone.mp4": "s3://clips/films/gone.mp4 cannot be fetched: there is no such file (404): "
        "check the address",
        "a.mp4": "s3://no-bucket/a.mp4 cannot be fetched: there is no such file (404): check the "
        "address",
    }


def test_a_read_that_is_cut_short_is_made_good(bucket, tmp_path, tiny):
    bucket.faults["GET"] = ["cut", "500 Internal Server Error"]
    given = "s3://clips/films/0.mp4"
    assert extract(given, tmp_path / "a.h5", backbone=tiny(), **SETTINGS).done == 1


def test_windows_of_a_video_come_from_one_download(bucket, folder, tmp_path, tiny):
    windows, one = Windows(every=0.1, span=0.2), {**SETTINGS, "workers": 1}
    extract(folder / "0.mp4", tmp_path / "a.h5", backbone=tiny(), windows=windows, **one)
    at = "s3://clips/films/0.mp4"
    summary = extract(at, tmp_path / "b.h5", backbone=tiny(), windows=windows, **one)
    assert summary.done > 1, summary.failed
    assert cache.load(tmp_path / "a.h5").differences(cache.load(tmp_path / "b.h5")) == []
    stretches = tmp_path / "stretches.csv"
    stretches.write_text(f"path,start,end\n{at},0,0.16\n{at},0.16,0.36\n")
    bucket.requests.clear()
    assert extract(stretches, tmp_path / "c.h5", backbone=tiny(), **one).done == 2
    assert bucket.count("GET", ".mp4") == 1


def test_a_manifest_in_a_folder_is_pointed_at(bucket, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(backbones.BACKBONES, "tiny", TINY_ENTRY)
    bucket.put("listed/a.mp4", (folder / "0.mp4").read_bytes())
    words = ("extract", "s3://clips/listed", "-o", tmp_path / "a.h5", "--backbone", "tiny")
    words = (*words, "--frames", 4, "--device", "cpu")
    said = "s3://clips/listed is read as a folder, without labels: s3://clips/listed/manifest.jsonl"
    assert said not in run(*words).stderr
    bucket.put("listed/manifest.jsonl", b"")
    shown = run(*words)
    assert (shown.exit_code, f"{said} has them" in shown.stderr) == (0, True), shown.stderr


def test_processes_that_join(bucket, clips, tmp_path, tiny):
    extract(clips, tmp_path / "here.h5", backbone=tiny(), **SETTINGS)
    there = [replace(c, path=path_of(f"s3://clips/films/{c.path.name}")) for c in clips]
    out = tmp_path / "joined.h5"
    assert extract(there, out, backbone=tiny(), join=True, **SETTINGS).done == 6
    assert cache.load(tmp_path / "here.h5").differences(cache.load(out)) == []
    ledger = [json.loads(line) for line in cache.ledger_path(out).open()]
    assert {line["path"] for line in ledger} == {str(clip.path) for clip in there}
    assert all("etag" in line for line in ledger)
    bucket.requests.clear()
    assert extract(there, out, backbone=tiny(), join=True, **SETTINGS).kept == 6
    assert not bucket.count("GET", ".mp4")


def test_what_a_killed_process_left_is_removed(bucket, tmp_path, tiny):
    living = temporary_path(Path(tempfile.gettempdir(), "heliograph"))
    dead = living.with_name(living.name.replace(f"-{os.getpid()}-", "-4194303-"))
    dead.mkdir()
    (dead / "1.mp4").touch()
    extract("s3://clips/films/0.mp4", tmp_path / "a.h5", backbone=tiny(), **SETTINGS)
    assert not dead.exists()


@pytest.fixture
def whole(clips, tmp_path, tiny, monkeypatch) -> cache.Features:
    """The cache in a file here; from now on it is a folder of parts, of two clips each."""
    extract(clips, tmp_path / "here.h5", backbone=tiny(), **SETTINGS)
    whole = cache.load(tmp_path / "here.h5")
    of_a_clip = whole.features[:1].nbytes + whole.thumbnails[:1].nbytes
    monkeypatch.setattr("data.cache.parts.PART_BYTES", 2 * of_a_clip)
    monkeypatch.setitem(backbones.BACKBONES, "tiny", TINY_ENTRY)
    return whole


def require_equal(bucket: Bucket, name: str, tmp_path: Path) -> None:
    """See that a cache in the bucket is `here.h5`, and that nothing else is left of it."""
    (tmp_path / "fetched.h5").write_bytes(bucket.get(name))
    here, there = cache.load(tmp_path / "here.h5"), cache.load(tmp_path / "fetched.h5")
    assert there.differences(here) == []
    assert there.content_sha256 == here.content_sha256
    assert [one for one in bucket.names() if one.startswith(name)] == [
        name,
        f"{name}.ledger.jsonl",
    ]
    assert not list((tmp_path / "home").rglob("*.tmp"))


class TestOutputs:
    @pytest.fixture(autouse=True)
    def _home(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))

    def test_the_cache_is_published_read_and_mended(
        self, bucket, clips, tmp_path, tiny, monkeypatch
    ):
        extract(clips, tmp_path / "here.h5", backbone=tiny(), **SETTINGS)
        out = "s3://clips/made/a.h5"
        summary = extract(clips[:3], out, backbone=tiny(), **SETTINGS)
        assert (summary.done, str(summary.target)) == (3, out)
        assert extract(clips, out, backbone=tiny(), **SETTINGS).done == 3  # it goes on
        shown = run("cache", "info", out, "--json")
        assert json.loads(shown.stdout)["clips"] == 6
        (tmp_path / "fetched.h5").write_bytes(bucket.get("made/a.h5"))
        fetched = cache.load(tmp_path / "fetched.h5")
        assert fetched.differences(cache.load(tmp_path / "here.h5")) == []
        assert run("cache", "verify", out).exit_code == 0
        content = bytearray(bucket.get("made/a.h5"))
        at = content.index(fetched.features[2].tobytes())
        content[at] ^= 1
        bucket.put("made/a.h5", bytes(content))
        assert run("cache", "verify", out).exit_code == 1
        monkeypatch.setitem(backbones.BACKBONES, "tiny", TINY_ENTRY)
        mended = run("cache", "verify", out, "--repair", "--device", "cpu")
        assert (mended.exit_code, f"{out} is sound" in mended.stderr) == (0, True), mended.stderr
        assert f"{out}: 1 clip extracted" in mended.stderr
        assert str(tmp_path) not in mended.stdout + mended.stderr
        (tmp_path / "fetched.h5").write_bytes(bucket.get("made/a.h5"))
        assert cache.load(tmp_path / "fetched.h5").content_sha256 == fetched.content_sha256

    def test_commands_that_write_a_cache(self, bucket, tmp_path):
        here, out = full(tmp_path / "here.h5", 4), "s3://clips/written/a.h5"
        for sentence in (f"{out}: 4 clips", f"{out}: already there"):
            made = run("cache", "merge", here, "-o", out)
            assert (made.exit_code, made.stderr.splitlines()[-1]) == (0, sentence)
        other = run("cache", "import", make_paper_features(tmp_path / "p.pt"), "-o", out)
        assert (other.exit_code, f"{out} exists, and is something else" in other.stderr) == (
            1,
            True,
        )
        (tmp_path / "mass.csv").write_text(
            "path,mass\n" + "".join(f"{clip},7\n" for clip in cache.load(here).clip_id)
        )
        labelled = run("cache", "label", out, tmp_path / "mass.csv")
        assert (labelled.exit_code, labelled.stderr.splitlines()[-1]) == (
            0,
            f"{out}: labels changed",
        )
        (tmp_path / "fetched.h5").write_bytes(bucket.get("written/a.h5"))
        assert set(cache.load(tmp_path / "fetched.h5").labels["mass"]) == {7}
        gone = run("cache", "label", "s3://clips/written/b.h5", tmp_path / "mass.csv")
        assert "s3://clips/written/b.h5 cannot be fetched: there is no such file" in gone.stderr

    @pytest.mark.parametrize("address", ["hf://datasets/user/name/a.h5", "https://a.org/a.h5"])
    def test_where_several_processes_cannot_write(
        self, address, clips, tmp_path, tiny, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(
            InvalidValueError, match=f"^{address}: several processes write to s3://"
        ):
            extract(clips, address, backbone=tiny(), join=True)
        assert not os.listdir(tmp_path)  # nothing is made of the words of the address

    def test_processes_that_join(self, bucket, clips, tmp_path, tiny):
        extract(clips, tmp_path / "here.h5", backbone=tiny(), **SETTINGS)
        out = "s3://clips/joined/a.h5"
        bucket.faults["PUT"] = ["500 Internal Server Error", "503 Slow Down"]
        with ThreadPoolExecutor(2) as threads:
            made = [
                threads.submit(extract, clips, out, backbone=tiny(), join=True, **SETTINGS)
                for _ in range(2)
            ]
        found = [each.result() for each in made]
        assert sum(each.done for each in found) == 6
        assert min(each.left_to_others for each in found) == 0
        require_equal(bucket, "joined/a.h5", tmp_path)
        again = extract(clips, out, backbone=tiny(), join=True, **SETTINGS)
        assert (again.done, again.kept) == (0, 6)
        require_equal(bucket, "joined/a.h5", tmp_path)

    def test_a_cache_that_is_too_large_for_a_file(self, bucket, clips, whole, tiny):
        for out, join in (("s3://clips/large/a.h5", False), ("s3://clips/large/b.h5", True)):
            for count in (3, 6):  # the second goes on with the first
                done = extract(clips[:count], out, backbone=tiny(), join=join, **SETTINGS).done
                assert done == 3
            names = [one for one in bucket.names() if one.startswith(out[11:])]
            parts = [one for one in names if one.startswith(f"{out[11:]}/")]
            assert set(names) - set(parts) == {f"{out[11:]}.ledger.jsonl"}
            assert len(parts) == 4  # three parts and the index
            found = cache.load(cache.copy_of(path_of(out)))
            assert found.differences(whole) == []
            assert extract(clips, out, backbone=tiny(), join=join, **SETTINGS).kept == 6
            assert run("cache", "verify", out).exit_code == 0

    def test_a_damaged_folder_of_parts_is_mended(self, bucket, clips, whole, tmp_path, tiny):
        out = "s3://clips/mended/a.h5"
        extract(clips, out, backbone=tiny(), **SETTINGS)
        index = "mended/a.h5/index.json"

        def names() -> list[str]:
            return [part["name"] for part in json.loads(bucket.get(index))["parts"]]

        def damage_clip() -> int:
            content = bytearray(bucket.get(f"mended/a.h5/{names()[1]}"))
            content[content.index(whole.features[2].tobytes())] ^= 1
            bucket.put(f"mended/a.h5/{names()[1]}", bytes(content))
            return 1

        def remove_part() -> int:
            bucket.client.delete_object(Bucket="clips", Key=f"mended/a.h5/{names()[2]}")
            return 2

        def damage_index() -> int:
            content = bytearray(bucket.get(index))
            content[-30] ^= 4
            bucket.put(index, bytes(content))
            return 0

        def part_is_a_folder() -> int:
            part = f"mended/a.h5/{names()[0]}"
            bucket.client.delete_object(Bucket="clips", Key=part)
            bucket.put(f"{part}/a.txt", b"")
            return 2

        for damage in (damage_clip, remove_part, damage_index, part_is_a_folder):
            count = damage()
            assert run("cache", "verify", out).exit_code == 1
            if not count or count == 2:
                with pytest.raises(CacheError, match=f"heliograph cache verify --repair {out} "):
                    extract(clips, out, backbone=tiny(), **SETTINGS)
            with pytest.raises(CacheError, match=f"heliograph cache verify --repair {out} "):
                cache.load(cache.copy_of(path_of(out)))
            mended = run("cache", "verify", out, "--repair", "--device", "cpu")
            assert mended.exit_code == 0, mended.stderr
            assert f"{out} is sound" in mended.stderr
            assert f"{count} clip" in mended.stderr or not count
            assert str(tmp_path) not in mended.stdout + mended.stderr
            found = cache.load(cache.copy_of(path_of(out)))
            assert found.differences(whole) == []
            left = [one for one in bucket.names() if one.startswith("mended/a.h5/")]
            assert len([one for one in left if not one.endswith(".txt")]) == 4

    def test_parts_whose_index_is_gone_are_found(
        self, bucket, clips, whole, tmp_path, tiny, monkeypatch
    ):
        out = "s3://clips/gone/a.h5"
        extract(clips, out, backbone=tiny(), **SETTINGS)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
        names = [one for one in bucket.names() if one.startswith("gone/")]
        parts = [part["name"] for part in json.loads(bucket.get("gone/a.h5/index.json"))["parts"]]
        for name in ("index.json", parts[1]):
            bucket.client.delete_object(Bucket="clips", Key=f"gone/a.h5/{name}")
        bucket.put(f"gone/a.h5/{parts[2]}", b"")
        way_out = f"heliograph cache verify --repair {out} saves what can be saved"
        for join in (False, True):
            with pytest.raises(
                CacheError, match=rf"^{out} has parts .* no index\.json.*{way_out}$"
            ):
                extract(clips, out, backbone=tiny(), join=join, **SETTINGS)
        shown = run("cache", "verify", out)
        assert shown.exit_code == 1
        assert f"{out}/index.json is gone, which names the parts in their order" in shown.stdout
        assert way_out in shown.stderr
        mended = run("cache", "verify", out, "--repair", "--device", "cpu")
        assert mended.exit_code == 0, mended.stderr
        assert f"{out}: 4 clips extracted, 0 kept, 0 failed" in mended.stderr
        for said in (shown, mended):
            assert str(tmp_path) not in said.stdout + said.stderr
        found = cache.load(cache.copy_of(path_of(out)))
        assert found.differences(whole) == []
        assert len([one for one in bucket.names() if one.startswith("gone/")]) == len(names)

    def test_consolidation(self, bucket, clips, tmp_path, tiny, monkeypatch):
        extract(clips, tmp_path / "here.h5", backbone=tiny(), **SETTINGS)
        out = "s3://clips/left/a.h5"
        with monkeypatch.context() as patch:
            patch.setattr(cache.JoinedStore, "consolidate", lambda self, clips: self.target)
            extract(clips, out, backbone=tiny(), join=True, **SETTINGS)
        shown = run("cache", "consolidate", out)
        assert (shown.exit_code, shown.stderr) == (0, f"{out}: 6 clips, 0 failed\n")
        require_equal(bucket, "left/a.h5", tmp_path)

    @pytest.mark.slow
    def test_devices(self, bucket, clips, tmp_path):
        extract(clips, tmp_path / "here.h5", backbone=load_tiny(), **SETTINGS)
        out = "s3://clips/devices/a.h5"
        for kept in (0, 6):
            summary = extract(clips, out, backbone=load_tiny, devices="cpu,cpu", **SETTINGS)
            assert (summary.done, summary.kept, str(summary.target)) == (6 - kept, kept, out)
            require_equal(bucket, "devices/a.h5", tmp_path)

    @pytest.mark.slow
    def test_a_process_that_is_killed(self, bucket, folder, tmp_path):
        extract(folder, tmp_path / "here.h5", backbone=load_tiny(), **SETTINGS)
        out = "s3://clips/killed/a.h5"
        words = [sys.executable, "-c", JOIN, str(folder), out]

        def start() -> "subprocess.Popen[bytes]":
            return subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL)

        victim, other = start(), start()
        deadline = time.monotonic() + 120
        while not any("/shards/" in name for name in bucket.names()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        victim.kill()
        assert victim.wait() == -9
        assert other.wait(120) == 0
        extract(folder, out, backbone=load_tiny(), join=True, **SETTINGS)
        require_equal(bucket, "killed/a.h5", tmp_path)
