"""Extraction from files to a cache: flow, order, progress, ledger, repair."""

import json
import math
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from data import cache
from data.clips import Clip
from data.errors import HeliographError
from data.files import sha256_file
from data.manifests import write_manifest
from data.video import Sampling, read_sampled
from pipeline.cli import main
from pipeline.console import Bar, duration
from pipeline.extraction import Summary, extract
from pipeline.extraction.stages import Line

SAMPLING = Sampling(frames=4)


def make_clip(path: Path, number: int, *, frames: int = 9) -> Path:
    """A small film that differs from those of other numbers."""
    import av

    noise = np.random.default_rng(number).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    texture = noise.repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in range(frames):
            picture = np.roll(texture, 3 * frame, 1)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Six films and one that is none."""
    made = tmp_path_factory.mktemp("films")
    for number in range(6):
        make_clip(made / f"{number}.mp4", number)
    (made / "none.mp4").write_text("no film")
    return made


@pytest.fixture
def clips(folder) -> list[Clip]:
    labels = [{"mass": number + 0.5 if number else math.nan} for number in range(6)]
    return [
        Clip(id=f"{n}", path=folder / f"{n}.mp4", object=f"o{n % 2}", labels=labels[n])
        for n in range(6)
    ]


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


class TestFlow:
    def test_features_are_those_of_the_backbone_alone(self, clips, tmp_path, tiny):
        model = tiny()
        extract(clips, tmp_path / "c.h5", backbone=model, sampling=SAMPLING, dtype="float32")
        found = cache.load(tmp_path / "c.h5")
        assert found.clip_id == [clip.id for clip in clips]
        for clip, features, index in zip(clips, found.features, found.frame_index, strict=True):
            batch, _ = read_sampled(clip.path, SAMPLING)
            expected = model.forward(model.preprocess(batch.frames)[None])[0].numpy()
            assert features.tobytes() == expected.tobytes()
            assert index.tolist() == batch.index.tolist()

    def test_workers_order_and_batches_change_no_bit(self, clips, tmp_path, tiny):
        model, made = tiny(), []
        for number, (workers, some) in enumerate(
            [(1, clips), (2, clips), (3, clips[::-1]), (2, clips[3:] + clips[:3])]
        ):
            target = tmp_path / f"{number}.h5"
            extract(
                some, target, backbone=model, sampling=SAMPLING, workers=workers, dtype="float32"
            )
            found = cache.load(target)
            order = [found.clip_id.index(clip.id) for clip in clips]
            made.append(found.select(order))
        for other in made[1:]:
            assert made[0].differences(other) == []

    def test_each_batch_of_a_gpu_holds_as_many_clips_the_last_filled_up(
        self, clips, tmp_path, tiny, monkeypatch
    ):
        one = tiny()
        extract(clips, tmp_path / "a.h5", backbone=one, sampling=SAMPLING, dtype="float32")
        several, sizes = tiny(), []
        forward = several.forward

        def noted(batch: torch.Tensor) -> torch.Tensor:
            sizes.append(len(batch))
            return forward(batch)

        several.forward = noted
        monkeypatch.setattr(several, "device", SimpleNamespace(type="cuda"))
        monkeypatch.setattr(several, "_move", lambda batch: batch)
        monkeypatch.setattr("backbones.base.forward_precision", lambda *_: torch.inference_mode())
        extract(
            clips, tmp_path / "b.h5", backbone=several, sampling=SAMPLING, dtype="float32", batch=4
        )
        assert sizes == [4, 4]
        found = [cache.load(tmp_path / name) for name in ("a.h5", "b.h5")]
        assert found[0].clip_id == found[1].clip_id
        np.testing.assert_allclose(found[0].features, found[1].features, rtol=1e-5, atol=1e-7)

    def test_a_second_run_decodes_nothing(self, clips, tmp_path, tiny):
        extract(clips, tmp_path / "c.h5", backbone=tiny(), sampling=SAMPLING)
        again = extract(clips, tmp_path / "c.h5", backbone=tiny(), sampling=SAMPLING)
        assert (again.done, again.kept, again.frames) == (0, 6, 0)
        assert again.bottleneck is None

    def test_progress_is_told_of_every_clip_kept_ones_too(self, clips, folder, tmp_path, tiny):
        bad = Clip(id="bad", path=folder / "none.mp4")
        for expected in ("done", "kept"):
            told: list[int] = []
            extract(
                [*clips, bad], tmp_path / "c.h5", backbone=tiny(), sampling=SAMPLING,
                progress=lambda summary, told=told: told.append(summary.finished),
            )  # fmt: skip
            assert told == sorted(told)
            assert told[-1] == 7
            if expected == "kept":
                assert set(told) >= set(range(1, 8))

    def test_an_error_of_the_writer_is_raised(self, clips, tmp_path, tiny, monkeypatch):
        def full(*_: object, **__: object) -> None:
            raise HeliographError("the disk is full")

        monkeypatch.setattr(cache.ShardStore, "add", full)
        with pytest.raises(HeliographError, match="the disk is full"):
            extract(clips, tmp_path / "c.h5", backbone=tiny(), sampling=SAMPLING)

    def test_features_that_are_not_finite_fail_their_clip(self, clips, tmp_path, tiny):
        model = tiny()
        forward, calls = model.forward, []

        def sometimes(batch: torch.Tensor) -> torch.Tensor:
            calls.append(batch)
            return forward(batch) * (1e9 if len(calls) == 2 else 1)

        model.forward = sometimes
        summary = extract(clips, tmp_path / "c.h5", backbone=model, sampling=SAMPLING, workers=1)
        assert summary.failed == {"1": "its features are not finite numbers in float16"}
        assert summary.done == 5

    def test_ctrl_c_leaves_a_cache_of_what_is_done(self, clips, tmp_path, tiny):
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

    def test_ctrl_c_in_a_later_run_keeps_the_cache_and_looks_at_no_more_clips(
        self, clips, folder, tmp_path, tiny, monkeypatch
    ):
        target, model = tmp_path / "c.h5", tiny()
        kept = [Clip(id=f"late {n}", path=folder / "5.mp4", start=n / 1e6) for n in range(40)]
        extract([*clips[1:3], *kept], target, backbone=model, sampling=SAMPLING)
        before = cache.load(target)
        looked_at = []

        def interrupted(_: torch.Tensor) -> torch.Tensor:
            raise KeyboardInterrupt

        def hashed(path: Path) -> str:
            looked_at.append(path)
            time.sleep(0.02)
            return sha256_file(path)

        model.forward = interrupted
        monkeypatch.setattr("pipeline.extraction.stages.sha256_file", hashed)
        some = [clips[0], *clips[1:3], *kept]
        summary = extract(some, target, backbone=model, sampling=SAMPLING, workers=1)
        assert summary.interrupted
        assert len(looked_at) < 20
        assert cache.load(target).differences(before) == []

    def test_a_clip_that_vanished_fails_and_keeps_its_features(self, clips, tmp_path, tiny):
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

    def test_a_clip_that_changes_while_it_is_read_fails(self, clips, tmp_path, tiny, monkeypatch):
        """Its features would be kept under the hash of another file."""
        film = Path(shutil.copy(clips[0].path, tmp_path / "film.mp4"))

        def replaced(path: Path) -> str:
            found = sha256_file(path)
            make_clip(path, 77)
            return found

        monkeypatch.setattr("pipeline.extraction.stages.sha256_file", replaced)
        summary = extract(
            [Clip(id="x", path=film)], tmp_path / "c.h5", backbone=tiny(), sampling=SAMPLING
        )
        assert summary.failed == {"x": "the file changed while it was read"}
        assert len(cache.load(tmp_path / "c.h5")) == 0

    def test_another_dtype_is_refused(self, clips, tmp_path, tiny):
        extract(clips[:1], tmp_path / "c.h5", backbone=tiny(), sampling=SAMPLING)
        with pytest.raises(HeliographError, match=r"features of float32 .*has float16"):
            extract(
                clips[:1], tmp_path / "c.h5", backbone=tiny(), sampling=SAMPLING, dtype="float32"
            )

    def test_frames_that_do_not_divide_into_steps(self, clips, tmp_path, tiny):
        with pytest.raises(HeliographError, match=r"tiny takes 2 frames a step, so 3 frames"):
            extract(clips, tmp_path / "c.h5", backbone=tiny(), sampling=Sampling(frames=3))


class TestLedger:
    def test_it_says_what_each_clip_cost_and_where_it_was(self, clips, folder, tmp_path, tiny):
        bad = Clip(id="bad", path=folder / "none.mp4")
        late = Clip(id="late", path=folder / "5.mp4", start=0.1, end=0.3)
        extract(
            [*clips, bad, late], tmp_path / "c.h5", backbone=tiny(), sampling=SAMPLING, workers=1
        )
        lines = {line["clip"]: line for line in cache.read_ledger(tmp_path / "c.h5")}
        for clip in clips:
            line = lines[clip.id]
            assert line["outcome"] == "done"
            assert line["claimed_frames"] == line["shown_frames"] == 9
            assert line["decoded_frames"] == 4
            assert line["bytes"] == clip.path.stat().st_size
            assert line["path"] == str(clip.path)
            assert line["object"] == clip.object
            assert 0 < line["seconds"] < 60
            assert 0 < line["backbone_seconds"] < 60
        assert lines["0"]["labels"] == {"mass": None}
        assert lines["bad"]["outcome"] == "failed"
        assert lines["bad"]["reason"]
        assert (lines["late"]["start"], lines["late"]["end"]) == (0.1, 0.3)


class TestProgress:
    def test_the_slower_side_is_named(self):
        summary = Summary(Path("x"), 10, done=4, seconds=8.0, frames=16)
        summary.waited_seconds, summary.blocked_seconds = 3.0, 0.1
        assert summary.bottleneck == "decode"
        summary.blocked_seconds = 5.0
        assert summary.bottleneck == "backbone"
        assert summary.frames_per_second == 2.0

    def test_kept_clips_do_not_make_it_look_fast(self):
        summary = Summary(Path("x"), 100, done=2, kept=50, seconds=8.0)
        assert summary.seconds_left == 4.0 * 48
        assert Summary(Path("x"), 100, kept=50, seconds=8.0).seconds_left is None

    @pytest.mark.parametrize("slow", ["decode", "backbone"])
    def test_what_is_slow_is_found(self, slow, clips, tmp_path, tiny, monkeypatch):
        import time

        model = tiny()
        if slow == "backbone":
            forward = model.forward
            model.forward = lambda batch: (time.sleep(0.3), forward(batch))[1]
        else:
            pixels = Line.pixels
            monkeypatch.setattr(
                Line, "pixels", lambda self, batch: (time.sleep(0.5), pixels(self, batch))[1]
            )
        summary = extract(clips, tmp_path / "c.h5", backbone=model, sampling=SAMPLING, workers=1)
        assert summary.bottleneck == slow
        assert summary.to_json()["bottleneck"] == slow

    def test_a_log_has_a_line_every_so_often(self, capsys, monkeypatch):
        clock = [0.0]
        monkeypatch.setattr("pipeline.console.progress.time.monotonic", lambda: clock[0])
        with Bar("clips") as bar:
            for second in range(1, 31):
                clock[0] = float(second)
                bar.update(second, 30, "1 failed")
        assert capsys.readouterr().err.splitlines() == [
            "clips: 10/30, 20 s left, 1 failed",
            "clips: 20/30, 10 s left, 1 failed",
            "clips: 30/30, 1 failed",
        ]

    def test_durations_are_short(self):
        assert [duration(seconds) for seconds in (5, 65, 7300)] == [
            "5 s",
            "1 min 05 s",
            "2 h 01 min",
        ]

    def test_the_command_sums_up_and_ends_with_3(self, folder, tmp_path, tiny):
        words = ["extract", folder, "-o", tmp_path / "c.h5", "--backbone", "tiny", "--frames", 4]
        shown = run(*words, "--json")
        assert shown.exit_code == 3
        assert "6 clips extracted, 0 kept, 1 failed in " in shown.stderr
        assert "frames/s, bottleneck: " in shown.stderr
        assert "clips: 7/7, 6 done, 1 failed, " in shown.stderr
        told = json.loads(shown.stdout)
        assert (told["done"], list(told["failed"])) == (6, ["none.mp4"])
        again = run(*words)
        assert again.exit_code == 3
        assert "0 clips extracted, 6 kept, 1 failed" in again.stderr


def flip(path: Path, content: bytes) -> None:
    """Turns a bit within these bytes of a file."""
    data = bytearray(path.read_bytes())
    data[data.find(content) + 1] ^= 4
    path.write_bytes(data)


class TestRepair:
    @pytest.fixture
    def films(self, folder, tmp_path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / "films"))

    @pytest.fixture
    def target(self, films, tmp_path, tiny) -> Path:
        """A cache of six clips, the third and fifth damaged."""
        clips = [
            Clip(id=f"{n}", path=films / f"{n}.mp4", object=f"o{n}", labels={"mass": n})
            for n in range(6)
        ]
        write_manifest(clips, films / "clips.jsonl")
        path = tmp_path / "c.h5"
        run("extract", films / "clips.jsonl", "-o", path, "--backbone", "tiny", "--frames", 4)
        shutil.copy(path, tmp_path / "whole.h5")
        for row in (2, 4):
            flip(path, cache.load(path).features[row].tobytes())
        return path

    def test_just_the_damaged_clips_are_extracted_again(self, target):
        before = len(cache.read_ledger(target))
        shown = run("cache", "verify", target)
        assert shown.exit_code == 1
        assert shown.stdout.split("\n")[:2] == [
            "2: its features are damaged",
            "4: its features are damaged",
        ]
        shown = run("cache", "verify", target, "--repair")
        assert shown.exit_code == 0, shown.stderr
        assert "2 clips extracted" in shown.stderr
        assert f"{target} is sound; 0 clips had to leave it" in shown.stderr
        lines = cache.read_ledger(target)[before:]
        assert sorted(line["clip"] for line in lines) == ["2", "4"]
        whole = cache.load(target.with_name("whole.h5"))
        assert cache.load(target).differences(whole) == []
        assert run("cache", "verify", target).exit_code == 0

    def test_a_clip_whose_source_is_gone_or_changed_leaves_the_cache(self, target, films):
        make_clip(films / "2.mp4", 99)
        (films / "4.mp4").unlink()
        shown = run("cache", "verify", target, "--repair")
        assert shown.exit_code == 3
        assert f"failed: 2: {films}/2.mp4 is another file than the one that it" in shown.stderr
        assert "failed: 4: " in shown.stderr
        assert "2 clips had to leave it" in shown.stderr
        found = cache.load(target)
        assert found.clip_id == ["0", "1", "3", "5"]
        assert [clip for clip, _ in found.failures] == ["2", "4"]
        assert cache.verify(target) == []

    def test_moved_videos_are_found_by_a_manifest(self, target, films):
        films.rename(films.with_name("moved"))
        moved = films.with_name("moved") / "clips.jsonl"
        shown = run("cache", "verify", target, "--repair", "--clips", moved)
        assert shown.exit_code == 0, shown.stderr
        whole = cache.load(target.with_name("whole.h5"))
        assert cache.load(target).differences(whole) == []

    @pytest.mark.parametrize("lines", [12, 6])
    def test_moved_videos_are_found_where_a_later_run_kept_them(self, target, films, lines):
        """Also without the lines of the first run: a kill can cost the line of a clip."""
        damaged = target.read_bytes()
        shutil.copy(target.with_name("whole.h5"), target)
        films.rename(films.with_name("moved"))
        moved = films.with_name("moved") / "clips.jsonl"
        assert (
            run("extract", moved, "-o", target, "--backbone", "tiny", "--frames", 4).exit_code == 0
        )
        target.write_bytes(damaged)
        ledger = cache.ledger_path(target)
        ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[-lines:]))
        shown = run("cache", "verify", target, "--repair")
        assert shown.exit_code == 0, shown.stderr
        whole = cache.load(target.with_name("whole.h5"))
        assert cache.load(target).differences(whole) == []

    def test_without_a_ledger_the_videos_have_to_be_named(self, target, films):
        before = target.read_bytes()
        cache.ledger_path(target).unlink()
        shown = run("cache", "verify", target, "--repair")
        assert shown.exit_code == 1
        assert "has no ledger that says where the videos of 2 clips are (2)" in shown.stderr
        assert "name them with --clips" in shown.stderr
        assert target.read_bytes() == before
        shown = run("cache", "verify", target, "--repair", "--clips", films / "clips.jsonl")
        assert shown.exit_code == 0, shown.stderr

    def test_a_missing_shard_is_made_again(self, target, films, tmp_path, tiny):
        shutil.copy(target.with_name("whole.h5"), target)
        one = make_clip(films / "more.mp4", 7)
        key = "0" * 64
        lines = cache.ledger_path(target).read_text().splitlines()
        entry = json.loads(lines[0]) | {"clip": "more", "path": str(one), "key": key}
        entry["source_sha256"] = sha256_file(one)
        with cache.ledger_path(target).open("a") as ledger:
            ledger.write(json.dumps(entry) + "\n")
        assert [str(p) for p in cache.verify(target)] == ["more: its shard is missing"]
        shown = run("cache", "verify", target, "--repair")
        assert shown.exit_code == 0, shown.stderr
        assert cache.load(target).clip_id == ["0", "1", "2", "3", "4", "5", "more"]

    def test_damage_outside_the_features_is_refused(self, target):
        shutil.copy(target.with_name("whole.h5"), target)
        flip(target, b"o3")
        before = target.read_bytes()
        shown = run("cache", "verify", target, "--repair")
        assert shown.exit_code == 1
        assert "cannot be repaired clip by clip: extract again" in shown.stderr
        assert target.read_bytes() == before

    def test_another_decoder_is_refused_by_name(self, target, monkeypatch):
        monkeypatch.setattr(
            sys.modules["pipeline.extraction.extract"],
            "decoder_record",
            lambda name: {"name": name, "version": "0"},
        )
        shown = run("cache", "verify", target, "--repair")
        assert shown.exit_code == 1
        assert "was made with decoder." in shown.stderr

    def test_a_sound_cache_needs_no_repair(self, target):
        shown = run("cache", "verify", target.with_name("whole.h5"), "--repair")
        assert shown.exit_code == 0
        assert "whole.h5 is sound" in shown.stderr
