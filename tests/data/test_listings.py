"""Listings in place of a question for each file."""

from collections.abc import Iterator

import pytest

from data import listings, remote
from data.files import Address
from data.listings import list_folders_of
from data.remote import listed_version, look_up
from tests.helpers.buckets import Bucket, serve_bucket, serve_google_bucket


@pytest.fixture(autouse=True)
def _unknown(monkeypatch) -> None:
    monkeypatch.setattr(remote, "_listed", {})


@pytest.fixture(scope="module")
def server() -> Iterator[Bucket]:
    with serve_bucket() as bucket:
        for number in range(24):
            bucket.put(f"films/{number % 12}/{number}.mp4", b"film %d" % number)
        for number in range(3):
            bucket.put(f"others/{number}.mp4", b"other")
        yield bucket


@pytest.fixture
def bucket(server) -> Bucket:
    server.requests.clear()
    return server


def films(count: int = 24) -> list[Address]:
    return [Address(f"s3:/clips/films/{number % 12}/{number}.mp4") for number in range(count)]


def test_many_files_of_a_folder_cost_one_request(bucket):
    other = Address("s3:/clips/others/0.mp4")
    list_folders_of([*films(), other, Address("https:/a.org/a.mp4")])
    assert [verb for verb, _ in bucket.requests] == ["GET"]
    assert all(listed_version(path) == look_up(path).version for path in films())
    assert listed_version(other) is None
    bucket.requests.clear()
    list_folders_of(films())  # they are known
    assert not bucket.requests


def test_a_few_files_are_asked_for_one_by_one(bucket):
    list_folders_of(films(19))
    assert not bucket.requests


def test_a_list_ends_where_it_has_much_else(bucket, monkeypatch):
    monkeypatch.setattr(listings, "MOST_OTHERS", 0.5)
    real = remote._page

    def page(system, scheme, place, prefix, token):
        entries, _ = real(system, scheme, place, prefix, "")
        start = int(token or 0)
        return entries[start : start + 6], str(start + 6)

    monkeypatch.setattr(remote, "_page", page)
    list_folders_of(films())
    assert sum(listed_version(path) is not None for path in films()) == 12


def test_pages_follow_each_other(bucket, monkeypatch):
    call = remote._file_system("s3").call_s3
    small = lambda method, **words: call(method, MaxKeys=10, **words)  # noqa: E731
    monkeypatch.setattr(remote._file_system("s3"), "call_s3", small)
    list_folders_of(films())
    assert bucket.count("GET") == 3
    assert all(map(listed_version, films()))


def test_what_cannot_be_listed_is_left_to_the_files(bucket):
    bucket.faults["GET"] = ["403 Forbidden"]
    list_folders_of(films())
    assert not any(map(listed_version, films()))
    bucket.faults.clear()


def test_at_google(tmp_path):
    (tmp_path / "film").write_bytes(b"film")
    paths = [Address(f"gs:/clips/films/{number}.mp4") for number in range(20)]
    with serve_google_bucket() as bucket:
        for path in paths:
            remote.put(tmp_path / "film", path)
        bucket.requests.clear()
        list_folders_of(paths)
        assert [verb for verb, _ in bucket.requests] == ["GET"]
        assert all(listed_version(path) == look_up(path).version for path in paths)
