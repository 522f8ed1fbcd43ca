"""The stages of an extraction: jobs, batches, the writer, and what the ledger says of each clip."""

import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from backbones import Backbone, BackboneError, GpuError, Preprocess
from data import cache
from data.clips import Clip
from data.errors import HeliographError, OutOfMemoryError
from data.files import HashedFile
from data.video import FrameBatch, Job, Sampling, read, read_sampled
from data.video.decoder_pool import _Worker
from pipeline.extraction import extract
from pipeline.extraction.stages import (
    BackboneBatcher,
    ClipPixels,
    ExtractionJournal,
    JobSource,
)
from pipeline.extraction.summary import ExtractionSummary
from tests.helpers.decoding import DecoderClock
from tests.helpers.films import make_film

SAMPLING = Sampling(frames=4)


def test_each_batch_of_a_gpu_holds_as_many_clips_the_last_filled_up(
    clips, tmp_path, tiny, monkeypatch
):
    one = tiny()
    extract(clips, tmp_path / "a.h5", backbone=one, sampling=SAMPLING, dtype="float32")
    several, sizes = on_a_gpu(tiny(), monkeypatch), []
    forward = several.forward

    def noted(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        return forward(batch)

    several.forward = noted
    extract(clips, tmp_path / "b.h5", backbone=several, sampling=SAMPLING, dtype="float32", batch=4)
    assert sizes == [4, 4]
    found = [cache.load(tmp_path / name) for name in ("a.h5", "b.h5")]
    assert found[0].clip_id == found[1].clip_id
    np.testing.assert_allclose(found[0].features, found[1].features, rtol=1e-5, atol=1e-7)
    assert found[0].versions["device"] == "CPU"
    assert found[0].versions["pass"] == "1 clip, one thread"
    assert found[1].versions["device"] == "NVIDIA A100"
    assert found[1].versions["pass"] == "4 clips, fewer where memory ran out"
    assert found[0].key == found[1].key


FAULTS = [
    (RuntimeError("a shape\nis odd"), "RuntimeError: a shape"),
    (ValueError(), "ValueError"),
    (BackboneError("it takes other frames"), "it takes other frames"),
]


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize(("error", "reason"), FAULTS)
def test_what_a_clip_does_to_the_backbone_costs_that_clip(
    gpu, error, reason, clips, tmp_path, tiny, monkeypatch
):
    model = on_a_gpu(tiny(), monkeypatch) if gpu else tiny()
    hostile = pixels_of(clips[2], model)
    encode = model._encode

    def fragile(pixels: torch.Tensor) -> torch.Tensor:
        if any(torch.equal(clip, model.preprocess.normalise(hostile)) for clip in pixels):
            raise error
        return encode(pixels)

    expected = tmp_path / "expected.h5"
    extract(clips, expected, backbone=model, sampling=SAMPLING, batch=4)
    model._encode = fragile
    target = tmp_path / "c.h5"
    summary = extract(clips, target, backbone=model, sampling=SAMPLING, batch=4)
    assert summary.failed == {"2": reason}
    assert summary.done == 5
    found, whole = cache.load(target), cache.load(expected)
    assert found.failures == [("2", reason)]
    rows = [row for row, clip in enumerate(whole.clip_id) if clip != "2"]
    np.testing.assert_array_equal(found.features, whole.features[rows])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        *FAULTS,
        (MemoryError(), "there is too little memory for its frames: try fewer --workers"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 1 byte"),
            "there is too little memory for its frames: try fewer --workers",
        ),
    ],
)
def test_what_a_clip_does_to_preprocessing_costs_that_clip(
    error, reason, clips, tmp_path, tiny, monkeypatch
):
    model = tiny()
    hostile = read(clips[2].path, [0]).frames[0]
    preprocess = model.preprocess

    class Fragile(Preprocess):
        def __call__(self, frames: np.ndarray) -> torch.Tensor:
            if np.array_equal(frames[0], hostile):
                raise error
            return preprocess(frames)

    model.preprocess = Fragile(**vars(preprocess))
    summary = extract(clips, tmp_path / "c.h5", backbone=model, sampling=SAMPLING)
    assert summary.failed == {"2": reason}
    assert summary.done == 5


def test_a_decoder_that_is_killed_for_memory_names_the_way_out(clips, tmp_path, tiny, monkeypatch):
    submit = _Worker.submit

    def kill(worker: _Worker, job: Job) -> None:
        if job.path != clips[2].path:
            submit(worker, job)
            return
        os.kill(worker.process.pid, signal.SIGSTOP)  # it answers nothing before it dies
        submit(worker, job)
        os.kill(worker.process.pid, signal.SIGKILL)

    monkeypatch.setattr(_Worker, "submit", kill)
    summary = extract(clips, tmp_path / "c.h5", backbone=tiny(), sampling=SAMPLING)
    assert summary.done == 5
    assert summary.failed == {
        "2": "the decoder was killed (signal 9, SIGKILL), as systems do where memory runs out: try "
        "fewer --workers"
    }


def test_features_of_another_shape_cost_that_clip(clips, tmp_path, tiny):
    model = tiny()
    model.forward = lambda batch: torch.zeros(1, 1, 5)
    summary = extract(clips[:1], tmp_path / "c.h5", backbone=model, sampling=SAMPLING)
    assert summary.failed == {"0": "the backbone gave features (1, 1, 5), not (1, 2, 5)"}


@pytest.mark.parametrize("gpu", [False, True])
def test_a_lack_of_memory_is_no_fault_of_a_clip(gpu, clips, tmp_path, tiny, monkeypatch):
    model = on_a_gpu(tiny(), monkeypatch) if gpu else tiny()
    text = "CUDA out of memory. Tried" if gpu else "DefaultCPUAllocator: can't allocate memory"

    def full(pixels: torch.Tensor) -> torch.Tensor:
        raise RuntimeError(f"{text}\nmuch more")

    model._encode = full
    what = "1 clip of 4 frames in a pass" if gpu else "clips of 4 frames"
    where = "GPU" if gpu else "machine"
    with pytest.raises(OutOfMemoryError, match=f"the {where} is out of memory .tiny, {what}"):
        extract(clips, tmp_path / "c.h5", backbone=model, sampling=SAMPLING, batch=2)


def test_a_pass_that_does_not_fit_is_halved_from_then_on(clips, tmp_path, tiny, monkeypatch):
    extract(clips, tmp_path / "a.h5", backbone=tiny(), sampling=SAMPLING, dtype="float32")
    model, sizes = on_a_gpu(tiny(), monkeypatch), []
    encode = model._encode

    def small(pixels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(pixels))
        if len(pixels) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return encode(pixels)

    model._encode = small
    made = {"backbone": model, "sampling": SAMPLING, "dtype": "float32"}
    summary = extract(clips, tmp_path / "b.h5", batch=8, **made)
    assert summary.done == 6
    assert sizes == [8, 4, 2, 2, 2]
    assert summary.notes == [
        "the GPU's memory did not hold a pass of 8 clips: the last ones had 2, with which "
        "--batch 2 begins"
    ]
    found = [cache.load(tmp_path / name).features for name in ("a.h5", "b.h5")]
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-7)


def test_a_pass_has_as_many_clips_as_half_of_the_free_memory_takes(tiny, monkeypatch):
    model = on_a_gpu(tiny(), monkeypatch)
    clip = 4 * 3 * 28 * 28 * 4 * 64  # bytes of a pass over four frames of 28 x 28
    for free, clips in ((0, 1), (2 * clip, 1), (10 * clip, 5), (80 << 30, 64)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 80 << 30))
        assert model.batch(4) == clips
    assert tiny().batch(4) == 1


def test_a_broken_gpu_is_no_fault_of_a_clip(clips, tmp_path, tiny, monkeypatch):
    model = on_a_gpu(tiny(), monkeypatch)

    def broken(pixels: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with")

    model._encode = broken
    with pytest.raises(GpuError, match=r"^the GPU failed: CUDA error: an illegal memory access"):
        extract(clips, tmp_path / "c.h5", backbone=model, sampling=SAMPLING, batch=2)


def on_a_gpu(model: Backbone, monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """Return a backbone that believes that it is on a GPU."""
    monkeypatch.setattr(model, "device", SimpleNamespace(type="cuda", index=None))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (64 << 20, 80 << 30))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr("backbones.base.forward_precision", lambda *_: torch.inference_mode())
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100")
    return model


def pixels_of(clip: Clip, model: Backbone) -> torch.Tensor:
    """Return what the backbone gets of a clip."""
    batch, _ = read_sampled(clip.path, SAMPLING)
    return model.preprocess(batch.frames)


def test_an_error_of_the_writer_is_raised(clips, tmp_path, tiny, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise HeliographError("the disk is full")

    monkeypatch.setattr(cache.ShardStore, "add", full)
    with pytest.raises(HeliographError, match="the disk is full"):
        extract(clips, tmp_path / "c.h5", backbone=tiny(), sampling=SAMPLING)


def test_features_that_are_not_finite_fail_their_clip(clips, tmp_path, tiny):
    torch.set_num_threads(1)  # one clip at a time
    model = tiny()
    forward, calls = model.forward, []

    def sometimes(batch: torch.Tensor) -> torch.Tensor:
        calls.append(batch)
        return forward(batch) * (1e9 if len(calls) == 2 else 1)

    model.forward = sometimes
    summary = extract(clips, tmp_path / "c.h5", backbone=model, sampling=SAMPLING, workers=1)
    assert summary.failed == {"1": "its features are not finite numbers in float16"}
    assert summary.done == 5


def test_ctrl_c_in_a_later_run_keeps_the_cache_and_looks_at_no_more_clips(
    clips, folder, tmp_path, tiny, monkeypatch
):
    torch.set_num_threads(1)  # each pass is waited for at once
    target, model = tmp_path / "c.h5", tiny()
    kept = [Clip(id=f"late {n}", path=folder / "5.mp4", start=n / 1e6) for n in range(40)]
    extract([*clips[1:3], *kept], target, backbone=model, sampling=SAMPLING)
    before = cache.load(target)
    looked_at: list[Path] = []
    ended, close, is_wanted = threading.Event(), JobSource.close, JobSource._is_wanted

    def interrupted(_: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt

    def looked(self: JobSource, clip: Clip, source: HashedFile) -> bool:
        looked_at.append(clip.path)
        if len(looked_at) > 1:  # the next clip, while Ctrl-C is on its way
            ended.wait(300)
        return is_wanted(self, clip, source)

    def closed(self: JobSource) -> None:
        close(self)
        ended.set()

    model.forward = interrupted
    monkeypatch.setattr(JobSource, "_is_wanted", looked)
    monkeypatch.setattr(JobSource, "close", closed)
    some = [clips[0], *clips[1:3], *kept]
    summary = extract(some, target, backbone=model, sampling=SAMPLING, workers=1)
    assert summary.interrupted
    assert looked_at == [clip.path for clip in some[: len(looked_at)]]
    assert len(looked_at) <= 2
    assert cache.load(target).differences(before) == []


def test_a_clip_that_changes_while_it_is_read_fails(clips, tmp_path, tiny, monkeypatch):
    """Its features would be kept under the hash of another file."""
    film = Path(shutil.copy(clips[0].path, tmp_path / "film.mp4"))

    is_wanted = JobSource._is_wanted

    def replaced(self: JobSource, clip: Clip, source: HashedFile) -> bool:
        make_film(clip.path, 77)
        return is_wanted(self, clip, source)

    monkeypatch.setattr(JobSource, "_is_wanted", replaced)
    summary = extract(
        [Clip(id="x", path=film)], tmp_path / "c.h5", backbone=tiny(), sampling=SAMPLING
    )
    assert summary.failed == {"x": "the file changed while it was read"}
    assert not (tmp_path / "c.h5").exists()


def test_it_says_what_each_clip_cost_and_where_it_was(clips, folder, tmp_path, tiny):
    bad = Clip(id="bad", path=folder / "none.mp4")
    late = Clip(id="late", path=folder / "5.mp4", start=0.1, end=0.3)
    extract([*clips, bad, late], tmp_path / "c.h5", backbone=tiny(), sampling=SAMPLING, workers=1)
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


@pytest.mark.parametrize("slow", ["decode", "backbone"])
def test_what_is_slow_is_found(slow, clips, tmp_path, tiny, monkeypatch):
    """On a clock that only the slow side moves."""
    torch.set_num_threads(1)  # each pass is waited for at once
    model, clock = tiny(), DecoderClock(monkeypatch, "pipeline.extraction.stages")
    forward, shrink = model.forward, BackboneBatcher.shrink

    def forward_slowly(batch: torch.Tensor) -> torch.Tensor:
        if clock.now == 0:
            clock.wait_for_puts(3)  # this clip, the next, and one that waits
        clock.now += 1
        return forward(batch)

    def shrink_slowly(self: BackboneBatcher, batch: FrameBatch) -> ClipPixels | Exception:
        clock.now += 1
        return shrink(self, batch)

    if slow == "backbone":
        model.forward = forward_slowly
    else:
        monkeypatch.setattr(BackboneBatcher, "shrink", shrink_slowly)
    summary = extract(clips, tmp_path / "c.h5", backbone=model, sampling=SAMPLING, workers=1)
    idle = {"decode": summary.blocked_seconds, "backbone": summary.waited_seconds}
    busy = {"decode": summary.waited_seconds, "backbone": summary.blocked_seconds}
    assert idle[slow] == 0
    assert busy[slow] >= 1
    assert summary.bottleneck == slow
    assert summary.to_json()["bottleneck"] == slow


def test_a_job_is_there_before_the_next_clip_is():
    """Actors are handed their clips one by one."""
    taken = []

    class Coming:
        def __iter__(self):
            for clip in (Clip(id="0", path="0.mp4"), Clip(id="1", path="1.mp4")):
                taken.append(clip.id)
                yield clip

    journal = SimpleNamespace(offered=iter, recorded_source=lambda *_: None)
    jobs = JobSource(Coming(), journal, {"sampling": Sampling(frames=4)}, {}).jobs()
    assert str(next(jobs).path) == "0.mp4"
    assert taken == ["0"]


def test_files_that_are_as_they_were_are_not_read_again_unless_one_insists(
    clips, tmp_path, tiny, monkeypatch
):
    films = [Path(shutil.copy(clip.path, tmp_path)) for clip in clips[:3]]
    films_clips = [Clip(id=path.name, path=path) for path in films]
    target, opened = tmp_path / "c.h5", []
    settings = {"backbone": tiny(), "sampling": SAMPLING, "workers": 1}
    extract(films_clips, target, **settings)
    receive = _Worker.receive_hash

    def noted(self: _Worker) -> object:
        opened.append(self.job.path.name)
        return receive(self)

    monkeypatch.setattr(_Worker, "receive_hash", noted)
    assert extract(films_clips, target, **settings).kept == 3
    assert opened == []
    make_film(films[1], 77)  # other bytes
    os.utime(films[2])  # the same bytes at another time
    again = extract(films_clips, target, **settings)
    assert (again.done, again.kept) == (1, 2)
    assert opened == [path.name for path in films[1:]]
    opened.clear()
    assert extract(films_clips, target, **settings).kept == 3
    assert opened == []
    before = films[0].stat()
    content = bytearray(films[0].read_bytes())
    content[-1] ^= 1
    films[0].write_bytes(content)
    os.utime(films[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert extract(films_clips, target, **settings).kept == 3  # nothing shows the change
    insisted = extract(films_clips, target, **settings, rehash=True)
    assert len(opened) == 3
    assert insisted.kept == 2
    assert insisted.done + len(insisted.failed) == 1


def test_stretches_of_one_file_hash_it_once(folder, tmp_path, tiny, monkeypatch):
    hashed, receive = [], _Worker.receive_hash

    def noted(self: _Worker) -> object:
        hashed.append(self.job.path.name)
        return receive(self)

    monkeypatch.setattr(_Worker, "receive_hash", noted)
    stretches = [
        Clip(id=str(n), path=folder / "5.mp4", start=n / 100, object="one") for n in range(3)
    ]
    settings = {"backbone": tiny(), "sampling": SAMPLING, "workers": 1}
    assert extract(stretches, tmp_path / "c.h5", **settings).done == 3
    assert hashed == ["5.mp4"]


@pytest.mark.parametrize("join", [False, True])
def test_a_clip_of_which_two_decoders_died_is_put_aside(clips, tmp_path, tiny, monkeypatch, join):
    receive, submit, killed = _Worker.receive_hash, _Worker.submit, []

    def dies(self: _Worker, job: Job, act: Callable[[], object]) -> object:
        if job.path != clips[1].path:
            return act()
        os.kill(self.process.pid, signal.SIGSTOP)  # it decodes nothing before it dies
        done = act()
        killed.append(job.path)
        os.kill(self.process.pid, signal.SIGKILL)
        return done

    def hashed(self: _Worker) -> object:
        return dies(self, self.job, lambda: receive(self))

    def submitted(self: _Worker, job: Job) -> object:
        if job.wanted is not None:  # it dies once its file is hashed
            return submit(self, job)
        return dies(self, job, lambda: submit(self, job))

    monkeypatch.setattr(_Worker, "receive_hash", hashed)
    monkeypatch.setattr(_Worker, "submit", submitted)
    target, some = tmp_path / "c.h5", clips[:2]
    settings = {"backbone": tiny(), "sampling": SAMPLING, "workers": 1, "join": join}
    for _ in range(2):
        found = extract(some, target, **settings)
        assert "the decoder was killed" in found.failed["1"]
    assert len(killed) == 2
    for _ in range(2):
        found = extract(some, target, **settings)
        assert found.failed["1"] == (
            "2 decoders died of it: it is put aside (--retry-failed tries again)"
        )
    assert len(killed) == 2
    monkeypatch.setattr(_Worker, "receive_hash", receive)
    monkeypatch.setattr(_Worker, "submit", submit)
    assert extract(some, target, **settings, retry_failed=True).failed == {}
    assert cache.load(target).clip_id == ["0", "1"]


def test_a_clip_of_a_file_that_was_decoded_before_has_its_notes():
    summary = ExtractionSummary(Path("c.h5"), 6)
    journal = ExtractionJournal(SimpleNamespace(), summary, None)
    one, other = ["no colour tags"], ["no colour tags", "interlaced"]
    for number, notes in enumerate([one, other, one, []]):
        journal.note_done(f"c{number}", f"{number:064x}", 8, notes)
    journal.note_kept("of 1", f"{1:064x}")
    journal.note_kept("of 2", f"{2:064x}")
    journal.note_kept("of 3", f"{3:064x}")
    journal.note_kept("of another")
    assert summary.conditions == {
        "no colour tags": ["c0", "c1", "c2", "of 1", "of 2"],
        "interlaced": ["c1", "of 1"],
    }
