import errno
import hashlib
import json
import os
import pickle
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data import screening
from data.cache import (
    CacheError,
    ShardStore,
    batches,
    info,
    label,
    ledger_path,
    load,
    read_ledger,
    save,
    sweep_shards,
    verify,
)
from data.cache.seal import USER_BLOCK
from data.clips import Clip
from data.errors import HeliographError
from data.files import UnsafeFileError, WriteError, temporary_path
from data.lock import BusyError
from tests.helpers.caches import MADE_WITH, clips, extract, full, outcomes, source
from tests.helpers.planting import plant
from tests.helpers.version_1 import save_version_1

ROOT = Path(__file__).resolve().parents[3]


class TestExtraction:
    def test_clips_come_in_order_with_their_identities(self, tmp_path):
        features = load(full(tmp_path / "c.h5"))
        done = [clip for clip in clips(12) if not clip.id.endswith("7.mp4")]
        assert features.clip_id == [clip.id for clip in done]
        assert features.object == [clip.object for clip in done]
        np.testing.assert_array_equal(features.labels["mass"], [c.labels["mass"] for c in done])
        np.testing.assert_array_equal(features.frame_index[3], [0, 3, 6, 9])
        assert features.source_sha256 == [source(clip) for clip in done]
        assert features.failures == [("fall/007.mp4", "too short: 3 of 4 frames")]
        assert features.fingerprint == MADE_WITH["fingerprint"]
        assert verify(tmp_path / "c.h5") == []

    def test_only_the_cache_and_its_ledger_are_left(self, tmp_path):
        full(tmp_path / "c.h5")
        assert sorted(os.listdir(tmp_path)) == ["c.h5", "c.h5.ledger.jsonl"]

    def test_the_order_of_work_does_not_matter(self, tmp_path):
        full(tmp_path / "a.h5")
        shuffled = clips(12)
        random.Random(1).shuffle(shuffled)
        with ShardStore(tmp_path / "b.h5", **MADE_WITH) as store:
            extract(store, shuffled)
            store.consolidate(clips(12))
        assert load(tmp_path / "a.h5").differences(load(tmp_path / "b.h5")) == []

    def test_what_is_recorded_is_true_of_all_features(self, tmp_path):
        path = tmp_path / "c.h5"
        gpu, cpu = ({"device": name, "torch": "2.14"} for name in ("NVIDIA H100", "CPU"))

        def recorded(more: dict[str, str], count: int) -> dict[str, str]:
            with ShardStore(path, **MADE_WITH, versions=more) as store:
                extract(store, clips(count))
                store.consolidate(clips(count))
            return {name: info(path)["versions"].get(name) for name in gpu}

        assert recorded(gpu, 4) == gpu
        relabelled = [replace(clip, labels={"mass": 7.0}) for clip in clips(4)]
        label(path, relabelled)
        assert {name: info(path)["versions"].get(name) for name in gpu} == gpu
        assert recorded(cpu, 4) == gpu  # the labels are those of before, and nothing was extracted
        assert recorded(cpu, 6) == {"device": None, "torch": "2.14"}

    def test_without_a_single_clip_there_is_no_file_that_refuses_other_settings(self, tmp_path):
        some = clips(1, start=7)
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            extract(store, some)
            store.consolidate(some)
        assert os.listdir(tmp_path) == ["c.h5.ledger.jsonl"]
        assert outcomes(tmp_path / "c.h5") == {"failed": 1}
        sampler = {"name": "uniform", "frames": 5000}
        with ShardStore(tmp_path / "c.h5", **{**MADE_WITH, "sampler": sampler}) as store:
            extract(store, clips(12))
            store.consolidate(clips(12))
        assert len(load(tmp_path / "c.h5")) == 11
        assert outcomes(tmp_path / "c.h5") == {"done": 11, "failed": 1}

    def test_an_empty_file_of_an_older_version_refuses_nothing(self, tmp_path):
        empty = load(full(tmp_path / "c.h5")).select([])
        save(replace(empty, sampler={"frames": 5000}), tmp_path / "c.h5")
        full(tmp_path / "c.h5")
        assert len(load(tmp_path / "c.h5")) == 11

    def test_a_cache_whose_last_clip_is_out_of_date_is_removed(self, tmp_path):
        (clip,) = clips(1)
        full(tmp_path / "c.h5", 1)
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            store.fail(clip, "not a video", source_sha256="f" * 64)
            store.consolidate([clip])
        assert os.listdir(tmp_path) == ["c.h5.ledger.jsonl"]

    def test_clips_of_one_file_and_different_seconds_are_different(self, tmp_path):
        parts = [Clip(id=f"{n}", path=Path("x.mp4"), start=n, end=n + 1) for n in range(2)]
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            for clip in parts:
                assert not store.is_done(clip, "ab")
                frames = np.zeros(4, np.int64)
                values = np.full((2, 8), float(clip.id), np.float32)
                store.add(clip, values, frames, frames / 1.0, source_sha256="ab")
            store.consolidate(parts)
        assert load(tmp_path / "c.h5").features[:, 0, 0].tolist() == [0, 1]

    def test_one_file_under_two_names_is_computed_once(self, tmp_path):
        twins = [Clip(id=name, path=Path(name), object=name) for name in ("a", "b")]
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            frames = np.zeros(4, np.int64)
            store.add(twins[0], np.ones((2, 8), "f4"), frames, frames / 1.0, source_sha256="ab")
            assert store.is_done(twins[1], "ab")
            store.consolidate(twins)
            assert store.object_note.startswith("1 clip has the content of another clip")
        assert load(tmp_path / "c.h5").clip_id == ["a", "b"]
        assert load(tmp_path / "c.h5").object == ["a", "a"]


@pytest.fixture
def one_a_shard(monkeypatch):
    """Write a shard for each clip."""
    monkeypatch.setattr(batches, "BATCH_CLIPS", 1)


class TestBatches:
    def test_full_ones_are_written(self, tmp_path, monkeypatch):
        monkeypatch.setattr(batches, "BATCH_CLIPS", 4)
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            extract(store, clips(7))
            (shard,) = (tmp_path / "c.h5.parts").glob("*.h5")
            assert len(load(shard)) == 4
            assert len(read_ledger(tmp_path / "c.h5")) == 4

    def test_what_takes_long_is_written_though_nothing_follows(self, tmp_path, monkeypatch):
        monkeypatch.setattr(batches, "BATCH_SECONDS", 0.05)
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            extract(store, clips(1))
            end = time.monotonic() + 20
            while not list((tmp_path / "c.h5.parts").glob("*.h5")) and time.monotonic() < end:
                time.sleep(0.01)
            assert len(list((tmp_path / "c.h5.parts").glob("*.h5"))) == 1

    def test_an_error_elsewhere_loses_nothing(self, tmp_path):
        def stop(*_):
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError), ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            stop(extract(store, clips(5)))
        full(tmp_path / "c.h5")
        assert outcomes(tmp_path / "c.h5") == {"done": 11, "kept": 5, "failed": 1}

    def test_clips_with_and_without_thumbnails_are_in_shards_of_their_own(self, tmp_path):
        frames = np.arange(4)
        pictures = np.ones((4, 2, 2), np.uint8)
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            for number, clip in enumerate(clips(4)):
                store.add(
                    clip, np.ones((2, 8), "f4"), frames, frames / 1.0, source_sha256=source(clip),
                    thumbnails=pictures if number % 2 else None,
                )  # fmt: skip
            store.consolidate(clips(4))
        assert load(tmp_path / "c.h5").has_thumbnails.tolist() == [False, True, False, True]

    def test_shards_of_an_earlier_version_are_gone_on_with(self, tmp_path, monkeypatch):
        """It wrote a shard for each clip, under the clip's key, and no shards into the ledger."""
        whole = load(full(tmp_path / "whole.h5"))
        with monkeypatch.context() as patch, ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            patch.setattr(batches, "BATCH_CLIPS", 1)
            extract(store, clips(5))
        for shard in (tmp_path / "c.h5.parts").glob("[0-9a-f]*.h5"):
            shard.rename(shard.with_stem(load(shard).key[0]))
        ledger = ledger_path(tmp_path / "c.h5")
        lines = [json.loads(line) for line in ledger.read_text().splitlines()]
        for line in lines:
            del line["shard"], line["row"], line["xxh3"]
        ledger.write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert len(verify(tmp_path / "c.h5")) == 1  # it is not written yet
        full(tmp_path / "c.h5")
        assert load(tmp_path / "c.h5").differences(whole) == []
        assert outcomes(tmp_path / "c.h5") == {"done": 11, "kept": 5, "failed": 1}
        assert sorted(os.listdir(tmp_path))[:2] == ["c.h5", "c.h5.ledger.jsonl"]


class TestResuming:
    def test_nothing_is_computed_or_written_again(self, tmp_path):
        full(tmp_path / "c.h5")
        before = (tmp_path / "c.h5").read_bytes()
        full(tmp_path / "c.h5")
        assert (tmp_path / "c.h5").read_bytes() == before
        assert outcomes(tmp_path / "c.h5") == {"done": 11, "kept": 11, "failed": 2}

    def test_after_an_interruption_the_shards_are_kept(self, tmp_path):
        full(tmp_path / "whole.h5")
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            extract(store, clips(5))
        assert not (tmp_path / "c.h5").exists()
        full(tmp_path / "c.h5")
        assert load(tmp_path / "c.h5").differences(load(tmp_path / "whole.h5")) == []
        assert outcomes(tmp_path / "c.h5") == {"done": 11, "kept": 5, "failed": 1}

    def test_after_ctrl_c_what_is_done_can_be_consolidated(self, tmp_path):
        full(tmp_path / "whole.h5")
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            extract(store, clips(5))
            store.consolidate(clips(12))
        assert len(load(tmp_path / "c.h5")) == 5
        full(tmp_path / "c.h5")
        assert load(tmp_path / "c.h5").differences(load(tmp_path / "whole.h5")) == []
        assert outcomes(tmp_path / "c.h5") == {"done": 11, "kept": 5, "failed": 1}

    def test_after_ctrl_c_in_a_later_run_nothing_earlier_is_lost(self, tmp_path):
        full(tmp_path / "whole.h5")
        full(tmp_path / "c.h5")
        more = clips(3, start=20)
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            extract(store, more[:2])  # and then it is interrupted, before any of the others
            store.consolidate([*more, *clips(12)])
        whole, found = load(tmp_path / "whole.h5"), load(tmp_path / "c.h5")
        assert found.clip_id == [*(clip.id for clip in more[:2]), *whole.clip_id]
        assert found.select(range(2, 13)).differences(whole) == []
        assert found.failures == whole.failures
        assert verify(tmp_path / "c.h5") == []

    def test_features_stay_where_the_file_cannot_be_read_any_more(self, tmp_path):
        """A disk that is away for an hour, or videos removed to make room, cost nothing."""
        whole = load(full(tmp_path / "c.h5"))
        gone, changed = clips(2)
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            store.fail(gone, "no such file")
            store.fail(changed, "not a video", source_sha256="f" * 64)
            extract(store, clips(10, start=2))
            store.consolidate(clips(12))
        found = load(tmp_path / "c.h5")
        assert found.clip_id == [clip for clip in whole.clip_id if clip != changed.id]
        assert found.features[0].tobytes() == whole.features[0].tobytes()
        assert found.failures == [(changed.id, "not a video"), *whole.failures]
        assert verify(tmp_path / "c.h5") == []

    def test_more_clips_are_appended(self, tmp_path):
        full(tmp_path / "whole.h5")
        for some in (clips(4), clips(8, start=4)):
            with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
                extract(store, some)
                store.consolidate(some)
        assert load(tmp_path / "c.h5").differences(load(tmp_path / "whole.h5")) == []

    def test_another_runs_shards_stay_until_it_is_resumed(self, tmp_path):
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            extract(store, clips(3))
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            extract(store, clips(2, start=3))
            store.consolidate(clips(2, start=3))
        (shard,) = (tmp_path / "c.h5.parts").glob("*.h5")
        assert load(shard).clip_id == [clip.id for clip in clips(3)]
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            extract(store, clips(3))
            store.consolidate(clips(3))
        assert outcomes(tmp_path / "c.h5") == {"done": 5, "kept": 3}
        assert len(load(tmp_path / "c.h5")) == 5

    def test_new_labels_need_no_new_features(self, tmp_path):
        full(tmp_path / "c.h5")
        heavier = [replace(clip, labels={"mass": 1.0, "size": 2.0}) for clip in clips(12)]
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            extract(store, heavier)
            store.consolidate(heavier)
        assert set(load(tmp_path / "c.h5").labels["size"]) == {2.0}
        assert outcomes(tmp_path / "c.h5")["done"] == 11

    def test_a_changed_source_is_computed_again(self, tmp_path):
        full(tmp_path / "c.h5")
        clip = clips(1)[0]
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            assert store.is_done(clip, source(clip))
            assert not store.is_done(clip, "f" * 64)

    def test_a_failure_is_tried_again(self, tmp_path):
        full(tmp_path / "c.h5")
        clip = clips(1, start=7)[0]
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            extract(store, clips(7))
            frames = np.arange(4)
            store.add(clip, np.ones((2, 8), "f2"), frames, frames / 1.0, source_sha256=source(clip))
            store.consolidate(clips(12))
        features = load(tmp_path / "c.h5")
        assert "fall/007.mp4" in features.clip_id
        assert features.failures == []

    @pytest.mark.parametrize("where", ["structure", "features"])
    def test_a_damaged_shard_is_noticed_and_computed_again(self, tmp_path, where):
        full(tmp_path / "whole.h5")
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            extract(store, clips(5))
            store.flush()
            extract(store, clips(2, start=5))
        shards = {len(load(shard)): shard for shard in (tmp_path / "c.h5.parts").glob("*.h5")}
        content = bytearray(shards[5].read_bytes())
        row = content.index(load(shards[5]).features[1].tobytes())
        content[USER_BLOCK + 100 if where == "structure" else row] ^= 16
        shards[5].write_bytes(content)
        full(tmp_path / "c.h5")
        assert load(tmp_path / "c.h5").differences(load(tmp_path / "whole.h5")) == []
        assert outcomes(tmp_path / "c.h5") == {"done": 16, "kept": 2, "damaged": 5, "failed": 1}

    def test_damaged_shards_alone_do_not_stand_in_the_way(self, tmp_path, one_a_shard):
        full(tmp_path / "whole.h5")
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            extract(store, clips(3))
        for number, shard in enumerate((tmp_path / "c.h5.parts").glob("*.h5")):
            content = bytearray(shard.read_bytes())
            content[USER_BLOCK + 100] ^= 1  # where its structure is described
            shard.write_bytes([content, content[:100], b""][number])
        full(tmp_path / "c.h5")
        assert load(tmp_path / "c.h5").differences(load(tmp_path / "whole.h5")) == []

    def test_a_damaged_seal_is_made_new(self, tmp_path):
        sound = full(tmp_path / "c.h5").read_bytes()
        for place in (0, 30, 100, 250, USER_BLOCK - 1):
            content = bytearray(sound)
            content[place] ^= 1
            (tmp_path / "c.h5").write_bytes(content)
            assert len(verify(tmp_path / "c.h5")) == 1
            full(tmp_path / "c.h5")
            assert verify(tmp_path / "c.h5") == []

    def test_a_damaged_cache_is_no_success(self, tmp_path):
        path = full(tmp_path / "c.h5")
        sound = path.read_bytes()
        for content, message in (
            (load(path).features[4].tobytes(), r"the features of fall/004\.mp4 are damaged"),
            (b"fall/004.mp4", r"c.h5 is damaged outside its features.* verify --repair .*/c\.h5 "),
        ):
            broken = bytearray(sound)
            broken[sound.find(content)] ^= 2
            path.write_bytes(broken)
            with pytest.raises(CacheError, match=message):
                full(path)
            assert path.read_bytes() == broken

    def test_a_damaged_row_is_named_repaired_and_never_laundered(self, tmp_path):
        whole = load(full(tmp_path / "c.h5"))
        path = tmp_path / "c.h5"
        content = bytearray(path.read_bytes())
        content[content.find(whole.features[4].tobytes()) + 5] ^= 2
        path.write_bytes(content)
        assert [problem.clip for problem in verify(path)] == ["fall/004.mp4"]
        with ShardStore(path, **MADE_WITH) as store:
            extract(store, clips(12, start=12))
            with pytest.raises(CacheError, match=r"the features of fall/004\.mp4 are damaged"):
                store.consolidate(clips(12, start=12))
        with ShardStore(path, **MADE_WITH) as store:
            store.forget(["fall/004.mp4"])
            extract(store, clips(12))
            store.consolidate(clips(12))
        assert verify(path) == []
        assert load(path).select(range(11)).features.tobytes() == whole.features.tobytes()

    def test_shards_that_are_in_the_cache_are_swept(self, tmp_path, one_a_shard):
        """As a repair leaves them that is killed after it has written the cache."""
        path = full(tmp_path / "c.h5")
        sweep_shards(path)
        with ShardStore(tmp_path / "d.h5", **MADE_WITH) as store:
            extract(store, clips(14))
        shutil.copytree(tmp_path / "d.h5.parts", tmp_path / "c.h5.parts")
        sweep_shards(path)
        left = [load(shard).clip_id for shard in (tmp_path / "c.h5.parts").glob("[0-9a-f]*.h5")]
        assert sorted(left) == [["fall/012.mp4"], ["fall/013.mp4"]]
        full(path, 14)
        sweep_shards(path)
        assert not (tmp_path / "c.h5.parts").exists()


def _first_key() -> str:
    source_of = {"source_sha256": source(clips(1)[0]), "start": None, "end": None}
    return hashlib.sha256(
        json.dumps({**MADE_WITH, **source_of}, sort_keys=True).encode()
    ).hexdigest()


IN_THE_FOLDER = [".parts/lock", ".parts/store.json", f".parts/{_first_key()}.h5"]
"""Files in the folder of shards, the last one the shard of the first clip."""

PLANTED = [
    (name, kind)
    for name in ["", ".ledger.jsonl", ".parts", *IN_THE_FOLDER]
    for kind in ["link", "dangling link", "FIFO", "hard link", "folder"]
    if (name, kind) != (".parts", "folder")
]


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"sampler": {"name": "uniform", "frames": 8}}, "--frames 4, and this run has 8"),
            (
                {"fingerprint": {"name": "fake", "weights": {"sha256": "cd"}}},
                "fingerprint.weights.sha256 'ab', and this run has 'cd'",
            ),
            ({"decoder": {"name": "pyav"}}, "decoder.ffmpeg '8.0', and this run has None"),
        ],
    )
    @pytest.mark.parametrize("finished", [True, False])
    def test_what_was_made_otherwise_names_the_field(self, tmp_path, change, message, finished):
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            extract(store, clips(3))
            if finished:
                store.consolidate(clips(3))
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.h5")}
        with pytest.raises(CacheError, match=f"was made with {message}; choose another output"):
            ShardStore(tmp_path / "c.h5", **{**MADE_WITH, **change})
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.h5")} == before

    @pytest.mark.parametrize("target", ["", ".", "/"])
    def test_a_target_without_a_name(self, target):
        with pytest.raises(CacheError, match="is a folder, not the name of a cache"):
            ShardStore(target, **MADE_WITH)

    @pytest.mark.parametrize("content", [b"", b"[1]", b"\xff"])
    def test_a_damaged_note_of_how_the_shards_were_made(self, tmp_path, content):
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            extract(store, clips(3))
        (tmp_path / "c.h5.parts/store.json").write_bytes(content)
        with pytest.raises(CacheError, match=r"c\.h5\.parts: store\.json is damaged; choose"):
            ShardStore(tmp_path / "c.h5", **MADE_WITH)

    def test_a_target_that_is_no_cache_is_not_overwritten(self, tmp_path):
        (tmp_path / "throw.mp4").write_bytes(b"a film")
        with pytest.raises(CacheError, match=r"throw\.mp4 is not an HDF5 file"):
            ShardStore(tmp_path / "throw.mp4", **MADE_WITH)
        assert (tmp_path / "throw.mp4").read_bytes() == b"a film"
        assert os.listdir(tmp_path) == ["throw.mp4"]

    @pytest.mark.parametrize(
        ("features", "message"),
        [
            (np.ones((2, 9), "f2"), r"x: features of float16 \(2, 9\), and the cache .* \(2, 8\)"),
            (np.ones((2, 8), "f4"), r"x: features of float32 \(2, 8\), and the cache .*float16"),
            (np.full((2, 8), np.nan, "f2"), "x: its features are not finite numbers"),
            (np.ones((2, 8)), "must be float16 or float32"),
        ],
    )
    @pytest.mark.parametrize("resumed", [True, False])
    def test_features_unlike_the_others(self, tmp_path, features, message, resumed):
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            extract(store, clips(2))
            if not resumed:
                self.add_refused(store, features, message)
        if resumed:
            with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
                self.add_refused(store, features, message)

    def add_refused(self, store, features, message):
        frames = np.arange(4)
        clip = Clip(id="x", path=Path("x"))
        with pytest.raises(CacheError, match=message):
            store.add(clip, features, frames, frames / 1.0, source_sha256="x")

    @pytest.mark.parametrize("finished", [True, False])
    def test_features_of_another_kind_are_refused_before_any_are_made(self, tmp_path, finished):
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            store.check_shape((2, 8), "float16")
            extract(store, clips(2))
            if finished:
                store.consolidate(clips(2))
        with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
            store.check_shape((2, 8), np.float16)
            with pytest.raises(CacheError, match=r"^features of float32 \(2, 8\), and the cache"):
                store.check_shape((2, 8), "float32")

    def test_two_at_once_the_second_says_who_holds_it(self, tmp_path):
        holder = f"c.h5 is being written by process {os.getpid()} on .* since"
        with ShardStore(tmp_path / "c.h5", **MADE_WITH), pytest.raises(BusyError, match=holder):
            ShardStore(tmp_path / "c.h5", **MADE_WITH)
        full(tmp_path / "c.h5")

    @pytest.mark.parametrize(("name", "kind"), PLANTED)
    def test_something_else_where_a_new_output_is_written(self, tmp_path, name, kind):
        """It is refused by its name, and stays."""
        path = tmp_path / f"c.h5{name}"
        victim = tmp_path / "victim"
        plant(path, kind, victim)
        before = os.lstat(path).st_ino
        with pytest.raises(HeliographError, match=f"{re.escape(str(path))} is .*remove it, or"):
            full(tmp_path / "c.h5", 2)
        assert os.lstat(path).st_ino == before
        assert victim.read_text() == "a user's own"
        assert not (tmp_path / "new").exists()

    def test_the_lock_of_a_dead_process_holds_nobody_up(self, tmp_path):
        code = "import os, sys; from tests.data.cache import test_shard_store as t;"
        code += "s = t.ShardStore(sys.argv[1], **t.MADE_WITH); os.kill(os.getpid(), 9)"
        path = str(tmp_path / "c.h5")
        subprocess.run([sys.executable, "-c", code, path], cwd=ROOT)
        assert (tmp_path / "c.h5.parts/lock").exists()
        full(tmp_path / "c.h5")


KILLED_CLIPS = 10


def write_in_a_process_of_its_own(target: Path) -> int:
    """Start the whole extraction in a fork; returns its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        full(target, KILLED_CLIPS)
        status = 0
    finally:
        os._exit(status)


def kill_and_resume(folder: Path, times: int) -> None:
    """Writers killed at random moments, again and again; then one that is left to finish.

    The moments are spread over as long as a whole extraction takes here and now.
    """
    assert "torch" not in sys.modules
    batches.BATCH_CLIPS = 2  # of this process: so there are moments between two shards
    began = time.monotonic()
    full(folder / "whole.h5", KILLED_CLIPS)
    takes = time.monotonic() - began
    whole = load(folder / "whole.h5")
    choice = random.Random(times)
    target = folder / "c.h5"
    kills, begun_again = 0, 0
    moments = Counter()
    sound: set[tuple[str, int]] = set()
    while kills < times:
        child = write_in_a_process_of_its_own(target)
        time.sleep(choice.uniform(0, takes))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status)
        assert killed or os.WEXITSTATUS(status) == 0
        kills += killed
        takes = takes * 1.02 if killed else takes * 0.9  # some finish, most do not
        shards = list((folder / "c.h5.parts").glob("[0-9a-f]*.h5"))
        moments["consolidated" if target.exists() else f"{len(shards)} shards"] += killed
        for shard in shards:  # what was found sound is looked at again once it is consolidated
            if (seen := (shard.name, shard.stat().st_mtime_ns)) not in sound:
                assert verify(shard) == [], shard
                sound.add(seen)
        if target.exists():
            assert load(target).differences(whole) == []
            assert verify(target) == []
        if not killed or choice.random() < 0.15:  # begin again, so that every phase is hit
            begun_again += 1
            check_ledger(target)
            target.unlink(missing_ok=True)
            ledger_path(target).unlink(missing_ok=True)
            shutil.rmtree(folder / "c.h5.parts", ignore_errors=True)
    assert os.waitpid(write_in_a_process_of_its_own(target), 0)[1] == 0
    assert load(target).differences(whole) == []
    check_ledger(target)
    assert not list(folder.glob(".*.tmp"))
    assert len(moments) > 5 or times < 50, moments  # early, late and in between
    print(kills, "kills,", begun_again, "times begun again;", dict(moments))


def run_alone(tmp_path: Path, times: int) -> None:
    """In a process without threads and without torch, in which forking is safe."""
    code = "import sys, pathlib; from tests.data.cache import test_shard_store as test_store;"
    code += f"test_store.kill_and_resume(pathlib.Path(sys.argv[1]), {times})"
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=ROOT
    )
    assert out.returncode == 0, out.stderr
    print(out.stdout)


def check_ledger(target: Path) -> None:
    """No clip was computed twice, but those whose writer died between computing and publishing."""
    done = Counter(entry["key"] for entry in read_ledger(target) if entry["outcome"] == "done")
    assert max(done.values(), default=1) == 1
    assert len(done) <= KILLED_CLIPS - 1  # one of ten fails


def test_killed_at_random_moments_no_committed_clip_is_lost(tmp_path):
    run_alone(tmp_path, 8)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_killed_at_random_moments_1000_times(tmp_path):
    """Three minutes on two quiet cores; HELIOGRAPH_KILLS asks for another number."""
    run_alone(tmp_path, int(os.environ.get("HELIOGRAPH_KILLS", "1000")))


@pytest.fixture
def file_size_limit():
    """Makes a write fail as a full disk does once a file has as many bytes as the test chooses."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_an_error_that_names_the_file_and_costs_nothing(tmp_path, file_size_limit):
    full(tmp_path / "whole.h5", 30)
    target = tmp_path / "c.h5"
    full(target, 10)
    before = target.read_bytes()
    with ShardStore(target, **MADE_WITH) as store:
        extract(store, clips(15))
        extract(store, clips(30))
        for size in range(0, ledger_path(target).stat().st_size, 700):
            file_size_limit(size)
            with pytest.raises(WriteError, match=r"c\.h5\S* cannot be written"):
                store.flush()
        lines = len(read_ledger(target))
        file_size_limit(7000)  # no shard fits
        with pytest.raises(WriteError, match=r"parts/[0-9a-f]{64}\.h5 cannot be written"):
            store.flush()
        assert len(read_ledger(target)) == lines
        file_size_limit(resource.RLIM_INFINITY)
        store.flush()
        for size in range(0, 8000, 1100):  # the consolidated file does not fit
            file_size_limit(size)
            with pytest.raises(WriteError, match=r"c\.h5 cannot be written"):
                store.consolidate(clips(30))
            assert target.read_bytes() == before
        file_size_limit(resource.RLIM_INFINITY)
    assert verify(target) == []
    full(target, 30)
    assert load(target).differences(load(tmp_path / "whole.h5")) == []
    done = Counter(entry["key"] for entry in read_ledger(target) if entry["outcome"] == "done")
    assert max(done.values()) == 1


@pytest.mark.slow
def test_consolidation_is_bounded_in_memory(tmp_path):
    """Peak memory for ten times as many clips (64 KiB of features each) is within 10 %."""
    code = """
import resource, sys
from pathlib import Path
import numpy as np
from data.cache import ShardStore
from data.clips import Clip
import json
clips = [Clip(id=f"{n}", path=Path(f"{n}")) for n in range(int(sys.argv[2]))]
made = {"fingerprint": {"name": "fake"}, "sampler": {}, "decoder": {}}
with ShardStore(Path(sys.argv[1]), **made) as store:
    for clip in clips:
        values = np.full((16, 2048), int(clip.id) % 100, np.float16)
        store.add(clip, values, np.arange(16), np.arange(16) / 4, source_sha256=clip.id)
    store.consolidate(clips)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peaks = []
    for count in (200, 2000):
        out = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / f"{count}.h5"), str(count)],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        peaks.append(int(out.stdout))
    assert peaks[1] <= 1.1 * peaks[0], peaks


def test_shards_and_ledger_are_plain_to_look_at(tmp_path):
    with ShardStore(tmp_path / "c.h5", **MADE_WITH) as store:
        extract(store, clips(2))
        store.flush()
        (shard,) = (tmp_path / "c.h5.parts").glob("[0-9a-f]*.h5")
        one = load(shard)
    assert one.clip_id == ["fall/000.mp4", "fall/001.mp4"]
    assert one.content_sha256 == shard.stem
    lines = read_ledger(tmp_path / "c.h5")
    assert [(line["key"], line["row"]) for line in lines] == [(one.key[0], 0), (one.key[1], 1)]
    assert {line["shard"] for line in lines} == {shard.stem}
    assert json.loads((tmp_path / "c.h5.parts/store.json").read_text()) == MADE_WITH
    assert time.strptime(read_ledger(tmp_path / "c.h5")[0]["time"][:19], "%Y-%m-%dT%H:%M:%S")


class TestShards:
    def test_shards_with_swapped_names_are_made_again(self, tmp_path, one_a_shard):
        whole = load(full(tmp_path / "whole.h5", 3))
        path = tmp_path / "c.h5"
        with ShardStore(path, **MADE_WITH) as store:
            extract(store, clips(3))
        first, second, _ = sorted((tmp_path / "c.h5.parts").glob("*.h5"))
        for source_name, name in ((first, "swap"), (second, first.name), ("swap", second.name)):
            (first.parent / source_name).rename(first.parent / name)
        for shard in (first, second):
            assert [str(problem) for problem in verify(shard)] == [
                f"{shard} is another shard than its name says"
            ]
        full(path, 3)
        assert load(path).differences(whole) == []
        assert outcomes(path) == {"done": 5, "kept": 1, "damaged": 2}

    def test_a_link_in_place_of_a_shard_is_no_shard(self, tmp_path):
        path, own = tmp_path / "c.h5", tmp_path / "own.txt"
        own.write_text("a user's file")
        with ShardStore(path, **MADE_WITH) as store:
            extract(store, clips(2))
        (shard,) = (tmp_path / "c.h5.parts").glob("*.h5")
        shard.unlink()
        shard.symlink_to(own)
        with pytest.raises(
            UnsafeFileError, match=rf"{shard} is not written: it is a symbolic link"
        ):
            full(path, 2)
        assert shard.is_symlink()
        shard.unlink()
        full(path, 2)
        assert len(load(path)) == 2
        assert own.read_text() == "a user's file"

    def test_a_store_is_not_pickled(self, tmp_path):
        with (
            ShardStore(tmp_path / "c.h5", **MADE_WITH) as store,
            pytest.raises(TypeError, match=r"store of .*c\.h5 cannot be pickled: it holds a lock"),
        ):
            pickle.dumps(store)

    def test_shards_of_another_account_are_read_in_a_process_of_their_own_first(
        self, tmp_path, no_record, monkeypatch, one_a_shard
    ):
        path = tmp_path / "c.h5"
        with ShardStore(path, **MADE_WITH) as store:
            extract(store, clips(3))
        no_record.unlink()
        monkeypatch.setattr("data.screening._recorded_here", set())
        asked = []
        screen = screening.screen

        def noted(paths, *words, **options):
            asked.append(paths)
            return screen(paths, *words, **options)

        monkeypatch.setattr("data.screening.screen", noted)
        monkeypatch.setattr("data.cache.hdf5_reader.screen", noted)
        full(path, 3)
        assert outcomes(path) == {"done": 3, "kept": 3}
        assert [len(paths) for paths in asked] == [3]  # all of them in one process


class TestWithoutLocks:
    """A file system without `flock`: every process gets the lock, and nothing may be lost."""

    @pytest.fixture(autouse=True)
    def _no_flock(self, monkeypatch):
        def flock(*_):
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        monkeypatch.setattr("fcntl.flock", flock)

    def test_two_at_once_lose_none_of_their_clips(self, tmp_path):
        path = tmp_path / "c.h5"
        with ShardStore(path, **MADE_WITH) as one:
            extract(one, clips(3))
            with ShardStore(path, **MADE_WITH) as other:
                extract(other, clips(3, start=3))
                other.consolidate(clips(3, start=3))
            extract(one, clips(2, start=8))
            one.consolidate([*clips(3), *clips(2, start=8)])
        assert len(load(path)) == 8
        assert verify(path) == []

    def test_a_second_process_leaves_the_temporaries_of_the_first(self, tmp_path):
        path = tmp_path / "c.h5"
        with ShardStore(path, **MADE_WITH) as store:
            temporary = temporary_path(store.parts / "shard.h5")
            temporary.write_bytes(b"half of a shard")
            with ShardStore(path, **MADE_WITH):
                assert temporary.exists()


class TestVersion1:
    @pytest.mark.parametrize("row_hashes", [True, False])
    def test_it_is_gone_on_with_and_written_as_version_2(self, tmp_path, row_hashes):
        whole, path = load(full(tmp_path / "whole.h5")), tmp_path / "c.h5"
        save_version_1(load(full(tmp_path / "some.h5", 5)), path, row_hashes=row_hashes)
        assert load(path).differences(load(tmp_path / "some.h5")) == []
        full(path)
        assert load(path).differences(whole) == []
        assert info(path)["schema_version"] == 2
        assert outcomes(path) == {"kept": 5, "done": 6, "failed": 1}

    def test_one_that_is_complete_is_written_as_version_2(self, tmp_path):
        whole, path = load(full(tmp_path / "whole.h5")), tmp_path / "c.h5"
        save_version_1(whole, path)
        full(path)
        assert info(path)["schema_version"] == 2
        assert load(path).content_sha256 == whole.content_sha256

    @pytest.mark.parametrize("row_hashes", [True, False])
    def test_damage_in_it_is_never_sealed_anew(self, tmp_path, row_hashes):
        whole, path = load(full(tmp_path / "whole.h5", 5)), tmp_path / "c.h5"
        content = bytearray(save_version_1(whole, path, row_hashes=row_hashes).read_bytes())
        content[content.find(whole.features[2].tobytes())] ^= 1
        path.write_bytes(content)
        with pytest.raises(CacheError, match=r"c\.h5.* (is|are) damaged"):
            full(path)
        assert path.read_bytes() == content

    def test_the_seconds_of_a_clip_come_from_its_ledger_if_its_key_agrees(self, tmp_path):
        path = tmp_path / "c.h5"
        parts = [Clip(id=str(n), path=Path("x.mp4"), start=n, end=n + 0.5) for n in (1.0, 2.0)]
        with ShardStore(path, **MADE_WITH) as store:
            for clip in parts:
                frames = np.zeros(4, np.int64)
                store.add(clip, np.ones((2, 8), "f2"), frames, frames / 1.0, source_sha256="ab")
            store.consolidate(parts)
        whole = load(path)
        assert (whole.start.tolist(), whole.end.tolist()) == ([1.0, 2.0], [1.5, 2.5])
        save_version_1(whole, path)
        assert np.isnan(load(path).start).all()
        with ShardStore(path, **MADE_WITH) as store:
            store.consolidate([])
        assert load(path).differences(whole) == []


def test_columns_of_version_2_stay(tmp_path):
    path = tmp_path / "c.h5"
    some = load(full(path, 3))
    pictures = np.arange(3 * 4 * 2 * 2, dtype=np.uint8).reshape(3, 4, 2, 2)
    rich = replace(
        some, label_units={"mass": "g"}, label_tables={"mass": "a" * 64}, thumbnails=pictures
    )
    save(rich, path)
    heavier = [replace(clip, labels={"mass": 2.0}) for clip in clips(3)]
    with ShardStore(path, **MADE_WITH) as store:
        extract(store, heavier)
        store.consolidate(heavier)
    found = load(path)
    assert found.labels["mass"].tolist() == [2.0] * 3
    assert (found.label_units, found.label_tables) == (rich.label_units, rich.label_tables)
    np.testing.assert_array_equal(found.thumbnails, pictures)
