"""The summary of an extraction: its numbers, and what the command prints."""

import json
from pathlib import Path

from data.cache import read_ledger
from pipeline.extraction import ExtractionSummary
from tests.helpers.command import run
from tests.helpers.films import make_film


def test_the_slower_side_is_named():
    summary = ExtractionSummary(Path("x"), 10, done=4, seconds=8.0, frames=16)
    summary.waited_seconds, summary.blocked_seconds = 3.0, 0.1
    assert summary.bottleneck == "decode"
    summary.blocked_seconds = 5.0
    assert summary.bottleneck == "backbone"
    assert summary.frames_per_second == 2.0


def test_kept_clips_do_not_make_it_look_fast():
    summary = ExtractionSummary(Path("x"), 100, done=2, kept=50, seconds=8.0)
    assert summary.seconds_left == 4.0 * 48
    assert ExtractionSummary(Path("x"), 100, kept=50, seconds=8.0).seconds_left is None


def test_notes_that_differ_in_numbers_are_counted_together():
    summary = ExtractionSummary(Path("x"), 3)
    for number, clip in enumerate("abc", 8):
        summary.add_note(clip, f"header claims {number},000 frames, {number} are in the file")
        summary.add_note(clip, "decoded whole, without random access: packets without a timestamp")
    summary.add_note("a", "colour is not tagged: read as BT.601")
    assert summary.conditions == {
        "header claims N frames, N are in the file": ["a", "b", "c"],
        "colour is not tagged: read as BT.601": ["a"],
    }


def test_notes_keep_the_numbers_that_all_clips_share():
    summary = ExtractionSummary(Path("x"), 4)
    shared = "of 2 video streams FFmpeg's best, 3, is read"
    for clip in ("a#0", "a#1"):
        summary.add_note(clip, shared)
    summary.add_note("a#1", "2 frames are damaged")
    assert summary.conditions == {shared: ["a#0", "a#1"], "2 frames are damaged": ["a#1"]}
    for clip in ("b", "c"):
        summary.add_note(clip, shared.replace("3", "0"))
    assert list(summary.conditions.items()) == [
        ("of N video streams FFmpeg's best, N, is read", ["a#0", "a#1", "b", "c"]),
        ("2 frames are damaged", ["a#1"]),
    ]


def test_the_command_prints_the_totals_and_exits_with_3(folder, tmp_path, tiny):
    words = ["extract", folder, "-o", tmp_path / "c.h5", "--backbone", "tiny", "--frames", 4]
    shown = run(*words, "--json")
    assert shown.exit_code == 3
    assert "6 clips extracted, 0 kept, 1 failed in " in shown.stderr
    assert "frames/s, bottleneck: " in shown.stderr
    assert "clips: 7/7, 6 done, 1 failed, " in shown.stderr
    summary = json.loads(shown.stdout)
    assert (summary["done"], list(summary["failed"])) == (6, ["none.mp4"])
    untagged = "colour is not tagged: read as BT.601"
    assert "note: 6 clips (" in shown.stderr
    assert f"...): {untagged}\n" in shown.stderr
    assert sorted(summary["conditions"][untagged]) == sorted(
        line["clip"] for line in read_ledger(tmp_path / "c.h5") if untagged in line.get("notes", ())
    )
    again = run(*words)
    assert again.exit_code == 3
    assert "0 clips extracted, 6 kept, 1 failed" in again.stderr


def test_a_folder_named_like_a_video_and_a_broken_name_cost_themselves(tmp_path, tiny):
    make_film(tmp_path / "a.mp4", 1)
    make_film(tmp_path / "b\nc.mp4", 2)
    (tmp_path / "disc.mp4").mkdir()
    words = ["-o", tmp_path / "c.h5", "--backbone", "tiny", "--frames", 4]
    shown = run("extract", *sorted(tmp_path.iterdir()), *words)
    assert shown.exit_code == 3
    assert "failed: disc.mp4: a folder, not a video file\n" in shown.stderr
    assert "2 clips extracted, 0 kept, 1 failed in " in shown.stderr
    ids = {line["clip"] for line in read_ledger(tmp_path / "c.h5") if line["outcome"] == "done"}
    assert ids == {"a.mp4", r"b\nc.mp4"}
