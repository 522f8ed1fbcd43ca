"""Caches at addresses: published whole, and read by a copy."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from data import cache, copies
from data.cache import CacheError, Features, copy_of, ledger_path, read_metadata, restore, staged
from data.cache.addresses import fetch_hollow
from data.copies import address_of
from data.errors import InvalidValueError
from data.files import Address
from data.lock import BusyError
from data.remote import RemoteError, look_up
from tests.helpers.buckets import Bucket, serve_bucket
from tests.helpers.caches import full
from tests.helpers.features import make_features

OUT = Address("s3:/clips/out.h5")


@pytest.fixture(scope="module")
def server() -> Iterator[Bucket]:
    with serve_bucket() as bucket:
        yield bucket


@pytest.fixture
def bucket(server, tmp_path, monkeypatch) -> Bucket:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    server.faults.clear()
    for name in server.names():
        server.client.delete_object(Bucket="clips", Key=name)
    server.requests.clear()
    return server


def write(path: Path, content: bytes = b"one") -> None:
    path.write_bytes(content)
    ledger_path(path).write_text("ledger\n")


def interrupted(path: Path) -> None:
    write(path)
    raise KeyboardInterrupt


def written_by_two(path: Path, bucket: Bucket) -> None:
    write(path)
    bucket.put("out.h5", b"other")


def test_it_is_published_whole_after_its_ledger(bucket):
    with staged(OUT) as path:
        write(path)
        assert bucket.names() == []
    assert [path for verb, path in bucket.requests if verb == "PUT"] == [
        "/clips/out.h5.ledger.jsonl",
        "/clips/out.h5",
    ]
    assert bucket.get("out.h5") == b"one"
    bucket.requests.clear()
    with staged(OUT) as path:
        assert path.read_bytes() == b"one"
    assert not bucket.count("PUT")  # it is as it was
    assert not bucket.count("GET", "out.h5")


def test_another_machine_goes_on_with_what_is_there(bucket, tmp_path, monkeypatch):
    with staged(OUT) as path:
        write(path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    with staged(OUT) as path:
        assert (path.read_bytes(), ledger_path(path).read_text()) == (b"one", "ledger\n")
        write(path, b"two")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    with staged(OUT) as path:
        assert path.read_bytes() == b"two"


def test_what_is_gone_here_is_fetched(bucket):
    with staged(OUT) as path:
        write(path)
    path.unlink()
    with staged(OUT) as path:
        assert path.read_bytes() == b"one"


def test_an_error_publishes_nothing_and_loses_nothing(bucket):
    with pytest.raises(KeyboardInterrupt), staged(OUT) as path:
        interrupted(path)
    assert bucket.names() == []
    with staged(OUT) as path:
        assert path.read_bytes() == b"one"
    assert bucket.get("out.h5") == b"one"


def test_a_put_that_fails_twice_is_made_good(bucket):
    bucket.faults["PUT"] = ["500 Internal Server Error", "503 Slow Down"]
    with staged(OUT) as path:
        write(path)
    assert bucket.get("out.h5") == b"one"


def test_a_put_that_fails_for_good_is_said_and_made_up_for(bucket):
    bucket.faults["PUT"] = ["403 Forbidden"] * 9
    sentence = r"^s3://clips/out\.h5\S* cannot be written: the server answers 403, no access"
    with pytest.raises(RemoteError, match=sentence), staged(OUT) as path:
        write(path)
    bucket.faults.clear()
    with staged(OUT):
        pass
    assert bucket.get("out.h5") == b"one"


def test_what_another_machine_wrote_meanwhile_is_not_replaced(bucket):
    sentence = (
        r"^s3://clips/out\.h5 was written by another .* is in (.*/unsent-1/out\.h5): join both"
    )
    with pytest.raises(CacheError, match=sentence) as raised, staged(OUT) as path:
        written_by_two(path, bucket)
    assert bucket.get("out.h5") == b"other"
    unsent = Path(re.search(sentence, str(raised.value))[1])
    assert (unsent.read_bytes(), ledger_path(unsent).read_text()) == (b"one", "ledger\n")
    assert not path.exists()
    with staged(OUT) as path:
        assert path.read_bytes() == b"other"


def test_what_is_published_makes_room_and_nothing_else_does(bucket, monkeypatch):
    monkeypatch.setattr(copies, "MOST_BYTES", 2000)
    with staged(OUT) as path:
        write(path)
        copies.make_room(1990)
        assert path.exists()
    with pytest.raises(KeyboardInterrupt), staged(Address("s3:/clips/b.h5")) as unfinished:
        interrupted(unfinished)
    copies.make_room(1990)
    assert not path.exists()
    assert unfinished.exists()
    with staged(OUT) as path:
        assert path.read_bytes() == b"one"


def test_one_process_of_a_machine_writes(bucket):
    with staged(OUT), pytest.raises(BusyError, match="is being written"), staged(OUT):
        pass


@pytest.mark.parametrize(
    ("address", "error", "sentence"),
    [
        ("s3:/no-bucket/a.h5", RemoteError, "no such bucket or repository"),
        ("https:/a.org/a.h5", InvalidValueError, "nothing can be written to a web server"),
    ],
)
def test_where_nothing_can_be_written(address, error, sentence, bucket):
    with pytest.raises(error, match=sentence), staged(Address(address)) as path:
        write(path)


class TestParts:
    """A folder of parts, which takes the place of a file, and the other way round."""

    def put_whole(self, path: Path, count: int, per_part: int | None) -> None:
        cache.save(whole(count), path, clips_per_part=per_part)
        ledger_path(path).write_text("ledger\n")

    def test_it_is_published_index_last_and_goes_on_elsewhere(self, bucket, tmp_path, monkeypatch):
        with staged(OUT) as path:
            self.put_whole(path, 5, 2)
        puts = [path.removeprefix("/clips/") for verb, path in bucket.requests if verb == "PUT"]
        assert (puts[0], puts[-1], len(puts)) == (
            "out.h5.ledger.jsonl",
            "out.h5/index.json",
            5,
        )
        bucket.requests.clear()
        with staged(OUT) as path:
            assert cache.load(path).content_sha256 == whole(5).content_sha256
        assert not bucket.count("PUT")
        fetched = [path for verb, path in bucket.requests if verb == "GET" and "out.h5/" in path]
        assert fetched == ["/clips/out.h5/index.json"]  # the parts are here as they are there
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
        with staged(OUT) as path:
            assert cache.load(path).content_sha256 == whole(5).content_sha256
            self.put_whole(path, 6, 2)
        files = [name for name in bucket.names() if name.startswith("out.h5/")]
        assert len(files) == 4
        copy = copy_of(OUT)
        assert cache.load(copy).content_sha256 == whole(6).content_sha256
        assert ledger_path(copy).read_text() == "ledger\n"
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
        with staged(OUT) as path:
            assert cache.load(path).content_sha256 == whole(6).content_sha256

    def test_a_folder_takes_the_place_of_a_file(self, bucket):
        with staged(OUT) as path:
            self.put_whole(path, 5, None)
        with staged(OUT) as path:
            path.unlink()
            self.put_whole(path, 5, 2)
        assert "out.h5" not in bucket.names()
        assert cache.load(copy_of(OUT)).content_sha256 == whole(5).content_sha256

    def test_what_another_machine_wrote_meanwhile_is_not_replaced(self, bucket):
        with staged(OUT) as path:
            self.put_whole(path, 5, 2)
        kept = [name for name in bucket.names() if name.endswith(".h5")]

        def by_two(path: Path) -> None:
            self.put_whole(path, 6, 2)
            bucket.put("out.h5/index.json", bucket.get("out.h5/index.json") + b" ")

        with pytest.raises(CacheError, match="written by another process"), staged(OUT) as path:
            by_two(path)
        assert set(kept) <= set(bucket.names())

    def test_other_folders_are_no_cache(self, bucket):
        bucket.put("out.h5/a.mp4", b"film")
        sentence = r"^s3://clips/out\.h5 is no cache: it is a folder without index\.json"
        with pytest.raises(CacheError, match=sentence), staged(OUT):
            pass
        assert bucket.names() == ["out.h5/a.mp4"]

    def test_parts_without_an_index_are_not_written_over(self, bucket, tmp_path, monkeypatch):
        with staged(OUT) as path:
            self.put_whole(path, 5, 2)
        bucket.put("out.h5.ledger.jsonl", b"")
        bucket.client.delete_object(Bucket="clips", Key="out.h5/index.json")
        names = bucket.names()
        for home in ("home", "other"):  # also where the index is known
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / home))
            sentence = (
                r"^s3://clips/out\.h5 has parts of a cache, and no index\.json, which names them "
                r"\(.*\); heliograph cache verify --repair s3://clips/out\.h5 saves what can be "
                r"saved$"
            )
            with pytest.raises(CacheError, match=sentence), staged(OUT):
                pass
            assert bucket.names() == names
        with staged(OUT, damaged=True) as path:
            assert len(restore(path)) == 1
        assert bucket.names() == sorted([*names, "out.h5/index.json"])
        assert cache.load(copy_of(OUT)).content_sha256 == whole(5).content_sha256

    def test_an_index_that_this_machine_knows_comes_back(self, bucket):
        with staged(OUT) as path:
            self.put_whole(path, 5, 2)
        index = bucket.get("out.h5/index.json")
        bucket.put("out.h5.ledger.jsonl", b"")
        bucket.client.delete_object(Bucket="clips", Key="out.h5/index.json")
        with staged(OUT, damaged=True) as path:
            assert cache.verify(path) == []
        assert bucket.get("out.h5/index.json") == index

    def put_and_stop(self, path: Path) -> None:
        self.put_whole(path, 5, 2)
        raise KeyboardInterrupt

    def test_a_publication_that_was_cut_short_is_made_good(self, bucket):
        with pytest.raises(KeyboardInterrupt), staged(OUT) as path:
            self.put_and_stop(path)
        bucket.put("out.h5/" + next(path.glob("*.h5")).name, b"half")
        with staged(OUT):
            pass
        assert cache.load(copy_of(OUT)).content_sha256 == whole(5).content_sha256

    def test_errors_name_the_address(self, bucket):
        with staged(OUT) as path:
            self.put_whole(path, 5, 2)
        part = next(path.glob("*.h5"))
        way_out = "heliograph cache verify --repair s3://clips/out.h5 saves what can be saved"
        said = f"s3://clips/out.h5/{part.name} is gone, a part that index.json names; {way_out}"
        with pytest.raises(CacheError, match=f"^{said}$"), staged(OUT) as path:
            self.load_without(part)

    def load_without(self, part: Path) -> None:
        part.unlink()
        cache.load(part.parent)

    def test_a_copy_without_features(self, bucket, tmp_path):
        here, there = full(tmp_path / "here.h5", 4), tmp_path / "there.h5"
        bucket.put("a.h5", here.read_bytes())
        fetch_hollow(look_up(Address("s3:/clips/a.h5")), there)
        one, other = read_metadata(here), read_metadata(there)
        assert one.clips.differences(other.clips) == []
        assert one.content_sha256 == other.content_sha256
        assert there.stat().st_size == here.stat().st_size
        with pytest.raises(CacheError, match="damaged"):
            cache.load(there)
        bucket.put("b.h5", b"no cache")
        fetch_hollow(look_up(Address("s3:/clips/b.h5")), there)
        assert there.read_bytes() == b"no cache"


def whole(count: int) -> Features:
    """Return features of so many clips, the first of which are those of fewer."""
    return make_features(objects=8, each=1).select(range(count))


def test_a_copy_is_fetched_once(bucket, tmp_path):
    here = full(tmp_path / "here.h5", 2)
    bucket.put("a.h5", here.read_bytes())
    path = copy_of(Address("s3:/clips/a.h5"))
    assert cache.load(path).differences(cache.load(here)) == []
    assert address_of(path) == "s3://clips/a.h5"
    assert copy_of(Address("s3:/clips/a.h5")) == path
    assert bucket.count("GET", "a.h5") == 1
    bucket.put("a.h5", b"other")
    assert copy_of(Address("s3:/clips/a.h5")).read_bytes() == b"other"
    assert os.path.exists(path)


def test_a_ledger_that_is_mended_is_sent_and_copied_again(bucket, tmp_path):
    here = full(tmp_path / "here.h5", 2)
    bucket.put("out.h5", here.read_bytes())
    sound = ledger_path(here).read_bytes()
    bucket.put("out.h5.ledger.jsonl", b"damaged\n" + sound)
    assert len(cache.verify(copy_of(OUT))) == 1
    with staged(OUT, damaged=True) as path:
        assert len(restore(path)) == 1
    assert bucket.get("out.h5.ledger.jsonl") == sound
    assert cache.verify(copy_of(OUT)) == []
    assert bucket.count("PUT", "out.h5.ledger") == 1
    assert bucket.count("PUT") == 1
    assert bucket.count("GET", "out.h5") - bucket.count("GET", "ledger") == 2
