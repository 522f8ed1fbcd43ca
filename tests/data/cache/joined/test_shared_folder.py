"""Processes that write one cache in an object store, each with a mirror of its own."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.cache import (
    CacheError,
    batches,
    consolidate_joined,
    ledger_path,
    load,
    parts,
    read_ledger,
    verify,
)
from data.cache.joined import claims, shared_folder
from data.cache.joined import store as joined_store
from data.cache.joined.shared_folder import RemoteFolder
from data.digests import digest_of
from data.files import Address, atomic_write, process_name
from data.lock import BusyError
from data.remote import RemoteError, fetch, look_up_all, look_up_if_there
from tests.helpers.buckets import Bucket, serve_bucket, serve_google_bucket
from tests.helpers.joined_stores import (
    made_clips,
    opened,
    treat,
    whole_of,
    write,
    write_beside_a_late_one,
    write_side_by_side,
)

OUT = Address("s3:/clips/j.h5")
HERE = process_name().split("-")[0]
DEAD = f"{HERE}-4194305-1-{'0' * 16}"  # no system has so high a number
ELSEWHERE = f"{'0' * 8}-1-1-{'0' * 16}"


@pytest.fixture(scope="module")
def server() -> Iterator[Bucket]:
    with serve_bucket() as bucket:
        yield bucket


@pytest.fixture
def bucket(server, tmp_path, monkeypatch) -> Iterator[Bucket]:
    """An empty bucket; every process begins with the first clip."""
    monkeypatch.setattr(joined_store.random, "randrange", lambda count: 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    for name in server.names():
        server.client.delete_object(Bucket="clips", Key=name)
    server.requests.clear()
    yield server
    server.faults.clear()
    assert not list((tmp_path / "home").rglob("*.tmp"))  # no mirror is left


@pytest.fixture
def listed(tmp_path):
    return made_clips(tmp_path / "films")


@pytest.fixture
def whole(tmp_path, listed):
    return whole_of(tmp_path / "plain.h5", listed)


def require_whole(bucket, whole, tmp_path):
    assert bucket.names() == ["j.h5", "j.h5.ledger.jsonl"]
    path = tmp_path / "fetched.h5"
    path.write_bytes(bucket.get("j.h5"))
    assert whole.differences(load(path)) == []
    assert whole.content_sha256 == load(path).content_sha256
    assert verify(path) == []
    ledger_path(path).write_bytes(bucket.get("j.h5.ledger.jsonl"))
    assert {line["clip"] for line in read_ledger(path)} == {f"c{number}" for number in range(10)}


def test_writers_side_by_side_make_the_cache_of_one(bucket, listed, whole, tmp_path):
    assert sorted(write_side_by_side(OUT, listed)) == sorted(clip.id for clip in listed)
    require_whole(bucket, whole, tmp_path)


def test_ledgers_that_grow_while_they_are_fetched(bucket, listed, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "BATCH_SECONDS", 0.02)
    assert sorted(write_side_by_side(OUT, listed)) == sorted(clip.id for clip in listed)
    require_whole(bucket, whole, tmp_path)


def test_a_late_writer_does_nothing_again_of_what_another_has_consolidated(
    bucket, listed, whole, tmp_path
):
    known = write_beside_a_late_one(OUT, listed)
    assert known == {clip.id: "it is bad" if clip.id == "c6" else None for clip in listed[1:]}
    require_whole(bucket, whole, tmp_path)


def test_a_file_that_is_written_while_it_is_fetched(bucket, tmp_path, monkeypatch):
    """What is listed is older than what is fetched: the newer one comes."""
    ours, theirs = RemoteFolder(OUT), RemoteFolder(OUT)
    path = Path("writers/a.jsonl")
    theirs.write_once(theirs.path / path, "one\n")
    old = ours._files("writers")
    atomic_write(theirs.path / path, "one\ntwo\n")
    theirs.publish(theirs.path / path)
    ours._fetch(old)
    assert (ours.path / path).read_text() == "one\ntwo\n"
    for folder in (ours, theirs):
        shutil.rmtree(folder.path.parent)


def test_writers_at_google(listed, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(joined_store.random, "randrange", lambda count: 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    with serve_google_bucket():
        write_side_by_side(Address("gs:/clips/j.h5"), listed)
        left = look_up_all(Address("gs:/clips"))
        assert [file.address.name for file in left] == ["j.h5", "j.h5.ledger.jsonl"]
        fetch(left[0], tmp_path / "fetched.h5")
    assert whole.differences(load(tmp_path / "fetched.h5")) == []


def test_a_shard_is_there_before_a_ledger_names_it(bucket, listed):
    write(OUT, listed[:1])
    puts = [path.removeprefix("/clips/j.h5") for verb, path in bucket.requests if verb == "PUT"]
    kinds = [path.removeprefix(".joined/").partition("/")[0] for path in puts]
    assert kinds == [
        *("store.json", "features.json", "clips", "claims", "shards", "writers"),
        *("claims", "", ".ledger.jsonl"),
    ]


def test_what_a_writer_leaves_another_goes_on_with(bucket, listed, whole, tmp_path):
    first, _ = write(OUT, listed, most=4)
    assert "j.h5" not in bucket.names()
    second, known = write(OUT, listed)
    assert not set(first) & set(second)
    assert set(known) == set(first)
    require_whole(bucket, whole, tmp_path)
    ends, known = write(OUT, listed)
    assert (ends, len(known)) == ({"c6": "failed"}, 9)
    require_whole(bucket, whole, tmp_path)


def test_a_ledger_that_is_full_is_followed_by_another(bucket, listed, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(RemoteFolder, "ledger_bytes", 9)
    with opened(OUT) as store:
        for clip in listed[:3]:
            treat(store, clip)
            store.flush()
    assert sum("/writers/" in name for name in bucket.names()) == 3
    ends, _ = write(OUT, listed)
    assert list(ends) == [clip.id for clip in listed[3:]]
    require_whole(bucket, whole, tmp_path)


def test_names_that_lead_elsewhere_are_passed_over(bucket, listed, tmp_path):
    write(OUT, listed, most=1)
    (name,) = [name for name in bucket.names() if "/writers/" in name]
    line = json.loads(bucket.get(name).splitlines()[0])
    del line["xxh3"]
    planted = {**line, "clip": "c1", "key": "1" * 64, "shard": "../../../../planted"}
    with opened(OUT) as store:
        bucket.put("j.h5.joined/writers/a.jsonl", json.dumps(planted).encode() + b"\n")
        bucket.put("j.h5.joined/writers/../../../b.jsonl", bucket.get(name))
        assert "j.h5.joined/writers/../../../b.jsonl" in bucket.names()
        store.refresh()
        assert len(store._ledgers._positions) == 2
        assert not store._shards.has(digest_of("1" * 64))
        assert not list(tmp_path.rglob("b.jsonl"))


def test_what_fails_for_a_moment_is_made_good(bucket, listed, whole, tmp_path):
    write(OUT, listed, most=4)
    bucket.faults["PUT"] = ["500 Internal Server Error", "503 Slow Down", ""] * 4
    bucket.faults["GET"] = ["", "", "cut", "500 Internal Server Error", "cut"]
    write(OUT, listed)
    assert not bucket.faults["PUT"]
    assert not bucket.faults["GET"]
    require_whole(bucket, whole, tmp_path)


def test_a_claim_whose_answer_is_lost_is_held(bucket, listed):
    with opened(OUT) as store:
        claim = store.parts / "claims" / "0a"
        bucket.faults["PUT"] = ["lost"]
        assert store.claims.take(claim, {"c0"})
        with opened(OUT) as other:
            assert not other.claims.take(other.parts / "claims" / "0a", {"c0"})


def test_a_claim_that_another_held_before_is_released(bucket):
    """A claim that has changed since it was fetched is another's, but not where we put it since."""
    one, other = RemoteFolder(OUT), RemoteFolder(OUT)
    claims = [folder.path / "claims" / "c" for folder in (one, other)]
    assert one.write_once(claims[0], "one")
    assert not other.write_once(claims[1], "other")
    one.remove(claims[0])
    assert other.write_once(claims[1], "other")
    other.remove(claims[1])
    assert not bucket.names()
    one.close()
    other.close()


def test_a_put_that_fails_for_good_loses_nothing(bucket, listed, whole, tmp_path):
    write(OUT, listed, most=4)
    with opened(OUT) as store:
        for clip in store.offer(listed, lambda *_: None):
            treat(store, clip)
        bucket.faults["PUT"] = ["403 Forbidden"]
        with pytest.raises(RemoteError, match=r"j\.h5\.joined/shards/.* the server answers 403"):
            store.flush()
        store.consolidate(listed)
    require_whole(bucket, whole, tmp_path)


@pytest.mark.parametrize(
    ("holder", "most_seconds", "void"),
    [(DEAD, 3600, True), (ELSEWHERE, 3600, False), (ELSEWHERE, -3600, True)],
)
def test_claims_of_the_dead_are_void(
    bucket, listed, whole, tmp_path, monkeypatch, holder, most_seconds, void
):
    monkeypatch.setattr(claims, "CLAIM_SECONDS", most_seconds)
    with opened(OUT) as store:
        offer = store.offer(listed, lambda *_: None)
        next(offer)
        (claim,) = [name for name in bucket.names() if "/claims/" in name]
        offer.close()
    bucket.put(claim, holder.encode())
    ends, _ = write(OUT, listed)
    assert len(ends) == (10 if void else 9)
    if void:
        require_whole(bucket, whole, tmp_path)
        return
    sentence = f"by process 1 of host 0{{8}}; if that is dead, remove s3://clips/{claim}"
    with pytest.raises(BusyError, match=sentence):
        consolidate_joined(OUT)


def test_a_claim_that_is_gone_before_it_is_read_is_not_there(bucket, listed, monkeypatch):
    with opened(OUT) as store:
        claim = store.parts / "claims" / "a"
        bucket.put("j.h5.joined/claims/a", b"{}")
        there = look_up_if_there(Address("s3:/clips/j.h5.joined/claims/a"))
        bucket.client.delete_object(Bucket="clips", Key="j.h5.joined/claims/a")
        store.shared._fetch({claim: there})
        assert not claim.exists()


def test_claims_are_renewed_while_they_are_held(bucket, listed, monkeypatch):
    with opened(OUT) as store:
        claim = store.parts / "claims" / "0a"
        assert store.claims.take(claim, {"c0"})
        bucket.requests.clear()
        store.shared.renew(claim)
        assert bucket.count("PUT", "/claims/0a") == 1
        store.shared.remove(claim)
        store.shared.renew(claim)
        assert bucket.count("PUT", "/claims/0a") == 1


def test_a_claim_takes_few_requests(bucket, listed):
    write(OUT, listed, most=1)
    with opened(OUT) as store:
        offer = store.offer(listed, lambda *_: None)
        next(offer)
        bucket.requests.clear()
        next(offer)
        assert [verb for verb, _ in bucket.requests] == ["PUT", "GET", "GET"]


def test_a_damaged_shard_is_made_again(bucket, listed, whole, tmp_path):
    write(OUT, listed, most=5)
    (name,) = [name for name in bucket.names() if "/shards/" in name]
    content = bytearray(bucket.get(name))
    content[len(content) // 2] ^= 1
    bucket.put(name, bytes(content[:-9]))
    with pytest.raises(CacheError, match="the same heliograph extract command goes on"):
        write(OUT, listed)
    write(OUT, listed)
    require_whole(bucket, whole, tmp_path)


def test_consolidation_where_the_writers_died(bucket, listed, whole, tmp_path):
    write(OUT, listed, most=7)
    bucket.put("j.h5.joined/claims/0a", DEAD.encode())
    found = consolidate_joined(OUT)
    assert (found.clips, found.failed, found.unfinished) == (6, 1, 3)
    assert bucket.names() == ["j.h5", "j.h5.ledger.jsonl"]
    sentence = r"^s3://clips/j\.h5: nothing to consolidate: .* s3://clips/j\.h5 is already written"
    with pytest.raises(CacheError, match=sentence):
        consolidate_joined(OUT)
    assert len(write(OUT, listed)[0]) == 4  # the failed one, too
    require_whole(bucket, whole, tmp_path)


def test_what_another_wrote_meanwhile_is_not_replaced(bucket, listed, whole, tmp_path):
    with opened(OUT) as store:
        for clip in store.offer(listed, lambda *_: None):
            treat(store, clip)
        store.finish(listed, lambda *_: None)
        part = tmp_path / "part.h5"
        whole_of(part, listed[:3])
        fetch = store.shared.fetch_shards

        def fetch_late(paths):  # after the cache was looked for
            bucket.put("j.h5", part.read_bytes())
            fetch(paths)

        store.shared.fetch_shards = fetch_late
        with pytest.raises(CacheError, match=r"^s3://clips/j.h5 was written by another process"):
            store.consolidate(listed)
    assert bucket.get("j.h5") == part.read_bytes()
    write(OUT, listed)
    require_whole(bucket, whole, tmp_path)


def test_a_cache_made_otherwise_is_refused(bucket, listed):
    write(OUT, listed, most=2)
    sentence = r"^s3://clips/j\.h5\.joined was made with .* and this run has 'other'"
    with pytest.raises(CacheError, match=sentence):
        opened(OUT, fingerprint={"name": "other", "weights": {"sha256": "ab"}})
    consolidate_joined(OUT)
    with pytest.raises(CacheError, match=r"^s3://clips/j\.h5 was made with"):
        opened(OUT, fingerprint={"name": "other", "weights": {"sha256": "ab"}})


def test_the_mirror_of_a_dead_process_is_removed(bucket, listed):
    with opened(OUT) as store:
        mirror = store.target.parent
        dead = mirror.with_name(mirror.name.replace(f"-{os.getpid()}-", "-4194303-"))
        (dead / "j.h5.joined").mkdir(parents=True)
        with opened(OUT):
            assert not dead.exists()
        assert mirror.exists()


def test_where_nothing_is(bucket):
    assert look_up_if_there(OUT) is None
    with pytest.raises(CacheError, match=r"there is no s3://clips/j\.h5\.joined$"):
        consolidate_joined(OUT)


class TestParts:
    """A cache that is too large for a file, for which three clips are too many."""

    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch):
        # A clip has 3 x 4 features of 4 bytes, and 3 thumbnails of 4.
        monkeypatch.setattr(parts, "PART_BYTES", 2 * (48 + 12))
        monkeypatch.setattr(shared_folder, "KEPT_BYTES", 0)

    def require_parts(self, out, whole, place):
        shutil.rmtree(place, ignore_errors=True)
        files = look_up_all(out)
        assert all(file.address.parent == out for file in files), "a folder, and nothing below"
        place.mkdir()
        for file in files:
            fetch(file, place / file.address.name)
        stated = json.loads((place / "index.json").read_text())["parts"]
        assert sorted(os.listdir(place)) == sorted(["index.json", *(one["name"] for one in stated)])
        assert [one["clips"] for one in stated] == [2, 2, 2, 2, 1]
        assert whole.differences(load(place)) == []
        assert whole.content_sha256 == load(place).content_sha256
        assert verify(place) == []
        left = [file.address for file in look_up_all(out.parent) if file.address.parent != out]
        assert left == [ledger_path(out)]

    def test_writers_side_by_side(self, bucket, listed, whole, tmp_path):
        write_side_by_side(OUT, listed)
        self.require_parts(OUT, whole, tmp_path / "fetched")
        bucket.requests.clear()
        _, known = write(OUT, listed)  # there is nothing to do
        assert len(known) == 9
        assert not [path for verb, path in bucket.requests if verb == "PUT" and "/j.h5/" in path]
        self.require_parts(OUT, whole, tmp_path / "fetched")

    def test_beside_a_late_writer(self, bucket, listed, whole, tmp_path):
        assert len(write_beside_a_late_one(OUT, listed)) == 9
        self.require_parts(OUT, whole, tmp_path / "fetched")

    def test_at_google(self, listed, whole, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
        with serve_google_bucket():
            out = Address("gs:/clips/j.h5")
            write(out, listed)
            self.require_parts(out, whole, tmp_path / "fetched")
            write(out, listed)
            self.require_parts(out, whole, tmp_path / "fetched")

    def test_the_disk_has_one_part_and_its_shards(
        self, bucket, listed, whole, tmp_path, monkeypatch
    ):
        def blocks():
            """Return how many files below the home have features in them."""
            files = (tmp_path / "home").rglob("*.h5")
            return sum(load_or_none(path) is not None for path in files)

        seen = []
        write_rows = parts.write_rows

        def watched(path, *words):
            before = blocks()
            seal = write_rows(path, *words)
            seen.append((before, blocks()))
            return seal

        monkeypatch.setattr(parts, "write_rows", watched)
        with opened(OUT) as store:
            for clip in listed:
                treat(store, clip)
                store.flush()
            assert blocks() == 0
        with opened(OUT) as store:
            store.consolidate(listed)
        assert seen == [(2, 3), (2, 3), (2, 3), (2, 3), (1, 2)]
        self.require_parts(OUT, whole, tmp_path / "fetched")

    def test_a_file_becomes_a_folder_that_grows(self, bucket, listed, whole, tmp_path):
        write(OUT, listed[:2])
        assert "j.h5" in bucket.names()
        write(OUT, listed[:5])
        assert "j.h5" not in bucket.names()
        old = {name for name in bucket.names() if name.startswith("j.h5/")}
        bucket.requests.clear()
        write(OUT, listed)
        gone = old - set(bucket.names())
        assert len(gone) == 1  # the part that was not full, and not the two that were
        for name in old - gone - {"j.h5/index.json"}:
            assert not bucket.count("PUT", name)
        self.require_parts(OUT, whole, tmp_path / "fetched")

    def test_a_put_that_fails_leaves_the_old_cache(self, bucket, listed, whole, tmp_path):
        write(OUT, listed[:5])
        before = {name: bucket.get(name) for name in bucket.names() if name.startswith("j.h5/")}
        with opened(OUT) as store:
            for clip in listed[5:]:
                treat(store, clip)
            store.flush()
            real = bucket._is_faulty
            bucket._is_faulty = lambda method: (
                "403 Forbidden"
                if "/j.h5/" in bucket.requests[-1][1] and method == "PUT"
                else real(method)
            )
            with pytest.raises(RemoteError, match="the server answers 403"):
                store.consolidate(listed)
            del bucket._is_faulty
        assert {name: bucket.get(name) for name in before} == before
        write(OUT, listed)
        self.require_parts(OUT, whole, tmp_path / "fetched")

    def test_what_another_process_has_written(self, bucket, listed):
        write(OUT, listed[:5])
        with opened(OUT) as store:
            for clip in listed[5:]:
                treat(store, clip)
            store.flush()
            publish = store.shared.publish_target
            other = bucket.get("j.h5/index.json") + b" "

            def publish_after_another():
                bucket.put("j.h5/index.json", other)
                publish()

            store.shared.publish_target = publish_after_another
            with pytest.raises(CacheError, match="was written by another process meanwhile"):
                store.consolidate(listed)
        assert bucket.get("j.h5/index.json") == other


def load_or_none(path):
    try:
        return load(path)
    except CacheError:
        return None
