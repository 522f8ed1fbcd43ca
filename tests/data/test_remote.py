"""Files at addresses: one look, one download, and a sentence where it fails."""

import hashlib
import importlib
import json
import pickle
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from data import remote
from data.files import Address, path_of
from data.remote import (
    Fetcher,
    FolderError,
    MissingError,
    RemoteError,
    fetch,
    find_files,
    look_up,
    put,
    read,
)
from tests.helpers.buckets import Bucket, serve_bucket, serve_google_bucket
from tests.helpers.servers import Answer, part_of, serve

CONTENT = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def server() -> Iterator[Bucket]:
    with serve_bucket() as bucket:
        yield bucket


@pytest.fixture(scope="module")
def google() -> Iterator[Bucket]:
    with serve_google_bucket() as bucket:
        yield bucket


@pytest.fixture
def bucket(server) -> Iterator[Bucket]:
    yield server
    server.faults.clear()
    for name in server.names():
        server.client.delete_object(Bucket="clips", Key=name)
    server.requests.clear()


def address(text: str) -> Address:
    path = path_of(text)
    assert isinstance(path, Address)
    return path


def test_a_file_is_hashed_as_it_comes(bucket, tmp_path):
    at = address(bucket.put("a.mp4", CONTENT))
    found = fetch(look_up(at), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert found.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert found.version == (0, len(CONTENT), hashlib.md5(CONTENT).hexdigest())
    assert bucket.count("GET", "a.mp4") == 1


def test_large_files_come_in_pieces(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "PIECE_BYTES", 6 << 20)
    content = CONTENT * 1500
    found = fetch(look_up(address(bucket.put("a.mp4", content))), tmp_path / "a")
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert bucket.count("GET", "a.mp4") == 3


@pytest.mark.parametrize("fault", ["cut", "500 Internal Server Error", "503 Slow Down"])
def test_faults_that_pass_are_tried_again(fault, bucket, tmp_path):
    at = address(bucket.put("a.mp4", CONTENT))
    bucket.faults["GET"] = [fault, fault]
    assert fetch(look_up(at), tmp_path / "a").sha256 == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize(
    ("method", "fault", "sentence"),
    [
        ("HEAD", "403 Forbidden", r"no access: give credentials as AWS's tools take them"),
        ("HEAD", "404 Not Found", r"there is no such file \(404\): check the address"),
        ("GET", "500 Internal Server Error", r": try again later"),
        ("GET", "cut", r": try again later"),
    ],
)
def test_what_fails_is_said(method, fault, sentence, bucket, tmp_path):
    at = address(bucket.put("a.mp4", CONTENT))
    bucket.faults[method] = [fault] * 100
    with pytest.raises(RemoteError, match=rf"^s3://clips/a\.mp4 cannot be fetched: .*{sentence}"):
        fetch(look_up(at), tmp_path / "a")
    assert not any(tmp_path.iterdir())


def test_a_missing_package_is_named(monkeypatch):
    remote._connected.cache_clear()
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(importlib.import_module("fsspec.registry")._registry, "s3", raising=False)
    with pytest.raises(RemoteError, match=r"s3fs: pip install 'heliograph\[remote\]'"):
        look_up(address("s3://clips/a.mp4"))


def test_a_folder_is_listed(bucket):
    for name in ("f/b.mp4", "f/a/c.mp4", "g.mp4"):
        bucket.put(name, CONTENT)
    found = find_files(address("s3://clips/f"))
    assert list(map(str, found)) == ["s3://clips/f/a/c.mp4", "s3://clips/f/b.mp4"]
    assert find_files(address("s3://clips/g.mp4")) == [address("s3://clips/g.mp4")]
    with pytest.raises(RemoteError, match="is a folder, not a file"):
        look_up(address("s3://clips/f"))


def test_a_folder_into_which_a_file_has_just_come_is_no_file(monkeypatch):
    """s3fs lists nothing, asks whether the name is that of a file, and finds a folder by then."""
    found = {"b/writers": {"name": "b/writers", "type": "directory", "size": 0}}
    system = type("System", (), {"find": lambda self, folder, detail: found})()
    monkeypatch.setattr(remote, "_file_system", lambda scheme: system)
    assert remote.look_up_all(Address("s3:/b/writers")) == []


def test_too_large_a_file_is_not_fetched(bucket, tmp_path):
    at = address(bucket.put("a.mp4", CONTENT))
    with pytest.raises(RemoteError, match="10,240 bytes, the limit is 1,000"):
        fetch(look_up(at), tmp_path / "a", most_bytes=1000)
    assert not bucket.count("GET", "a.mp4")
    assert len(read(at, 1000)) == 1001


def test_clips_of_one_file_share_it(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    first, second = (look_up(address(bucket.put(name, CONTENT))) for name in ("a.mp4", "b.mp4"))
    fetcher, paths = Fetcher(), []
    for remote_file in (first, first, second):
        with fetcher.file(remote_file) as (path, _):
            assert path.read_bytes() == CONTENT
            paths.append(path)
    assert paths[0] == paths[1]
    assert not paths[0].exists()  # the last one that was used is kept
    assert paths[2].exists()
    fetcher.close()
    assert not any(tmp_path.iterdir())


class TestWebServers:
    def test_a_file_with_ranges(self, tmp_path, monkeypatch):
        monkeypatch.setattr(remote, "PIECE_BYTES", 4096)

        def answer(method: str, path: str, headers: dict[str, str]) -> Answer:
            if "range" not in headers:
                return part_of(CONTENT, headers)._replace(
                    headers={"Accept-Ranges": "bytes", "ETag": '"1"', "Content-Length": "10240"}
                )
            begin, end = map(int, headers["range"].removeprefix("bytes=").split("-"))
            body = CONTENT[begin : end + 1]
            said = {"Content-Range": f"bytes {begin}-{begin + len(body) - 1}/{len(CONTENT)}"}
            return Answer(206, said, body)

        with serve(answer) as server:
            found = fetch(look_up(address(f"{server.url}/a.mp4?key=1")), tmp_path / "a")
        assert (tmp_path / "a").read_bytes() == CONTENT
        assert found.version == (0, len(CONTENT), "1")

    def test_a_file_without_ranges_that_is_cut_once(self, tmp_path, monkeypatch):
        monkeypatch.setattr(remote, "PAUSE_SECONDS", 0.01)
        cuts = [100]

        def answer(method: str, path: str, headers: dict[str, str]) -> Answer:
            whole = Answer(200, {"Content-Length": str(len(CONTENT))}, CONTENT)
            return whole._replace(body=CONTENT[: cuts.pop()]) if method == "GET" and cuts else whole

        with serve(answer) as server:
            found = fetch(look_up(address(f"{server.url}/a.mp4")), tmp_path / "a")
        assert found.sha256 == hashlib.sha256(CONTENT).hexdigest()
        assert found.version is None  # it has no tag, so it is fetched each time

    @pytest.mark.parametrize(
        ("status", "sentence"),
        [(404, "no such file"), (403, "no access"), (500, "answers 500: try again later")],
    )
    def test_what_fails_is_said(self, status, sentence, tmp_path, monkeypatch):
        monkeypatch.setattr(remote, "PAUSE_SECONDS", 0.01)
        with serve(lambda *_: Answer(status, {}, b"")) as server:
            at = address(f"{server.url}/a.mp4")
            with pytest.raises(RemoteError, match=sentence):
                fetch(look_up(at), tmp_path / "a")

    def test_a_server_that_does_not_answer_is_no_missing_file(self, monkeypatch):
        monkeypatch.setattr(remote, "PAUSE_SECONDS", 0.01)
        with serve(lambda *_: Answer(200, {}, b"")) as server:
            url = server.url
        with pytest.raises(RemoteError, match=r"Cannot connect to host .*: try again later"):
            look_up(address(f"{url}/a.mp4"))

    def test_there_are_no_lists(self):
        with pytest.raises(RemoteError, match="on a web server: name its files"):
            find_files(address("https://example.org/clips"))


class TestGoogle:
    @pytest.fixture
    def bucket(self, google, tmp_path) -> Bucket:
        """A bucket with a file."""
        google.faults.clear()
        (tmp_path / "here").write_bytes(CONTENT)
        put(tmp_path / "here", address("gs://clips/f/a.mp4"))
        google.requests.clear()
        return google

    def test_files_are_fetched_and_listed(self, bucket, tmp_path):
        at = address("gs://clips/f/a.mp4")
        found = fetch(look_up(at), tmp_path / "a")
        assert (tmp_path / "a").read_bytes() == CONTENT
        assert found.sha256 == hashlib.sha256(CONTENT).hexdigest()
        assert sum("alt=media" in path for _, path in bucket.requests) == 1
        assert find_files(address("gs://clips/f")) == [at]
        with pytest.raises(FolderError):
            look_up(address("gs://clips/f"))
        (tmp_path / "a").write_bytes(b"another")
        put(tmp_path / "a", at)
        assert look_up(at).tag != found.version[2]

    def test_faults_that_pass_are_tried_again(self, bucket, tmp_path):
        at = address("gs://clips/f/a.mp4")
        bucket.faults |= {"GET": ["503", "503"], "POST": ["503", "503"]}
        put(tmp_path / "here", at)
        fetch(look_up(at), tmp_path / "a")
        assert (tmp_path / "a").read_bytes() == CONTENT
        assert bucket.faults == {"GET": [], "POST": []}

    def test_what_fails_is_said(self, bucket, tmp_path):
        with pytest.raises(MissingError, match=r"^gs://clips/f/b\.mp4 .* no such file \(404\)"):
            look_up(address("gs://clips/f/b.mp4"))
        with pytest.raises(MissingError, match="no such bucket"):
            put(tmp_path / "here", address("gs://no-bucket/a"))
        bucket.faults["GET"] = ["403"] * 99
        with pytest.raises(RemoteError, match="answers 403, no access: log in with `gcloud"):
            look_up(address("gs://clips/f/a.mp4"))


def test_the_hugging_face_hub(tmp_path, monkeypatch):
    sha1, sha256 = "1" * 40, hashlib.sha256(CONTENT).hexdigest()
    entry = {"type": "file", "path": "f/a.mp4", "size": len(CONTENT), "oid": sha1}

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer:
        where = urlsplit(path).path
        if where.startswith("/api/datasets/user/clips/tree/"):
            content: object = [entry]
        elif where.startswith("/api/datasets/user/clips"):
            content = {"id": "user/clips", "sha": "c" * 40, "siblings": []}
        elif where.startswith("/api/"):
            return Answer(404, {"X-Error-Code": "RepoNotFound"}, b"{}")
        else:
            begin, _, end = headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
            return Answer(206, {}, CONTENT[int(begin) : int(end) + 1 if end else None])
        return Answer(200, {"Content-Type": "application/json"}, json.dumps(content).encode())

    with serve(answer) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        (at,) = find_files(address("hf://datasets/user/clips/f"))
        assert str(at) == "hf://datasets/user/clips/f/a.mp4"
        found = fetch(look_up(at), tmp_path / "a")
        assert (found.sha256, found.version) == (sha256, (0, len(CONTENT), sha1))
        with pytest.raises(RemoteError, match="there is no such file"):
            look_up(address("hf://datasets/user/clips/f/b.mp4"))


class TestAddresses:
    def test_they_are_taken_apart_as_paths(self):
        table = path_of("S3://bucket/sets/../clips.csv")
        assert str(table) == "s3://bucket/clips.csv"
        assert str(path_of(table.parent / "a/b.mp4")) == "s3://bucket/a/b.mp4"
        assert path_of("https://a.org/b.mp4?x=1.y").suffix == ".mp4"
        assert path_of(Path("s3://bucket/a")) == Address("s3:/bucket/a")
        assert type(path_of("a/s3:/b")) is type(Path())

    def test_a_pickle_of_one_is_one(self):
        at = address("s3://bucket/a.mp4")
        assert pickle.loads(pickle.dumps(at)) == at
        assert str(pickle.loads(pickle.dumps(at))) == "s3://bucket/a.mp4"
