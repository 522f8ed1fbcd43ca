"""Extraction from films to a cache: what it computes, keeps, refuses, and leaves behind."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import backbones
from data import cache
from data.clips import Clip
from data.errors import HeliographError
from data.video import Sampling, read_sampled
from pipeline.extraction import extract
from tests.helpers.clips import encode
from tests.helpers.tiny_backbone import TINY_ENTRY

SAMPLING = Sampling(frames=4)


def test_features_are_those_of_the_backbone_alone(clips, tmp_path, tiny):
    model = tiny()
    extract(clips, tmp_path / "c.h5", backbone=model, sampling=SAMPLING, dtype="float32")
    found = cache.load(tmp_path / "c.h5")
    assert found.clip_id == [clip.id for clip in clips]
    for clip, features, index in zip(clips, found.features, found.frame_index, strict=True):
        batch, _ = read_sampled(clip.path, SAMPLING)
        expected = model.forward(model.preprocess(batch.frames)[None])[0].numpy()
        assert features.tobytes() == expected.tobytes()
        assert index.tolist() == batch.index.tolist()


def test_paths_a_name_and_a_number_are_enough(clips, tmp_path, monkeypatch):
    monkeypatch.setitem(backbones.BACKBONES, "tiny", TINY_ENTRY)
    folder = clips[0].path.parent
    for number, given in enumerate((folder, str(folder), [clip.path for clip in clips])):
        out = tmp_path / f"{number}.h5"
        failed = extract(given, str(out), backbone="tiny", sampling=4).failed
        assert list(failed) == (["none.mp4"] if number < 2 else [])
        found = cache.load(out)
        assert found.clip_id == [clip.path.name for clip in clips]
        assert found.fingerprint["name"] == "tiny"
        assert found.sampler == SAMPLING.describe()


def test_workers_order_and_batches_change_no_bit(clips, tmp_path, tiny):
    model, made = tiny(), []
    for number, (workers, some) in enumerate(
        [(1, clips), (2, clips), (3, clips[::-1]), (2, clips[3:] + clips[:3])]
    ):
        target = tmp_path / f"{number}.h5"
        extract(some, target, backbone=model, sampling=SAMPLING, workers=workers, dtype="float32")
        found = cache.load(target)
        order = [found.clip_id.index(clip.id) for clip in clips]
        made.append(found.select(order))
    for other in made[1:]:
        assert made[0].differences(other) == []


def test_a_second_run_decodes_nothing(clips, tmp_path, tiny):
    extract(clips, tmp_path / "c.h5", backbone=tiny(), sampling=SAMPLING)
    again = extract(clips, tmp_path / "c.h5", backbone=tiny(), sampling=SAMPLING)
    assert (again.done, again.kept, again.frames) == (0, 6, 0)
    assert again.bottleneck is None


def test_what_is_noted_of_a_file_is_noted_of_every_clip_of_it(tmp_path, tiny):
    film = encode(tmp_path / "0.mp4", codec="mpeg4", frames=20)
    copies = [Path(shutil.copy(film, tmp_path / f"{number}.mp4")) for number in range(1, 5)]
    same = [Clip(id=path.name, path=path) for path in (film, *copies)]
    found = extract(same, tmp_path / "c.h5", backbone=tiny(), sampling=SAMPLING, workers=1)
    assert found.kept > 0
    assert {len(ids) for ids in found.conditions.values()} == {5}


def test_progress_is_called_for_every_clip_also_for_kept_ones(clips, folder, tmp_path, tiny):
    bad = Clip(id="bad", path=folder / "none.mp4")
    for expected in ("done", "kept"):
        finished: list[int] = []
        extract(
            [*clips, bad], tmp_path / "c.h5", backbone=tiny(), sampling=SAMPLING,
            progress=lambda summary, finished=finished: finished.append(summary.finished),
        )  # fmt: skip
        assert finished == sorted(finished)
        assert finished[-1] == 7
        if expected == "kept":
            assert set(finished) >= set(range(1, 8))


def test_ctrl_c_leaves_a_cache_of_what_is_done(clips, tmp_path, tiny):
    torch.set_num_threads(1)  # one clip at a time
    model = tiny()
    forward, calls = model.forward, []

    def interrupted(batch: torch.Tensor) -> torch.Tensor:
        calls.append(batch)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return forward(batch)

    model.forward = interrupted
    target = tmp_path / "c.h5"
    summary = extract(clips, target, backbone=model, sampling=SAMPLING, workers=1)
    assert (summary.interrupted, summary.done) == (True, 3)
    assert cache.load(target).clip_id == ["0", "1", "2"]
    assert cache.verify(target) == []
    rest = extract(clips, target, backbone=tiny(), sampling=SAMPLING)
    assert (rest.done, rest.kept) == (3, 3)


def test_a_clip_that_vanished_fails_and_keeps_its_features(clips, tmp_path, tiny):
    films = tmp_path / "films"
    films.mkdir()
    moved = [replace(c, path=Path(shutil.copy(c.path, films))) for c in clips[:3]]
    target = tmp_path / "c.h5"
    extract(moved, target, backbone=tiny(), sampling=SAMPLING)
    before = cache.load(target)
    moved[0].path.unlink()
    moved[1].path.write_text("a text")
    summary = extract(moved, target, backbone=tiny(), sampling=SAMPLING)
    assert summary.failed == {"0": "no such file", "1": "a text file, not a video"}
    found = cache.load(target)
    assert found.select([0, 1]).features.tobytes() == before.select([0, 2]).features.tobytes()
    assert (found.clip_id, found.failures) == (["0", "2"], [("1", "a text file, not a video")])


def test_another_dtype_is_refused(clips, tmp_path, tiny):
    extract(clips[:1], tmp_path / "c.h5", backbone=tiny(), sampling=SAMPLING)
    with pytest.raises(HeliographError, match=r"features of float32 .*has float16"):
        extract(clips[:1], tmp_path / "c.h5", backbone=tiny(), sampling=SAMPLING, dtype="float32")


def test_frames_that_do_not_divide_into_steps(clips, tmp_path, tiny):
    with pytest.raises(HeliographError, match=r"tiny reads 2 frames per step, and 3 frames cannot"):
        extract(clips, tmp_path / "c.h5", backbone=tiny(), sampling=Sampling(frames=3))
