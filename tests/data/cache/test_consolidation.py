import random
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.cache import (
    CacheError,
    DamagedCacheError,
    ShardStore,
    batches,
    load,
    parts,
    row_batches,
)
from data.cache import rows as cache_rows
from tests.helpers.caches import MADE_WITH, clips, extract, full
from tests.helpers.few_at_once import have_few_in_memory


@pytest.fixture
def few_at_once(monkeypatch):
    """Make a few rows at once, shards and parts of a few clips."""
    monkeypatch.setattr(row_batches, "_AT_ONCE", 3)
    monkeypatch.setattr(cache_rows, "_ROWS_AT_ONCE", 4)
    monkeypatch.setattr(batches, "BATCH_CLIPS", 2)
    monkeypatch.setattr(parts, "PART_CLIPS", 5)


def test_a_cache_of_many_clips_becomes_a_folder_whatever_their_bytes(tmp_path, few_at_once):
    path = full(tmp_path / "c.h5", 20)
    assert sorted(len(load(part)) for part in path.glob("*.h5")) == [3, 5, 5, 5]
    assert full(tmp_path / "d.h5", 5).is_file()


def test_a_few_rows_at_once_in_any_order_are_the_whole(tmp_path, monkeypatch, request):
    whole = load(full(tmp_path / "whole.h5", 40))
    request.getfixturevalue("few_at_once")
    full(tmp_path / "c.h5", 23)
    for seed in range(3):
        order = clips(40)
        random.Random(seed).shuffle(order)
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            extract(store, order)
            store.consolidate(order)
        found, rows = load(tmp_path / "c.h5"), {one: n for n, one in enumerate(whole.clip_id)}
        expected = whole.select([rows[clip.id] for clip in order if clip.id in rows])
        failures = [(clip.id, whole.failures[0][1]) for clip in order if clip.id not in rows]
        assert found.differences(replace(expected, failures=failures)) == []
        assert found.content_sha256 == replace(expected, failures=failures).content_sha256


def test_a_clip_that_is_there_twice_is_refused_across_parts(tmp_path, few_at_once):
    twice = [*clips(7), *clips(7)]
    with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
        extract(store, clips(7))
        with pytest.raises(CacheError, match=r"clip id 'fall/000\.mp4' appears twice"):
            store.consolidate(twice)


def test_a_shard_that_is_gone_is_a_sentence(tmp_path):
    with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
        extract(store, clips(3))
        store.flush()
        (shard,) = (tmp_path / "c.h5.parts").glob("[0-9a-f]*.h5")
        shard.unlink()
        with pytest.raises(DamagedCacheError, match=f"{shard} is damaged or gone; the same"):
            store.consolidate(clips(3))


def test_memory_does_not_hold_the_clips(tmp_path, monkeypatch):
    """Not even digests: they are in files, which low limits begin early."""
    have_few_in_memory(monkeypatch)
    index = np.arange(4)

    def peak(count: int, target: Path) -> int:
        some = [
            replace(clip, id=f"fall/{n:05d}.mp4", table_sha256="a" * 64)
            for n, clip in enumerate(clips(count))
        ]
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        with ShardStore(target, **MADE_WITH) as store:
            for number, clip in enumerate(some):
                store.add(
                    clip, np.full((2, 8), number % 99, np.float16), index, index / 24,
                    source_sha256=f"{number:064x}",
                )  # fmt: skip
            store.consolidate(some)
        return tracemalloc.get_traced_memory()[1] - before

    full(tmp_path / "first.h5", 3)  # what is imported and made once
    tracemalloc.start()
    try:
        few, many = peak(400, tmp_path / "few.h5"), peak(1600, tmp_path / "many.h5")
    finally:
        tracemalloc.stop()
    assert (many - few) / 1200 < 40
