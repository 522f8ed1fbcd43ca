"""Near-duplicates across the parts of a split, found by their features."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from data import memory
from data.errors import OutOfMemoryError
from data.interchange import import_features
from pipeline.dataset import Examples, Lookalikes, Split, blocks, leaks
from pipeline.dataset.leaks import chance_bound
from tests.helpers.caches import features
from tests.helpers.memory import peak_memory

SHARED = Path(__file__).resolve().parents[3] / "../shared/data"


def made(copies: int = 0, *, objects: int = 12, each: int = 5, caches: int = 1, dims: int = 40):
    """Examples of unlike clips, the last ones nearly copies of the first, of other objects."""
    rng = np.random.default_rng(0)
    count = objects * each
    arrays = []
    for _ in range(caches):
        array = rng.normal(size=(count, dims)) @ rng.normal(size=(dims, 3 * 32)) + 5
        for number in range(copies):
            array[count - 1 - number] = array[number] + rng.normal(size=96) * 0.1
        arrays.append(array.reshape(count, 3, 32).astype(np.float16))
    names = tuple(f"o{number // each:02d}" for number in range(count))
    return Examples(tuple(arrays), rng.normal(size=(count, 1)), names)


def splits(examples: Examples, seeds: int = 6) -> list[Split]:
    return [examples.split("objects", seed) for seed in range(seeds)]


class TestLookalikes:
    @pytest.mark.parametrize("caches", [1, 2])
    def test_copies_are_found_and_nothing_else(self, caches):
        examples = made(4, caches=caches)
        of_seeds = splits(examples)
        found = Lookalikes.of(examples).across_all(of_seeds)
        crossing = {
            (number, 59 - number)
            for number in range(4)
            for split in of_seeds
            if len({_part(split, number), _part(split, 59 - number)}) == 2
        }
        assert {(pair.clip, pair.other) for pair in found} == crossing
        assert crossing
        assert all(pair.cosine > 0.99 for pair in found)
        assert Lookalikes.of(made(caches=caches)).across_all(of_seeds) == []

    def test_each_split_counts_its_own_and_clips_in_no_part_do_not(self):
        examples = made(1)
        looks = Lookalikes.of(examples)
        numbers = np.arange(1, 59)
        generator = np.random.RandomState(0)

        def split(train, validation, test):
            return Split(
                *(np.array(part, np.int64) for part in (train, validation, test)), generator
            )

        for parts in (([0], [59], []), ([0], [], [59]), ([], [0], [59])):
            parts = [
                [*part, *own] for part, own in zip(parts, np.split(numbers, [40, 50]), strict=True)
            ]
            pairs, cosines = looks.across(split(*parts))
            assert pairs.tolist() == [[0, 59]]
            assert cosines[0] > 0.99
        for parts in (([0, 59], [], []), ([0], [], [])):
            parts = [
                [*part, *own] for part, own in zip(parts, np.split(numbers, [40, 50]), strict=True)
            ]
            assert len(looks.across(split(*parts))[0]) == 0

    def test_the_same_as_all_cosines_of_the_split(self):
        examples = made(6, objects=9, each=4)
        looks = Lookalikes.of(examples)
        rows = examples.flat_features()
        for split in splits(examples):
            centred = rows - rows[split.train].mean(axis=0)
            centred /= np.linalg.norm(centred, axis=1, keepdims=True)
            expected = {
                (one, two)
                for one in range(36)
                for two in range(one + 1, 36)
                if _part(split, one) != _part(split, two)
                and examples.objects[one] != examples.objects[two]
                and centred[one] @ centred[two] >= looks.bound
            }
            assert set(map(tuple, looks.across(split)[0].tolist())) == expected

    @pytest.mark.parametrize("caches", [1, 2])
    def test_very_wide_features_are_shortened_and_the_same_copies_found(self, monkeypatch, caches):
        examples = made(4, caches=caches)
        of_seeds = splits(examples)
        expected = Lookalikes.of(examples).across_all(of_seeds)
        assert expected
        monkeypatch.setattr(leaks, "MOST_NUMBERS", 60 * 80)
        monkeypatch.setattr(leaks, "SHORTENED", 64)
        monkeypatch.setattr(blocks, "BLOCK_NUMBERS", 500)
        assert leaks.unit_rows(examples.caches).shape == (60, 64 * caches)
        found = Lookalikes.of(examples).across_all(of_seeds)
        assert [(pair.clip, pair.other) for pair in found] == [
            (pair.clip, pair.other) for pair in expected
        ]
        np.testing.assert_allclose(
            [pair.cosine for pair in found], [pair.cosine for pair in expected], atol=1e-6
        )

    def test_it_holds_a_block_of_clips_and_not_all(self, monkeypatch, tmp_path):
        """A float32 copy of these features is 16 MB; it was made, and of each split another."""
        path = tmp_path / "features.npy"
        rng = np.random.default_rng(0)
        np.save(path, rng.normal(size=(400, 10, 1000)).astype(np.float16))
        labels, names = rng.normal(size=(400, 1)), tuple(f"o{n // 20:02d}" for n in range(400))
        examples = Examples((np.load(path, mmap_mode="r"),), labels, names)
        monkeypatch.setattr(leaks, "MOST_NUMBERS", 400 * 64)
        monkeypatch.setattr(leaks, "SHORTENED", 64)
        monkeypatch.setattr(blocks, "BLOCK_NUMBERS", 1 << 16)
        monkeypatch.setattr(leaks, "NUMBERS_AT_ONCE", 1 << 16)
        with peak_memory() as peak:
            looks = Lookalikes.of(examples)
            for split in splits(examples, 2):
                looks.across(split)
        assert peak.bytes < 6 << 20

    def test_too_little_memory_is_a_sentence(self, monkeypatch):
        monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
        with pytest.raises(OutOfMemoryError, match=r"near-duplicates among 60 clips takes .* free"):
            Lookalikes.of(made())

    def test_clips_of_one_object_are_not_compared(self):
        examples = made(4)
        one = dataclasses.replace(examples, objects=("thing",) * len(examples))
        assert len(Lookalikes.of(one).pairs) == 0

    def test_a_split_without_them_keeps_the_other_test_clips(self):
        examples = made(5)
        looks = Lookalikes.of(examples)
        for split in splits(examples):
            rest = looks.without(split)
            gone = set(split.test) - set(rest.test)
            twins = {59 - clip for clip in gone}
            assert twins <= set(split.train)
            expected = {clip for clip in split.test if (59 - clip) in split.train and
                        (clip < 5 or clip > 54)}  # fmt: skip
            assert gone == expected
            assert np.array_equal(rest.train, split.train)

    def test_features_along_few_dimensions_say_nothing(self):
        examples = made(0, dims=2)
        assert Lookalikes.of(examples).bound == np.inf
        assert len(Lookalikes.of(examples).pairs) == 0

    def test_more_clips_and_fewer_dimensions_have_a_higher_bound(self):
        rng = np.random.default_rng(0)

        def bound(count: int, dims: int) -> float:
            rows = rng.normal(size=(count, dims)).astype(np.float32)
            return chance_bound(rows / np.linalg.norm(rows, axis=1, keepdims=True))

        assert bound(400, 40) < bound(1600, 40) < bound(1600, 10) < bound(1600, 6) < 1

    def test_blocks_change_nothing(self, monkeypatch):
        examples = made(4)
        whole = Lookalikes.of(examples)
        monkeypatch.setattr("pipeline.dataset.leaks.BLOCK", 7)
        assert np.array_equal(Lookalikes.of(examples).pairs, whole.pairs)
        assert Lookalikes.of(examples).across_all(splits(examples)) == whole.across_all(
            splits(examples)
        )

    def test_many_clips_are_compared_with_those_near_them(self, monkeypatch):
        examples = made(60, objects=600)
        expected = Lookalikes.of(examples).pairs
        assert len(expected) == 60
        monkeypatch.setattr(leaks, "MOST_COMPARED", 2999)
        assert np.array_equal(Lookalikes.of(examples).pairs, expected)
        near = leaks._near_pairs(leaks.unit_rows(examples.caches))
        assert sum(len(some) * len(others) for some, others in near) < 3000**2 / 8

    def test_equal_thumbnails_and_equal_bytes_count_too(self):
        examples = made(0)
        pictures = np.arange(60, dtype=np.uint8).repeat(2 * 4 * 4).reshape(60, 2, 4, 4)
        pictures[:, 1] += 1
        pictures[50] = pictures[3]
        clips = features(
            60, object=list(examples.objects), thumbnails=pictures, failures=[],
            source_sha256=[f"{number % 59:064x}" for number in range(60)], key=[],
        )  # fmt: skip
        assert Lookalikes.of(examples, clips).pairs.tolist() == [[0, 59], [3, 50]]
        split = Split(np.arange(45), np.array([], int), np.arange(45, 60), np.random.RandomState(0))
        pairs, cosines = Lookalikes.of(examples, clips).across(split)
        assert pairs.tolist() == [[0, 59], [3, 50]]
        assert cosines.tolist() == [1.0, 1.0]

    def test_clips_without_thumbnails_and_still_ones_are_not_alike(self):
        """Zeros in place of thumbnails, black clips, and scenes in which nothing moves."""
        examples = made(0)
        pictures = np.random.default_rng(0).integers(0, 256, (60, 3, 4, 4), np.uint8)
        pictures[:20] = 0
        pictures[20:40] = pictures[20, 0]
        pictures[40:50, 0] = pictures[40, 0]  # equal first frames
        pictures[59] = pictures[45]
        columns = {"thumbnails": pictures, "failures": [], "object": list(examples.objects)}
        clips = features(60, **columns, without_thumbnails=np.arange(60) < 10)
        assert Lookalikes.of(examples, clips).pairs.tolist() == [[45, 59]]
        lacking = np.isin(np.arange(60), [45])
        clips = features(60, **columns, without_thumbnails=lacking)
        assert Lookalikes.of(examples, clips).pairs.tolist() == []

    @pytest.mark.parametrize(
        "name",
        [
            "phase87_phys101_spring_features.pt",
            "phase87_phys101_spring_static.pt",
            "vjepa2_features_pooled.pt",
        ],
    )
    def test_real_clips_of_different_objects_do_not_reach_the_bound(self, name):
        if not (SHARED / name).exists():
            pytest.skip("the features of real clips are not here")
        clips = import_features(SHARED / name)
        labels = np.zeros((len(clips), 1))
        examples = Examples((np.asarray(clips.features),), labels, tuple(clips.object))
        looks = Lookalikes.of(examples, clips)
        assert 0.9 < looks.bound < 0.995
        assert looks.across_all([examples.split("objects", seed) for seed in range(20)]) == []


def _part(split: Split, clip: int) -> str:
    return next(name for name in ("train", "validation", "test") if clip in getattr(split, name))
