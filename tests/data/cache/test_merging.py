import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from data.cache import (
    CacheError,
    hdf5_reader,
    is_merge,
    load,
    merge,
    merging,
    parts,
    row_batches,
    save,
    verify,
)
from data.cache import rows as cache_rows
from tests.helpers.caches import features
from tests.helpers.few_at_once import have_few_in_memory


class TestMerge:
    def test_parts_merged_are_the_whole(self, tmp_path):
        whole = features()
        save(whole.select([0, 1, 2]), tmp_path / "a.h5")
        save(whole.select([3, 4, 5, 6]), tmp_path / "b.h5")
        merge([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "ab.h5")
        assert load(tmp_path / "ab.h5").differences(whole) == []
        assert verify(tmp_path / "ab.h5") == []

    def test_a_clip_in_both_is_taken_once(self, tmp_path):
        whole = features()
        save(whole.select([0, 1, 2, 3]), tmp_path / "a.h5")
        save(whole.select([3, 2, 4, 5, 6]), tmp_path / "b.h5")
        merge([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "ab.h5")
        assert load(tmp_path / "ab.h5").differences(whole) == []

    @pytest.mark.parametrize("at_once", [1, 3, 100])
    def test_few_rows_at_once_are_the_whole(self, tmp_path, monkeypatch, at_once):
        """Thumbnails are of the first cache that has some, and parts are as if there was one."""
        monkeypatch.setattr(row_batches, "_AT_ONCE", at_once)
        monkeypatch.setattr(cache_rows, "_ROWS_AT_ONCE", at_once)
        monkeypatch.setattr(parts, "PART_CLIPS", 4)
        pictures = np.arange(7 * 6 * 4, dtype=np.uint8).reshape(7, 6, 2, 2)
        whole, bare = replace(features(), thumbnails=pictures), features()
        monkeypatch.setattr(parts, "PART_CLIPS", 99)
        save(bare.select([5, 1, 2]), tmp_path / "a.h5")
        save(whole.select([2, 0, 3, 1]), tmp_path / "b.h5")
        save(replace(whole, thumbnails=255 - pictures).select([1, 6, 4]), tmp_path / "c.h5")
        paths = [tmp_path / f"{name}.h5" for name in "abc"]
        monkeypatch.setattr(parts, "PART_CLIPS", 4)
        merge(paths, tmp_path / "abc.h5")
        found = load(tmp_path / "abc.h5")
        expected = replace(
            whole,
            thumbnails=np.concatenate([pictures[:4], 255 - pictures[[4]], pictures[[5]] * 0,
                                       255 - pictures[[6]]]),
            without_thumbnails=np.arange(7) == 5,
        ).select([5, 1, 2, 0, 3, 6, 4])  # fmt: skip
        assert found.differences(expected) == []
        assert sorted(len(load(part)) for part in (tmp_path / "abc.h5").glob("*.h5")) == [3, 4]
        assert is_merge(tmp_path / "abc.h5", paths)
        assert not is_merge(tmp_path / "abc.h5", paths[::-1])

    def test_a_cache_that_is_replaced_meanwhile_is_not_mixed_with_what_it_was(
        self, tmp_path, monkeypatch
    ):
        paths = [tmp_path / "a.h5", tmp_path / "b.h5"]
        save(features(prefix="a"), paths[0])
        save(features(prefix="b"), paths[1])

        def read_late(path):
            save(features(prefix="c"), paths[0])
            return hdf5_reader.read_metadata(path)

        monkeypatch.setattr(merging, "read_metadata", read_late)
        with pytest.raises(CacheError, match=r"a\.h5 was replaced meanwhile: start the same comm"):
            merge(paths, tmp_path / "ab.h5")
        assert not (tmp_path / "ab.h5").exists()

    def test_memory_does_not_hold_the_clips(self, tmp_path, monkeypatch):
        """Not even digests: they are in files, which low limits begin early."""
        have_few_in_memory(monkeypatch)

        def peak(first: int, last: int) -> int:
            paths = [tmp_path / f"{number}.h5" for number in range(first, last)]
            for path in paths:
                save(features(100, prefix=path.stem, seed=int(path.stem), failures=[]), path)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            merge(paths, tmp_path / f"{first}-{last}.h5")
            return tracemalloc.get_traced_memory()[1] - before

        peak(0, 2)  # what is imported and made once
        tracemalloc.start()
        try:
            few, many = peak(0, 4), peak(4, 20)
        finally:
            tracemalloc.stop()
        assert (many - few) / 1200 < 40

    def test_labels_that_only_one_knows(self, tmp_path):
        save(features(2, prefix="a", labels={"mass": np.ones(2)}), tmp_path / "a.h5")
        save(features(1, prefix="b", labels={"size": np.ones(1)}), tmp_path / "b.h5")
        merge([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "ab.h5")
        labels = load(tmp_path / "ab.h5").labels
        np.testing.assert_array_equal(labels["mass"], [1, 1, np.nan])
        np.testing.assert_array_equal(labels["size"], [np.nan, np.nan, 1])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"fingerprint": {"name": "fake", "weights": {"sha256": "cd", "revision": 1}}},
                "fingerprint.weights.sha256 is 'ab' in one and 'cd' in the other",
            ),
            ({"sampler": {"name": "uniform", "frames": 8}}, "--frames is 6 in one and 8"),
            ({"decoder": {"name": "pyav"}}, "decoder.ffmpeg is '8.0' in one and not known"),
            (
                {"features": np.zeros((7, 3, 4), np.float16)},
                r"float16 \(3, 5\) in one and float16 \(3, 4\) in the other",
            ),
        ],
    )
    def test_what_differs_does_not_mix_and_the_field_is_named(self, tmp_path, change, message):
        save(features(prefix="a"), tmp_path / "a.h5")
        save(features(prefix="b", **change), tmp_path / "b.h5")
        with pytest.raises(CacheError, match=message) as error:
            merge([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "ab.h5")
        assert "a.h5" in str(error.value)
        assert not (tmp_path / "ab.h5").exists()

    def test_two_clips_of_one_id_are_refused(self, tmp_path):
        save(features(seed=0), tmp_path / "a.h5")
        save(features(seed=1), tmp_path / "b.h5")
        with pytest.raises(CacheError, match=r"a\.h5 and .*b\.h5 both have a clip c/é 0\.mp4"):
            merge([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "ab.h5")

    def test_into_one_of_its_sources(self, tmp_path):
        save(features(prefix="a"), tmp_path / "a.h5")
        save(features(prefix="b"), tmp_path / "b.h5")
        merge([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "a.h5")
        assert len(load(tmp_path / "a.h5")) == 14
        assert verify(tmp_path / "a.h5") == []


class TestObjectsOfEqualContent:
    @staticmethod
    def caches(tmp_path, first: str, second: str, **times):
        """Two caches of one file: clip `a` with object `first`, clip `b` with `second`."""
        paths = []
        for prefix, name in (("a", first), ("b", second)):
            own = {column: values[prefix] for column, values in times.items()}
            columns = {"source_sha256": ["e" * 64], "failures": [], "key": []} | own
            made = features(1, prefix=prefix, clip_id=[prefix], object=[name], **columns)
            paths.append(tmp_path / f"{prefix}.h5")
            save(made, paths[-1])
        return paths

    @pytest.mark.parametrize(
        ("first", "second", "objects"),
        [("thing", "b", ["thing"] * 2), ("", "thing", ["thing"] * 2), ("a", "b", ["a", "a"])],
    )
    def test_those_without_one_share_it(self, tmp_path, first, second, objects):
        paths = self.caches(tmp_path, first, second)
        (note,) = merge(paths, tmp_path / "ab.h5")
        assert "1 clip has the content of another clip and no object" in note
        assert load(tmp_path / "ab.h5").object == objects

    def test_two_objects_are_refused(self, tmp_path):
        paths = self.caches(tmp_path, "thing", "thing_b")
        with pytest.raises(CacheError) as refusal:
            merge(paths, tmp_path / "ab.h5")
        text = str(refusal.value)
        for named in (*map(str, paths), "'a'", "'b'", "'thing'", "'thing_b'", "cache label"):
            assert named in text
        assert not (tmp_path / "ab.h5").exists()

    def test_stretches_that_touch_are_not(self, tmp_path):
        times = {
            "start": {"a": [0.0], "b": [2.0]},
            "end": {"a": [2.0], "b": [np.nan]},
        }
        assert merge(self.caches(tmp_path, "thing", "other", **times), tmp_path / "ab.h5") == []

    def test_a_clip_in_both_takes_the_object_that_one_knows(self, tmp_path):
        known = features()
        save(features(object=known.clip_id), tmp_path / "a.h5")
        save(known, tmp_path / "b.h5")
        assert merge([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "ab.h5") == []
        assert load(tmp_path / "ab.h5").object == known.object
        save(features(object=["another"] * 7), tmp_path / "c.h5")
        with pytest.raises(CacheError, match="'another'"):
            merge([tmp_path / "b.h5", tmp_path / "c.h5"], tmp_path / "bc.h5")

    def test_frames_tell_stretches_of_one_file_apart_where_nothing_else_does(self, tmp_path):
        """A cache of version 1 does not say which seconds of its file a clip is."""
        times = {
            "pts_seconds": {"a": np.arange(6.0)[None], "b": np.arange(6.0, 12.0)[None]},
            "key": {"a": ["a" * 64], "b": ["b" * 64]},
        }
        paths = self.caches(tmp_path, "thing", "other", **times)
        assert merge(paths, tmp_path / "ab.h5") == []
        times["pts_seconds"]["b"] -= 2
        with pytest.raises(CacheError, match="same content"):
            merge(self.caches(tmp_path, "thing", "other", **times), tmp_path / "ab.h5")
