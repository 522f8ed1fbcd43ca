"""`heliograph extract`: what it keeps, and what it names."""

import json

import pytest
import torch

from backbones import Backbone
from data import cache
from tests.helpers.command import run
from tests.helpers.films import make_film


def test_an_unknown_backbone_lists_the_known_ones(tmp_path):
    clip = tmp_path / "a.mp4"
    clip.write_bytes(b"")
    shown = run("extract", clip, "-o", tmp_path / "x.h5", "--backbone", "resnet")
    assert shown.exit_code == 2
    assert "dinov2_vits14" in shown.stderr
    assert "efficientnet_lite0" in shown.stderr


@pytest.mark.parametrize("out", ["/proc/no.h5", "/dev/null/no.h5"])
def test_a_place_that_cannot_be_written_is_named(out, tmp_path):
    clip = tmp_path / "a.mp4"
    clip.write_bytes(b"nothing")
    shown = run("extract", clip, "-o", out, "--backbone", "efficientnet_lite0")
    assert shown.exit_code == 1
    assert out in shown.stderr
    assert len(shown.stderr.strip().splitlines()) == 1


def test_an_extraction_that_fails_leaves_nothing_that_refuses_other_settings(tmp_path):
    film, out = tmp_path / "film.mp4", tmp_path / "x.h5"
    make_film(film, 1)
    words = ["extract", film, "-o", out, "--backbone", "efficientnet_lite0"]
    failed = run(*words, "--frames", 5000)
    assert failed.exit_code == 1
    assert "film.mp4: the clip has 9 frames, 5000" in failed.stderr
    assert failed.stderr.endswith("Error: no clip could be extracted\n")
    assert not out.exists()
    assert not (tmp_path / "x.h5.parts" / "store.json").exists()
    assert run(*words, "--frames", 4).exit_code == 0
    assert cache.load(out).clip_id == ["film.mp4"]


def test_the_middle_frame_is_one_without_being_told(tmp_path):
    film, out = tmp_path / "film.mp4", tmp_path / "x.h5"
    make_film(film, 1)
    words = ["extract", film, "-o", out, "--backbone", "efficientnet_lite0", "--sampler", "middle"]
    assert run(*words).exit_code == 0
    assert cache.load(out).frame_index.tolist() == [[4]]
    shown = run(*words, "--frames", 8)
    assert shown.exit_code == 2
    assert "the sampling middle picks 1 frame, not 8" in shown.stderr


def test_what_a_clip_does_to_the_backbone_is_named(tmp_path, monkeypatch):
    (tmp_path / "clips").mkdir()
    for number in range(3):
        make_film(tmp_path / "clips" / f"{number}.mp4", number)
    torch.set_num_threads(1)  # one clip at a time
    forward, calls = Backbone._pass, []

    def sometimes(self, batch):
        calls.append(batch)
        if len(calls) == 2:
            raise RuntimeError("odd \x1b[2J pixels\nand more")
        return forward(self, batch)

    monkeypatch.setattr(Backbone, "_pass", sometimes)
    words = ["extract", tmp_path / "clips", "-o", tmp_path / "x.h5", "--frames", 4, "--json"]
    shown = run(*words, "--backbone", "efficientnet_lite0")
    assert shown.exit_code == 3
    ((clip, reason),) = json.loads(shown.stdout)["failed"].items()
    assert reason == "RuntimeError: odd \x1b[2J pixels"
    assert f"failed: {clip}: RuntimeError: odd \\x1b[2J pixels\n" in shown.stderr
    assert len(cache.load(tmp_path / "x.h5")) == 2


@pytest.mark.parametrize(
    "text",
    [
        "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.",
    ],
)
def test_a_lack_of_memory_is_a_sentence_and_leaves_no_output(text, tmp_path, monkeypatch):
    make_film(tmp_path / "film.mp4", 1)

    def full(self, batch):
        raise RuntimeError(f"{text}\nException raised from")

    monkeypatch.setattr(Backbone, "_pass", full)
    words = ["extract", tmp_path / "film.mp4", "-o", tmp_path / "x.h5", "--frames", 4]
    shown = run(*words, "--backbone", "efficientnet_lite0")
    assert shown.exit_code == 1
    (line,) = [line for line in shown.stderr.splitlines() if line.startswith("Error: ")]
    assert line == (
        "Error: the machine is out of memory (efficientnet_lite0, clips of 4 frames): "
        "try a smaller --batch or fewer --workers"
    )
    assert not (tmp_path / "x.h5").exists()


@pytest.mark.slow
def test_every_shared_clip_is_cached_or_named(shared, tmp_path):
    cache = tmp_path / "clips.h5"
    words = ["extract", shared / "videos", "-o", cache, "--backbone", "efficientnet_lite0"]
    shown = run(*words, "--frames", 8, "--json")
    assert shown.exit_code == 3
    summary = json.loads(shown.stdout)
    short = {f"rotated_{turn}.mov" for turn in (0, 90, 180, 270)}
    assert set(summary["failed"]) == short | {"corrupted_49_of_50.mp4"}
    assert all(summary["failed"][clip].startswith("the clip has 3 frames, 8") for clip in short)
    assert summary["done"] == 11
    for clip in summary["failed"]:
        assert f"failed: {clip}: " in shown.stderr

    again = run(*words, "--frames", 8, "--json", "--accept-damaged")
    assert json.loads(again.stdout)["kept"] == 11
    assert set(json.loads(again.stdout)["failed"]) == short
