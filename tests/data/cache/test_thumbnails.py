"""Thumbnails that some clips of a cache have and others do not, through everything that copies."""

from dataclasses import replace

import numpy as np
import pytest

from data import cache
from data.cache import (
    CacheError,
    Features,
    ShardStore,
    info,
    is_merge,
    label,
    load,
    merge,
    restore,
    save,
    verify,
)
from data.clips import Clip
from data.interchange import export
from tests.helpers.caches import MADE_WITH, clips, features, source

WITHOUT = [False, True, False, False, True, False, False]


def pictures(count: int = 7) -> np.ndarray:
    made = np.random.default_rng(0).integers(0, 256, (count, 6, 4, 4), np.uint8)
    made[3] = 0  # a black clip has thumbnails like any other
    return made


@pytest.fixture
def some() -> Features:
    """Seven clips, the second and the fifth without thumbnails."""
    own = pictures()
    own[WITHOUT] = 0
    return features(thumbnails=own, without_thumbnails=np.array(WITHOUT))


@pytest.fixture
def path(some, tmp_path):
    save(some, tmp_path / "c.h5")
    return tmp_path / "c.h5"


def test_black_is_not_missing(some):
    assert some.has_thumbnails.tolist() == [not one for one in WITHOUT]
    all_black = replace(some, thumbnails=np.zeros_like(some.thumbnails))
    assert all_black.has_thumbnails.sum() == 5


@pytest.mark.parametrize("mapped", [False, True])
def test_a_file_says_which_clips_have_none(path, some, mapped):
    found = load(path, mapped=mapped)
    assert found.differences(some) == []
    assert found.content_sha256 == some.content_sha256
    assert info(path)["thumbnails"] == 5
    assert verify(path) == []


def test_the_identity_knows_them_and_that_of_a_cache_without_is_what_it_was(some):
    none = features()
    everyone = replace(some, without_thumbnails=np.zeros(7, bool))
    assert len({none.content_sha256, some.content_sha256, everyone.content_sha256}) == 3
    filled = replace(some, thumbnails=pictures())
    assert filled.content_sha256 == some.content_sha256  # what is in the gaps means nothing
    assert none.content_sha256 == (
        "ca11a4218ed3ad0380f7c3cd700309d3fb001a7a8de6f1ae16bb006f6171b6d2"
    )


def test_selected_clips_keep_theirs(some):
    assert some.select([4, 3]).has_thumbnails.tolist() == [False, True]
    assert some.select([1, 4]).thumbnails.size == 0
    assert some.select([0, 2]).without_thumbnails.tolist() == [False, False]


def test_all_clips_without_are_a_cache_without(some):
    none = replace(some, without_thumbnails=np.ones(7, bool))
    assert none.differences(features()) == []
    assert none.content_sha256 == features().content_sha256


def test_parts_keep_them_and_may_have_none(some, tmp_path):
    flags = np.array([False, True, True, True, True, False, False])
    own = np.where(flags[:, None, None, None], np.uint8(0), pictures())
    mixed = replace(some, thumbnails=own, without_thumbnails=flags)
    save(mixed, tmp_path / "c", clips_per_part=2)  # the second part has none
    found = load(tmp_path / "c")
    assert found.differences(mixed) == []
    assert found.content_sha256 == mixed.content_sha256
    assert verify(tmp_path / "c") == []
    merge([tmp_path / "c"], tmp_path / "one.h5")
    assert load(tmp_path / "one.h5").differences(mixed) == []


def test_merge_keeps_them_beside_a_cache_without(path, some, tmp_path):
    other = features(prefix="d", seed=1)
    save(other, tmp_path / "d.h5")
    merge([tmp_path / "d.h5", path], tmp_path / "m.h5")
    found = load(tmp_path / "m.h5")
    assert found.has_thumbnails.tolist() == [False] * 7 + some.has_thumbnails.tolist()
    assert np.array_equal(found.thumbnails[7:], some.thumbnails)
    assert is_merge(tmp_path / "m.h5", [tmp_path / "d.h5", path])
    assert verify(tmp_path / "m.h5") == []


@pytest.mark.parametrize("turn", [1, -1])
def test_a_clip_of_two_caches_has_the_thumbnails_that_one_of_them_has(path, some, tmp_path, turn):
    save(features(), tmp_path / "older.h5")
    both = [path, tmp_path / "older.h5"][::turn]
    merge(both, tmp_path / "m.h5")
    assert load(tmp_path / "m.h5").differences(some) == []
    assert is_merge(tmp_path / "m.h5", both)


def test_labels_set_anew_leave_them(path, some):
    label(path, [Clip(id=some.clip_id[0], path=path, labels={"mass": 9.0})])
    found = load(path)
    assert found.labels["mass"][0] == 9.0
    assert found.has_thumbnails.tolist() == some.has_thumbnails.tolist()
    assert np.array_equal(found.thumbnails, some.thumbnails)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_export_has_them(some, tmp_path, suffix):
    export(some, tmp_path / f"c{suffix}")
    if suffix == ".npz":
        written = np.load(tmp_path / "c.npz")
    else:
        from safetensors.numpy import load_file

        written = load_file(tmp_path / "c.safetensors")
    assert np.array_equal(written["thumbnails"], some.thumbnails)
    assert written["without_thumbnails"].tolist() == WITHOUT
    export(features(), tmp_path / f"none{suffix}")
    assert b"thumbnails" not in (tmp_path / f"none{suffix}").read_bytes()


@pytest.mark.parametrize("clip", [1, 2])
def test_every_byte_of_them_is_verified(path, some, clip):
    """Those of a clip that has none, too: they are zeros."""
    content = bytearray(path.read_bytes())
    place = content.find(some.thumbnails[2].tobytes()) + (clip - 2) * some.thumbnails[0].nbytes
    content[place + 5] ^= 4
    path.write_bytes(content)
    assert [str(problem) for problem in verify(path)] == [
        f"{some.clip_id[clip]}: its thumbnails are damaged"
    ]


def test_a_column_that_says_something_else_is_refused(some):
    with pytest.raises(CacheError, match="without_thumbnails has shape"):
        replace(some, without_thumbnails=np.ones(3, bool) & [True, False, True])


def add(store: ShardStore, clip: Clip, thumbnails: np.ndarray | None) -> None:
    number = int(clip.id[5:8])
    values = np.random.default_rng(number).normal(size=(2, 8)).astype(np.float16)
    store.add(
        clip, values, np.arange(4), np.arange(4) / 24, source_sha256=source(clip),
        thumbnails=thumbnails,
    )  # fmt: skip


class TestShards:
    @pytest.fixture
    def target(self, tmp_path):
        """Four clips, of which the last two have thumbnails."""
        path, own = tmp_path / "c.h5", pictures(4)[:, :4]
        with ShardStore(path, **MADE_WITH) as store:
            for clip, shown in zip(clips(4), [None, None, own[2], own[3]], strict=True):
                add(store, clip, shown)
            store.consolidate(clips(4))
        return path

    def test_shards_keep_them(self, target):
        found = load(target)
        assert found.has_thumbnails.tolist() == [False, False, True, True]
        assert np.array_equal(found.thumbnails[2:], pictures(4)[2:, :4])
        assert verify(target) == []

    def test_a_repair_adds_none_to_a_clip_that_had_none(self, target):
        before = load(target)
        again = clips(3)[1:]
        with ShardStore(target, **MADE_WITH, repair=[clip.id for clip in again]) as store:
            for clip in again:
                add(store, clip, pictures(4)[2, :4])
            store.consolidate(again)
        assert load(target).differences(before) == []
        assert load(target).content_sha256 == before.content_sha256

    @pytest.mark.parametrize("what", [b"object 3", b"fall/003.mp4"])
    def test_what_the_ledger_brings_back_has_them_as_before(self, target, what):
        before, content = load(target), bytearray(target.read_bytes())
        content[content.find(what) + 2] ^= 4
        target.write_bytes(content)
        assert verify(target) != []
        restore(target)
        assert verify(target) == []
        assert load(target).differences(before) == []

    def test_a_shard_with_damaged_thumbnails_is_made_again(self, tmp_path):
        shown = pictures(4)[2, :4]
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            add(store, clips(1)[0], shown)
        (shard,) = cache.errors.shards_of(tmp_path / "c.h5").glob("*.h5")
        content = bytearray(shard.read_bytes())
        content[content.find(shown.tobytes())] ^= 1
        shard.write_bytes(content)
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            assert not store.is_done(clips(1)[0], source(clips(1)[0]))
