"""`heliograph extract`: what it keeps, and what it names."""

import json

import pytest

from tests.helpers.command import run


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
