"""Copies of what is at addresses: fetched once, bounded, and never taken from under a process."""

import fcntl
import os
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from data import copies
from data.copies import address_of, copy_of
from data.files import Address, WriteError
from data.remote import RemoteError
from tests.helpers.buckets import Bucket, serve_bucket


@pytest.fixture(scope="module")
def server() -> Iterator[Bucket]:
    with serve_bucket() as bucket:
        yield bucket


@pytest.fixture
def bucket(server, tmp_path, monkeypatch) -> Iterator[Bucket]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    yield server
    for name in server.names():
        server.client.delete_object(Bucket="clips", Key=name)
    let_go()


def let_go() -> None:
    """Hold no copy any more, as when this process has ended."""
    for file in copies._held.values():
        file.close()
    copies._held.clear()


def copied(bucket: Bucket, name: str, content: bytes = b"x" * 1000):
    return copy_of(Address(bucket.put(name, content).replace("//", "/")))


def test_a_file_here_is_itself(tmp_path):
    assert copy_of(tmp_path / "a") == tmp_path / "a"
    assert address_of(tmp_path / "a") == ""


def test_a_folder_is_copied_once_for_each_state(bucket):
    bucket.put("runs/a/config.json", b"{}")
    bucket.put("runs/a/seeds/0/model.pt", b"one")
    folder = copy_of(Address("s3:/clips/runs/a"))
    assert folder.name == "a"
    assert (folder / "seeds" / "0" / "model.pt").read_bytes() == b"one"
    assert address_of(folder / "seeds") == "s3://clips/runs/a/seeds"
    bucket.requests.clear()
    assert copy_of(Address("s3:/clips/runs/a")) == folder
    assert not bucket.count("GET", "model.pt")
    bucket.put("runs/a/seeds/0/model.pt", b"two")
    assert (copy_of(Address("s3:/clips/runs/a")) / "seeds/0/model.pt").read_bytes() == b"two"


def test_a_folder_that_cannot_be_had_whole_is_not_there(bucket, monkeypatch):
    for number in range(3):
        bucket.put(f"run/{number}", b"x")
    bucket.faults["GET"] = ["", "403 Forbidden"]
    with pytest.raises(RemoteError, match="the server answers 403"):
        copy_of(Address("s3:/clips/run"))
    bucket.faults.clear()
    assert len(list(copy_of(Address("s3:/clips/run")).iterdir())) == 3
    monkeypatch.setattr(copies, "MOST_FILES", 2)
    with pytest.raises(RemoteError, match="has 3 files, more than the 2 that are copied"):
        copy_of(Address("s3:/clips/run"))


def test_no_file_is_written_elsewhere(bucket):
    bucket.put("run/config.json", b"{}")
    bucket.put("run/../../../escaped", b"x")
    with pytest.raises(RemoteError, match=r"is not copied: .*escaped would lie elsewhere"):
        copy_of(Address("s3:/clips/run"))


class TestRoom:
    @pytest.fixture(autouse=True)
    def _room_for_two(self, monkeypatch) -> None:
        monkeypatch.setattr(copies, "MOST_BYTES", 2500)

    def test_what_was_not_used_for_the_longest_time_is_removed(self, bucket):
        first, second = copied(bucket, "1"), copied(bucket, "2")
        let_go()
        for age, path in ((2, first), (1, second)):
            os.utime(path.with_name(".used"), (1e9 - age, 1e9 - age))
        assert copied(bucket, "1") == first  # it was used just now
        let_go()
        third = copied(bucket, "3")
        assert [path.exists() for path in (first, second, third)] == [True, False, True]

    def test_what_a_process_uses_stays(self, bucket):
        first = copied(bucket, "1")
        second = copied(bucket, "2")
        third = copied(bucket, "3")  # this process holds all of them
        assert [path.exists() for path in (first, second, third)] == [True] * 3
        let_go()
        with open(first.with_name(".used")) as another:
            fcntl.flock(another, fcntl.LOCK_SH)
            fourth = copied(bucket, "4")
        assert [p.exists() for p in (first, second, third, fourth)] == [True, False, False, True]

    def test_one_copy_may_be_larger_than_all(self, bucket):
        large = copied(bucket, "large", b"x" * 5000)
        let_go()
        small = [copied(bucket, "1"), copied(bucket, "2")]
        let_go()
        assert all(path.exists() for path in (large, *small))
        for age, path in ((3, large), (2, small[0]), (1, small[1])):
            os.utime(path.with_name(".used"), (1e9 - age, 1e9 - age))
        copied(bucket, "3")  # the large one is that which was not used for the longest time
        assert [path.exists() for path in (large, *small)] == [False, True, True]

    def test_a_disk_without_room(self, bucket, monkeypatch):
        monkeypatch.setattr(copies.shutil, "disk_usage", lambda _: SimpleNamespace(free=999))
        with pytest.raises(
            WriteError, match=r"has 1,000 bytes, and 999 are free: .*XDG_CACHE_HOME"
        ):
            copied(bucket, "1")
