"""Extraction of long videos: one row of the cache for each window."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from data import cache
from data.clips import Clip
from data.manifests import write_manifest
from data.video import Sampling, read_sampled
from data.windows import Windows
from pipeline.extraction import extract
from tests.helpers.clips import encode
from tests.helpers.command import run
from tests.pipeline.extraction.test_repair import flip

SAMPLING = Sampling(frames=4)
WINDOWS = Windows(every=0.5, span=1)
OPTIONS = ("--backbone", "tiny", "--frames", 4, "--every", 0.5, "--span", 1)
IDS = ["#000000-000001", "#000000.5-000001.5", "#000001-000002"]


@pytest.fixture
def films(tmp_path) -> Path:
    """Two films of two seconds, one of half a second, and a file that is none."""
    folder = tmp_path / "films"
    folder.mkdir()
    for number, frames in enumerate((50, 50, 12)):
        encode(folder / f"{number}.mp4", codec="mpeg4", frames=frames, rate=25)
    shutil.copy(folder / "0.mp4", folder / "1.mp4")  # of equal content
    (folder / "none.mp4").write_text("no film")
    return folder


def test_each_window_is_a_row_with_the_features_that_it_has_alone(films, tmp_path, tiny):
    model = tiny()
    clips = [Clip(id="a", path=films / "0.mp4", object="cup", labels={"mass": 2.0})]
    target = tmp_path / "c.h5"
    extract(clips, target, backbone=model, sampling=SAMPLING, windows=WINDOWS, dtype="float32")
    found = cache.load(target)
    assert found.clip_id == [f"a{window}" for window in IDS]
    assert found.start.tolist() == [0, 0.5, 1]
    assert found.end.tolist() == [1, 1.5, 2]
    assert found.object == ["cup"] * 3
    assert found.labels["mass"].tolist() == [2.0] * 3
    for start, end, features, index in zip(
        found.start, found.end, found.features, found.frame_index, strict=True
    ):
        batch, _ = read_sampled(clips[0].path, SAMPLING, start=start, end=end)
        expected = model.forward(model.preprocess(batch.frames)[None])[0].numpy()
        assert features.tobytes() == expected.tobytes()
        assert index.tolist() == batch.index.tolist()


def test_a_folder_is_cut_resumed_and_said(films, tmp_path, tiny):
    target = tmp_path / "c.h5"
    shown = run("extract", films, "-o", target, *OPTIONS)
    assert shown.exit_code == 3
    assert " kept, 2 failed in " in shown.stderr
    assert "failed: none.mp4: a text file, not a video" in shown.stderr
    assert (
        "failed: 2.mp4: it lasts 0.480 s, and a window takes 1 s: try a smaller --span"
        in shown.stderr
    )
    assert re.search(r"note: 6 clips \(\d\.mp4#00000.*\): colour is not tagged", shown.stderr)
    found = cache.load(target)
    assert found.clip_id == [f"{n}.mp4{window}" for n in (0, 1) for window in IDS]
    assert set(found.object) == {"0.mp4"}, "windows of one content have one object"
    lines = [line for line in cache.read_ledger(target) if line["outcome"] == "done"]
    entry = next(line for line in lines if line["clip"].endswith(IDS[1]))
    assert (entry["start"], entry["end"], entry["decoded_frames"]) == (0.5, 1.5, 4)
    assert entry["notes"] == ["colour is not tagged: read as BT.601"]

    encode(films / "2.mp4", codec="mpeg4", frames=30, rate=25)
    again = run("extract", films, "-o", target, *OPTIONS)
    assert "1 clip extracted, 6 kept, 1 failed" in again.stderr
    found = cache.load(target)
    assert found.clip_id[-1] == "2.mp4#000000-000001"
    assert [clip for clip, _ in found.failures] == ["none.mp4"]

    encode(films / "1.mp4", codec="mpeg4", frames=31, rate=25)  # another film, and shorter
    again = run("extract", films, "-o", target, *OPTIONS)
    assert "1 clip extracted, 4 kept, 1 failed" in again.stderr
    found = cache.load(target)
    assert [clip for clip in found.clip_id if clip.startswith("1")] == ["1.mp4#000000-000001"]
    assert cache.verify(target) == []
    encode(films / "0.mp4", codec="mpeg4", frames=32, rate=25)  # whose windows no other film has
    run("extract", films, "-o", target, *OPTIONS)
    assert len(cache.load(target)) == 3
    assert cache.verify(target) == []


def test_windows_of_a_file_that_is_another_now_go_though_it_fails(films, tmp_path, tiny):
    target = tmp_path / "c.h5"
    run("extract", films, "-o", target, *OPTIONS)
    (films / "0.mp4").write_text("no film any more")
    (films / "1.mp4").unlink()
    again = run("extract", films / "0.mp4", films / "2.mp4", "-o", target, *OPTIONS)
    assert "failed: 0.mp4: a text file, not a video" in again.stderr
    found = cache.load(target)
    assert found.clip_id == [f"1.mp4{window}" for window in IDS]
    assert "0.mp4" in dict(found.failures)
    (films / "1.mp4").mkdir()  # nothing shows that its windows are out of date
    run("extract", films / "1.mp4", "-o", target, *OPTIONS)
    found = cache.load(target)
    assert found.clip_id == [f"1.mp4{window}" for window in IDS]
    assert cache.verify(target) == []


def test_windows_of_another_cut_stay_and_are_named(films, tmp_path, tiny):
    target, film = tmp_path / "c.h5", films / "0.mp4"
    assert "cut otherwise" not in run("extract", film, "-o", target, *OPTIONS).stderr
    assert "cut otherwise" not in run("extract", film, "-o", target, *OPTIONS).stderr
    shown = run("extract", film, "-o", target, *OPTIONS[:-4], "--every", 0.7, "--span", 1)
    named = "0.mp4#000000.5-000001.5, 0.mp4#000001-000002"
    assert f"note: the cache also has 2 clips ({named}): windows of the same" in shown.stderr
    assert "cut otherwise" in shown.stderr
    assert len(cache.load(target)) == 4  # the first window is the same


def test_an_object_is_the_video_unless_a_table_says_so(films, tmp_path, tiny):
    (films / "1.mp4").unlink()
    rows = [
        Clip(id="early", path=films / "0.mp4", end=1.0),
        Clip(id="late", path=films / "0.mp4", start=1.0),
        Clip(id="cup", path=films / "2.mp4", object="cup 1", labels={"mass": 3.0}),
    ]
    write_manifest(rows[:2], films / "stretches.jsonl")
    write_manifest(rows[2:], films / "cups.jsonl")
    target = tmp_path / "c.h5"
    options = ("--backbone", "tiny", "--frames", 2, "--every", 0.25)
    tables = (films / "stretches.jsonl", films / "cups.jsonl")
    assert run("extract", *tables, "-o", target, *options).exit_code == 0
    found = cache.load(target)
    assert found.clip_id[0] == "early#000000-000000.25"
    assert found.clip_id[4:8][-1] == "late#000001.75-000002"
    assert found.object == ["early"] * 8 + ["cup 1"] * 2
    assert np.isnan(found.labels["mass"][:8]).all()
    assert found.labels["mass"][8:].tolist() == [3.0, 3.0]


def test_ids_do_not_depend_on_how_the_clips_are_shared_out(films, tmp_path, tiny):
    whole, shared = tmp_path / "whole.h5", tmp_path / "shared.h5"
    (films / "none.mp4").unlink()
    rows = [Clip(id=f"v{n}", path=films / f"{n}.mp4") for n in (0, 2)]
    options = {"backbone": tiny(), "sampling": SAMPLING, "windows": Windows(every=0.25, span=0.4)}
    extract(rows, whole, **options, workers=2)
    for row in rows:
        extract([row], shared, **options)
    assert cache.load(whole).differences(cache.load(shared)) == []


def test_damaged_windows_are_extracted_again_and_found_by_their_video(films, tmp_path, tiny):
    target = tmp_path / "c.h5"
    run("extract", films / "0.mp4", "-o", target, *OPTIONS)
    whole = cache.load(target)
    flip(target, whole.features[1].tobytes())
    shown = run("cache", "verify", target, "--repair")
    assert shown.exit_code == 0, shown.stderr
    assert "1 clip extracted" in shown.stderr
    assert cache.load(target).differences(whole) == []
    flip(target, whole.features[2].tobytes())
    films.rename(tmp_path / "moved")
    moved = tmp_path / "moved" / "0.mp4"
    shown = run("cache", "verify", target, "--repair", "--clips", moved)
    assert shown.exit_code == 0, shown.stderr
    assert cache.load(target).differences(whole) == []


def test_labels_of_a_video_are_set_anew_for_its_windows(films, tmp_path, tiny):
    target = tmp_path / "c.h5"
    run("extract", films / "0.mp4", films / "1.mp4", "-o", target, *OPTIONS)
    (films / "labels.csv").write_text("path,object,mass [g]\n0.mp4,cup,14\n")
    shown = run("cache", "label", target, films / "labels.csv")
    assert shown.exit_code == 0, shown.stderr
    found = cache.load(target)
    assert found.object == ["cup"] * 3 + ["0.mp4"] * 3
    assert found.labels["mass"][:3].tolist() == [14.0] * 3
    assert np.isnan(found.labels["mass"][3:]).all()
    shown = run("cache", "label", target, films / "labels.csv", "--prune")
    assert cache.load(target).clip_id == found.clip_id[:3]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--span", 2), "--span is the length of the windows of --every: give that, too"),
        (("--every", 0), "'--every': 0 is not a finite number of at least 0.001"),
        (("--every", 1, "--span", "nan"), "'--span': nan is not a finite number of at least 0.001"),
        (("--every", 1, "--decoder", "decord"), "--every reads with the decoder pyav, not with"),
    ],
)
def test_options_that_cannot_be_are_refused(options, words, films, tmp_path):
    shown = run("extract", films, "-o", tmp_path / "c.h5", *options)
    assert shown.exit_code == 2
    assert words in shown.stderr
