"""Several processes that write one cache: nobody does a clip twice, and nothing is lost."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.cache import (
    CacheError,
    JoinedStore,
    batches,
    consolidate_joined,
    load,
    read_ledger,
    verify,
)
from data.cache.joined import store as joined_store
from data.cache.joined.claims import CLAIM_SECONDS
from data.files import hash_file, process_name
from data.lock import BusyError
from tests.helpers.caches import MADE_WITH
from tests.helpers.joined_stores import (
    made_clips,
    opened,
    treat,
    whole_of,
    write,
    write_beside_a_late_one,
    write_side_by_side,
)

HERE = process_name().split("-")[0]
DEAD = f"{HERE}-4194305-1-{'0' * 16}"  # no system has so high a number
ELSEWHERE = f"{'0' * 8}-1-1-{'0' * 16}"


@pytest.fixture(autouse=True)
def _from_the_first(monkeypatch):
    """Let every process begin with the first clip, not anywhere."""
    monkeypatch.setattr(joined_store.random, "randrange", lambda count: 0)


@pytest.fixture
def listed(tmp_path):
    return made_clips(tmp_path / "films")


@pytest.fixture
def whole(tmp_path, listed):
    return whole_of(tmp_path / "plain.h5", listed)


def require_whole(target, whole):
    assert whole.differences(load(target)) == []
    assert verify(target) == []
    assert sorted(os.listdir(target.parent)) == sorted(
        ["films", *(f"{name}.h5{end}" for name in ("j", "plain") for end in ("", ".ledger.jsonl"))]
    )


def test_writers_side_by_side_make_the_cache_of_one(tmp_path, listed, whole):
    target = tmp_path / "j.h5"
    done = write_side_by_side(target, listed)
    assert sorted(done) == sorted(clip.id for clip in listed)
    require_whole(target, whole)
    assert {line["clip"] for line in read_ledger(target)} == set(done)


def test_writers_that_often_write(tmp_path, listed, whole, monkeypatch):
    monkeypatch.setattr(batches, "BATCH_SECONDS", 0.001)
    target = tmp_path / "j.h5"
    done = write_side_by_side(target, listed)
    assert sorted(done) == sorted(clip.id for clip in listed)
    require_whole(target, whole)


def test_a_late_writer_does_nothing_again_of_what_another_has_consolidated(tmp_path, listed, whole):
    target = tmp_path / "j.h5"
    known = write_beside_a_late_one(target, listed)
    assert known == {clip.id: "it is bad" if clip.id == "c6" else None for clip in listed[1:]}
    require_whole(target, whole)


def test_one_writer_alone_and_a_later_one_that_has_nothing_to_do(tmp_path, listed, whole):
    target = tmp_path / "j.h5"
    write(target, listed)
    require_whole(target, whole)
    before = target.stat().st_mtime_ns
    ends, known = write(target, listed)
    assert ends == {"c6": "failed"}  # what failed is tried again once the cache is written
    assert known == {clip.id: None for clip in listed if clip.id != "c6"}
    assert target.stat().st_mtime_ns == before


def test_many_clips_share_a_shard(tmp_path, listed):
    with opened(tmp_path / "j.h5") as store:
        for clip in store.offer(listed, lambda *_: None):
            treat(store, clip)
        store.flush()
        assert len(list(tmp_path.glob("j.h5.joined/shards/*/*.h5"))) == 1
        store.consolidate(listed)


def test_full_batches_are_written(tmp_path, listed, monkeypatch):
    monkeypatch.setattr(batches, "BATCH_CLIPS", 4)
    with opened(tmp_path / "j.h5") as store:
        for clip in store.offer(listed, lambda *_: None):
            treat(store, clip)
        assert len(list(tmp_path.glob("j.h5.joined/shards/*/*.h5"))) == 2


def test_what_a_writer_leaves_another_goes_on_with(tmp_path, listed, whole):
    target = tmp_path / "j.h5"
    first, _ = write(target, listed, most=4)
    assert not target.exists()
    second, known = write(target, listed)
    assert len(first) == 4
    assert not set(first) & set(second)
    assert set(known) == set(first)
    require_whole(target, whole)


@pytest.mark.parametrize(
    ("holder", "age", "void"),
    [(DEAD, 0, True), (ELSEWHERE, 0, False), (ELSEWHERE, CLAIM_SECONDS + 9, True)],
)
def test_claims_of_the_dead_are_void(tmp_path, listed, whole, holder, age, void):
    target = tmp_path / "j.h5"
    with opened(target) as store:
        offer = store.offer(listed, lambda *_: None)
        next(offer)
        (claim,) = target.parent.glob("j.h5.joined/claims/*")
        content = claim.read_text()
        offer.close()
    claim.parent.mkdir(parents=True, exist_ok=True)
    assert content == store.writer
    claim.write_text(holder)
    os.utime(claim, (time.time() - age,) * 2)
    ends, _ = write(target, listed)
    assert len(ends) == (10 if void else 9)
    if void:
        require_whole(target, whole)
    else:
        assert not target.exists()
        with pytest.raises(BusyError, match=r"j.h5 is being extracted by process 1 of host 0{8}"):
            consolidate_joined(target)


def test_a_failed_clip_is_tried_once_unless_one_insists(tmp_path, listed):
    target, some = tmp_path / "j.h5", listed[5:8]
    assert write(target, some, most=2)[0]["c6"] == "failed"
    ends, known = write(target, listed[6:7] + listed[:1], most=1)
    assert (ends, known) == ({"c0": "done"}, {"c6": "it is bad"})
    time.sleep(0.01)  # later than the failure
    ends, known = write(target, listed[6:7] + listed[1:3], most=1, retry_failed=True)
    assert (ends, known) == ({"c6": "failed"}, {})
    listed[6].path.write_bytes(b"good")
    assert write(target, some)[0] == {"c6": "done", "c7": "done"}


@pytest.mark.parametrize("field", ["fingerprint", "dtype"])
def test_features_made_otherwise_are_refused(tmp_path, listed, field):
    target = tmp_path / "j.h5"
    write(target, listed, most=2)
    if field == "fingerprint":
        other = {"fingerprint": {**MADE_WITH["fingerprint"], "name": "other"}}
        with pytest.raises(CacheError, match="and this run has 'other'; choose another output"):
            opened(target, **other)
    else:
        store = JoinedStore(target, **MADE_WITH)
        with pytest.raises(CacheError, match="go on with --dtype float32"):
            store.check_shape((3, 4), np.float16)


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_shard_is_made_again(tmp_path, listed, whole, damage):
    target = tmp_path / "j.h5"
    write(target, listed, most=5)
    (shard,) = tmp_path.glob("j.h5.joined/shards/*/*.h5")
    content = bytearray(shard.read_bytes())
    content[content.index(load(shard).features[0].tobytes()) + 3] ^= 1
    if damage == "remove":
        shard.unlink()
    else:
        shard.write_bytes(content if damage == "flip" else content[:-9])
    if damage != "remove":
        with pytest.raises(CacheError, match="the same heliograph extract command goes on"):
            write(target, listed)
        assert not target.exists()
    write(target, listed)
    require_whole(target, whole)


def test_a_torn_and_a_damaged_line_cost_their_clips(tmp_path, listed, whole):
    target = tmp_path / "j.h5"
    write(target, listed, most=5)
    (ledger,) = tmp_path.glob("j.h5.joined/writers/*")
    first, *lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(first.replace(b'"done"', b'"dome"') + b"".join(lines)[:-9])
    ends, _ = write(target, listed)
    assert len(ends) == 7
    require_whole(target, whole)


def test_consolidation_where_the_writers_died(tmp_path, listed, whole):
    target = tmp_path / "j.h5"
    write(target, listed, most=7)
    (target.parent / "j.h5.joined" / "claims").mkdir(exist_ok=True)
    (target.parent / "j.h5.joined" / "claims" / "0a").write_text(DEAD)
    found = consolidate_joined(target)
    assert (found.clips, found.failed, found.unfinished) == (6, 1, 3)
    part = load(target)
    assert part.clip_id == [clip.id for clip in listed if clip.id in part.clip_id]
    assert part.label_units == {"mass": "g"}
    assert part.versions == whole.versions
    assert not (tmp_path / "j.h5.joined").exists()
    with pytest.raises(CacheError, match="nothing to consolidate"):
        consolidate_joined(target)
    assert len(write(target, listed)[0]) == 4  # the failed one, too
    require_whole(target, whole)


def test_consolidation_in_parts_of_a_size(tmp_path, listed, whole):
    target = tmp_path / "j.h5"
    write(target, listed, most=9)
    consolidate_joined(target, part_bytes=3 * (48 + 12))
    assert sorted(len(load(part)) for part in target.glob("*.h5")) == [2, 3, 3]
    write(target, listed)
    assert sorted(len(load(part)) for part in target.glob("*.h5")) == [3, 3, 3]
    assert whole.differences(load(target)) == []


def test_lists_that_overlap(tmp_path, listed, whole):
    target = tmp_path / "j.h5"
    write(target, listed[:6])
    write(target, listed[4:])
    assert load(target).clip_id == [c.id for c in listed if c.id != "c6"]
    assert not (tmp_path / "j.h5.joined").exists()


def test_a_file_that_is_replaced_is_done_again(tmp_path, listed):
    target = tmp_path / "j.h5"
    write(target, listed[:3], most=2)
    listed[0].path.write_bytes(b"another film")
    ends, _ = write(target, listed[:3])
    assert len(ends) == (2 if "c0" not in ends else len(ends))
    row = load(target).clip_id.index("c0")
    assert load(target).source_sha256[row] == hash_file(listed[0].path).sha256


def test_a_writer_killed_between_shard_and_ledger_leaves_nothing(tmp_path, listed, whole):
    target = tmp_path / "j.h5"
    clips = [[replace(clip, path=str(clip.path)).id, str(clip.path)] for clip in listed[:3]]
    script = f"""
import os, json
from data.cache.joined import writer_ledgers
from data.clips import Clip
from tests.helpers.joined_stores import opened, treat
clips = [Clip(id=id, path=path) for id, path in json.loads({json.dumps(json.dumps(clips))})]
writer_ledgers.append_entries = lambda *_, **__: os.kill(os.getpid(), 9)
store = opened({str(target)!r})
for clip in store.offer(clips, print):
    treat(store, clip)
store.flush()
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[4])
    assert ended.returncode == -9
    assert len(list(tmp_path.glob("j.h5.joined/shards/*/*.h5"))) == 1
    assert len(write(target, listed)[0]) == 10
    require_whole(target, whole)


def test_what_a_kill_leaves_of_the_folder_goes(tmp_path, listed, whole):
    """Once the cache is written: a ledger that is in its ledger already, or empty folders."""
    target, folder = tmp_path / "j.h5", tmp_path / "j.h5.joined"
    write(target, listed, most=7)
    (ledger,) = folder.glob("writers/*")
    content, name = ledger.read_bytes(), (folder / "store.json").read_bytes()
    write(target, listed)
    lines = len(read_ledger(target))
    (folder / "writers").mkdir(parents=True)
    ledger.write_bytes(content)
    (folder / "store.json").write_bytes(name)
    write(target, listed)
    entries = read_ledger(target)
    assert len({json.dumps(entry) for entry in entries}) == len(entries) == lines
    (folder / "shards" / "0a").mkdir(parents=True)
    with pytest.raises(CacheError, match=r"nothing to consolidate: .*j\.h5 is already written"):
        consolidate_joined(target)
    assert not folder.exists()


def test_a_folder_of_videos_is_nothing_to_consolidate(tmp_path):
    (tmp_path / "films").mkdir()
    sentence = r"films is no output of `heliograph extract --join`$"
    with pytest.raises(CacheError, match=sentence):
        consolidate_joined(tmp_path / "films")
