import json
import random
from dataclasses import replace

import numpy as np
import pytest

from data.cache import CacheError, ShardStore, info, is_merge, label, load, merge, save, verify
from data.cache.parts import INDEX
from tests.helpers.caches import MADE_WITH, clips, features, full, outcomes


@pytest.fixture
def whole():
    pictures = np.random.default_rng(0).integers(0, 256, (7, 6, 4, 5), np.uint8)
    return features(thumbnails=pictures, label_units={"mass": "g"}, label_tables={"mass": "a" * 64})


@pytest.fixture
def folder(tmp_path, whole):
    save(whole, tmp_path / "c", clips_per_part=3)
    return tmp_path / "c"


def parts(folder):
    return [folder / part["name"] for part in json.loads((folder / INDEX).read_text())["parts"]]


@pytest.mark.parametrize("mapped", [True, False])
def test_the_parts_are_read_as_the_whole(folder, whole, tmp_path, mapped):
    save(whole, tmp_path / "c.h5")
    found = load(folder, mapped=mapped)
    assert found.differences(whole) == []
    assert found.content_sha256 == load(tmp_path / "c.h5").content_sha256 == whole.content_sha256
    assert [len(load(path)) for path in parts(folder)] == [3, 3, 1]


def test_rows_of_several_parts_are_taken_as_numpy_takes_them(folder, whole):
    mapped = load(folder, mapped=True).features
    for where in (4, slice(1, 7, 2), [6, 0, 3, 3], (slice(2, 5), 1)):
        np.testing.assert_array_equal(mapped[where], whole.features[where])


def test_it_is_described_checked_and_merged(folder, whole, tmp_path):
    told = info(folder)
    assert (told["clips"], told["content_sha256"]) == (7, whole.content_sha256)
    assert told["bytes"] == sum(path.stat().st_size for path in parts(folder))
    assert verify(folder) == []
    merge([folder], tmp_path / "one.h5")
    assert load(tmp_path / "one.h5").differences(whole) == []


def test_writing_again_leaves_only_the_new_parts_and_what_is_not_ours(folder, whole):
    save(whole, folder / "other.h5")
    save(whole.select([0, 1]), folder, clips_per_part=1)
    assert sorted(folder.glob("*.h5")) == sorted([*parts(folder), folder / "other.h5"])
    assert load(folder).differences(whole.select([0, 1])) == []


def test_a_cache_without_clips(tmp_path, whole):
    save(whole.select([]), tmp_path / "c", clips_per_part=3)
    assert len(load(tmp_path / "c")) == 0


def test_a_part_that_was_exchanged_is_refused(folder, whole):
    first, second, _ = parts(folder)
    first.write_bytes(second.read_bytes())
    for read in (load, info, lambda path: merge([path], folder / "m.h5")):
        with pytest.raises(CacheError, match=f"{first} is not the part that index.json names"):
            read(folder)
    assert [str(problem) for problem in verify(folder)] == [
        f"{first} is not the part that index.json names"
    ]


def test_a_damaged_part_names_the_clip(folder, whole):
    part = parts(folder)[1]
    content = bytearray(part.read_bytes())
    content[content.find(whole.features[4].tobytes()) + 2] ^= 1
    part.write_bytes(content)
    assert [problem.clip for problem in verify(folder)] == ["c/é 4.mp4"]
    with pytest.raises(CacheError, match=r"the features of c/é 4\.mp4 are damaged"):
        load(folder)


def test_a_flipped_bit_of_the_index_is_never_served(folder, whole):
    content = (folder / INDEX).read_bytes()
    choice = random.Random(0)
    refused = []
    for _ in range(60):
        flipped = bytearray(content)
        flipped[choice.randrange(len(content))] ^= 1 << choice.randrange(8)
        (folder / INDEX).write_bytes(flipped)
        try:
            assert load(folder).differences(whole) == []
        except CacheError as error:
            refused.append(str(error))
    assert refused
    assert all(message.startswith(str(folder)) for message in refused)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "[" * 100_000, '{"schema_version": 2, "parts": [], "content_sha256": "x"}', "7"],
)
def test_a_foreign_index_is_one_sentence(folder, content):
    (folder / INDEX).write_text(content)
    with pytest.raises(CacheError, match=r"index\.json is damaged") as error:
        load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["../c.h5", "/etc/passwd", "a/b.h5", ".h5", "x.h5\0", 7])
def test_a_part_lies_in_the_folder(folder, name):
    index = json.loads((folder / INDEX).read_text())
    index["parts"][0]["name"] = name
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(CacheError, match=r"index\.json is damaged"):
        load(folder)


def test_a_folder_without_an_index_is_no_cache(tmp_path):
    with pytest.raises(CacheError, match=r"and not one of parts, which has an index\.json"):
        load(tmp_path)


class TestLargerThanAFile:
    """Features of 2 x 8 float16 are 32 bytes a clip: three fit."""

    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch):
        monkeypatch.setattr("data.cache.parts.PART_BYTES", 100)

    def test_an_extraction_becomes_a_folder_and_goes_on_in_it(self, tmp_path, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr("data.cache.parts.PART_BYTES", 10_000)
            whole = load(full(tmp_path / "whole.h5", 15))
        path = full(tmp_path / "c.h5", 6)
        assert [len(load(part)) for part in parts(path)] == [3, 3]
        first = parts(path)[0].stat().st_mtime_ns
        full(path, 15)
        assert load(path).differences(whole) == []
        assert [len(load(part)) for part in parts(path)] == [3, 3, 3, 3, 2]
        assert parts(path)[0].stat().st_mtime_ns == first  # it stays
        assert sorted(path.iterdir()) == sorted([*parts(path), path / INDEX])
        assert outcomes(path) == {"done": 14, "kept": 6, "failed": 1}
        assert verify(path) == []
        before = (path / INDEX).stat().st_mtime_ns
        full(path, 15)
        assert (path / INDEX).stat().st_mtime_ns == before
        assert sorted(p.name for p in tmp_path.iterdir()) == [
            "c.h5", "c.h5.ledger.jsonl", "whole.h5", "whole.h5.ledger.jsonl"
        ]  # fmt: skip

    def test_a_file_that_grows_becomes_a_folder(self, tmp_path):
        assert full(tmp_path / "c.h5", 3).is_file()
        assert full(tmp_path / "c.h5", 6).is_dir()
        assert len(load(tmp_path / "c.h5")) == 6
        assert not (tmp_path / "c.h5.parts").exists()

    @pytest.mark.parametrize("where", ["before it is whole", "before the file goes", "after it"])
    def test_killed_while_a_file_becomes_a_folder(self, tmp_path, monkeypatch, where):
        path, whole = full(tmp_path / "c.h5", 3), load(full(tmp_path / "whole", 6))
        name = {
            "before it is whole": "_publish",
            "before the file goes": "remove_own_file",
            "after it": "_move",
        }[where]

        class Killed(BaseException):
            pass

        def killed(*_):
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(f"data.cache.parts.{name}", killed)
            with pytest.raises(Killed):
                full(path, 6)
        assert path.exists() == (where != "after it")
        full(path, 6)
        assert load(path).differences(whole) == []
        assert outcomes(path)["done"] == 3  # those that the killed run has done
        assert not (tmp_path / "c.h5.parts").exists()

    def test_a_merge_becomes_a_folder(self, tmp_path, whole):
        for name, rows in (("a", range(4)), ("b", range(4, 7))):
            save(whole.select(rows), tmp_path / f"{name}.h5")
        inputs = [tmp_path / "a.h5", tmp_path / "b.h5"]
        merge(inputs, tmp_path / "m.h5")
        assert load(tmp_path / "m.h5").differences(whole) == []
        assert len(parts(tmp_path / "m.h5")) == 7
        assert is_merge(tmp_path / "m.h5", inputs)
        assert not is_merge(tmp_path / "m.h5", inputs[:1])
        with pytest.raises(CacheError, match=r"a\.h5 is a file, and all clips together take more"):
            merge(inputs, inputs[0])
        assert len(load(inputs[0])) == 4
        merge([tmp_path / "m.h5", inputs[0]], tmp_path / "m.h5")
        assert load(tmp_path / "m.h5").differences(whole) == []

    def test_parts_that_are_there_stay_whatever_size_is_given(self, tmp_path, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr("data.cache.parts.PART_BYTES", 10_000)
            whole = load(full(tmp_path / "whole.h5", 15))
        path = full(tmp_path / "c.h5", 8)
        assert [len(load(part)) for part in parts(path)] == [3, 3, 1]
        kept = [part.stat().st_mtime_ns for part in parts(path)[:2]]
        for clip_count, size, expected in (
            (10, 64, [3, 3, 2, 1]),
            (12, 160, [3, 3, 2, 3]),
            (15, None, [3, 3, 2, 3, 3]),
        ):
            full(path, clip_count, part_bytes=size)
            assert [len(load(part)) for part in parts(path)] == expected
        assert [part.stat().st_mtime_ns for part in parts(path)[:2]] == kept
        assert load(path).differences(whole) == []
        assert verify(path) == []

    def test_new_parts_are_as_large_as_those_that_are_there(self, tmp_path):
        path = full(tmp_path / "c.h5", 6, part_bytes=64)
        assert [len(load(part)) for part in parts(path)] == [2, 2, 2]
        label(path, [replace(clip, labels={"mass": 2.5}) for clip in clips(6)])
        full(path, 12)
        assert [len(load(part)) for part in parts(path)] == [2, 2, 2, 2, 2, 1]

    def test_a_part_has_a_clip_at_least(self, tmp_path):
        path = full(tmp_path / "c.h5", 3, part_bytes=1)
        assert [len(load(part)) for part in parts(path)] == [1, 1, 1]

    def test_labels_change_in_a_folder(self, tmp_path):
        path = full(tmp_path / "c.h5", 6)
        label(path, [replace(clip, labels={"mass": 2.5}) for clip in clips(6)])
        assert set(load(path).labels["mass"]) == {2.5}
        assert len(parts(path)) == 2
        assert verify(path) == []

    def test_a_folder_without_clips(self, tmp_path):
        path = full(tmp_path / "c.h5", 6)
        with ShardStore(path, **MADE_WITH) as store:
            for clip in clips(6):
                store.fail(clip, "not a video", source_sha256="f" * 64)
            store.consolidate(clips(6))
        assert len(load(path)) == 0
        full(path, 6)
        assert len(load(path)) == 6

    @pytest.mark.parametrize("large", [1, 10_000])
    def test_a_large_folder_stays_in_its_files(self, folder, monkeypatch, large):
        monkeypatch.setattr("data.cache.part_reader.LARGE", large)
        assert isinstance(load(folder, mapped=None).features, np.ndarray) == (large > 1)


def test_the_content_of_many_clips_is_hashed_in_pieces(whole, monkeypatch):
    at_once = whole.content_sha256
    monkeypatch.setattr("data.cache.content._PIECE", 2)
    assert replace(whole).content_sha256 == at_once
