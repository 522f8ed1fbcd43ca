"""Pictures of clips: found, checked against the cache, and made of all frames."""

import base64
import dataclasses
import io
import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import backbones
from data import cache
from data.clips import Clip
from data.files import path_of
from data.manifests import write_manifest
from data.video import Sampling
from pipeline.dataset import find_clips
from pipeline.extraction import extract
from pipeline.message import load_lexicon
from pipeline.report import write_report
from pipeline.report.thumbnails import choose_moving, moving_picture, overlay
from pipeline.runs import Run
from pipeline.training import train
from tests.helpers.buckets import serve_bucket
from tests.helpers.command import run
from tests.helpers.pages import read_page
from tests.helpers.tiny_backbone import TINY_ENTRY


def make_video(path: Path, level: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for time in range(12):
            pixels = np.full((48, 64, 3), level, np.uint8)
            pixels[20:28, 5 * time : 5 * time + 8] = 255 - level // 2
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def film(folder: Path) -> Run:
    """Train on features of video files in `folder`."""
    clips = [
        Clip(
            id=f"o{number // 2:02d}/{number % 2}.mp4",
            path=make_video(folder / "clips" / f"o{number // 2:02d}/{number % 2}.mp4", 8 * number),
            object=f"o{number // 2:02d}",
            labels={"mass": float(10 + number // 2)},
        )
        for number in range(24)
    ]
    write_manifest(clips, folder / "clips" / "manifest.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backbones.BACKBONES, "tiny", TINY_ENTRY)
        model = backbones.load("tiny", device="cpu")
    extract(clips, folder / "clips.h5", backbone=model, sampling=Sampling(frames=8))
    return train(folder / "clips.h5", folder / "run", seeds=range(1), epochs=3)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on features of video files, which stay as they are."""
    return film(tmp_path_factory.mktemp("filmed"))


def test_thumbnails_are_found_where_the_clips_were(filmed):
    written = write_report(filmed.folder)
    assert written.notes == ()
    images = read_page(written.path).all("img")
    assert len({(one["alt"], one["src"]) for one in images}) == written.pictures > 0
    lines = {line["clip"]: line["part"] for line in filmed.messages()}
    kinds = {"data:image/jpeg;base64": [], "data:image/webp;base64": []}
    frames = []
    for image in images:
        kind, content = image["src"].split(",", 1)
        kinds[kind].append(image["alt"])
        with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
            assert picture.size == (64, 48)
            assert picture.format == ("WEBP" if "webp" in kind else "JPEG")
            frames.append(getattr(picture, "n_frames", 1))
    assert max(frames) == 8  # of a clip with little to see the encoder drops some
    still, moving = kinds.values()
    assert {lines[clip] for clip in still} == {"train"}  # of the lexicon
    assert sorted(moving) == sorted(lines)  # beside its message


def test_of_many_clips_those_that_were_not_trained_on_move(monkeypatch):
    monkeypatch.setattr("pipeline.report.thumbnails.MAX_MOVING", 4)
    lines = [
        {"clip": f"{part}{number}", "part": part, "message": str(number % 2)}
        for part in ("train", "test")
        for number in range(3)
    ]
    assert choose_moving(lines, ["train2"]) == ["test0", "test1", "test2", "train2"]
    assert choose_moving(lines[:3], []) == ["train0", "train1", "train2"]


def test_moving_pictures_end_where_the_page_would_grow_too_large(filmed, monkeypatch, tmp_path):
    monkeypatch.setattr("pipeline.report.thumbnails.MAX_MOVING_BYTES", 1)
    page = read_page(write_report(filmed.folder, tmp_path / "page.html").path)
    assert sum("webp" in one["src"] for one in page.all("img")) == 1
    assert "1 of 24 are here, to keep the page small" in page.words


def test_pictures_of_videos_at_an_address(filmed, tmp_path):
    clips = filmed.folder.with_name("clips")
    here = write_report(filmed.folder, tmp_path / "here.html", clips=[clips])
    with serve_bucket() as bucket:
        for path in clips.rglob("*.mp4"):
            at = bucket.put(f"clips/{path.relative_to(clips)}", path.read_bytes())
        there = path_of("s3://clips/clips")
        written = write_report(filmed.folder, tmp_path / "there.html", clips=[there])
        assert (written.pictures, written.notes) == (here.pictures, ())
        bucket.put(at.partition("clips/")[2], b"another")
        written = write_report(filmed.folder, tmp_path / "there.html", clips=[there])
        assert written.pictures < here.pictures
        assert written.notes == (f"{at} is not the video that {at[17:]} was made from",)
        bucket.faults["HEAD"] = ["403 Forbidden"] * 9
        written = write_report(filmed.folder, tmp_path / "there.html", clips=[there])
    assert written.pictures == 0
    assert written.notes[3] == "no other video was fetched, as these could not be"


def test_many_frames_are_thinned_and_keep_their_pace():
    frames = np.zeros((40, 30, 50, 3), np.uint8)
    frames[np.arange(40), :, np.arange(40)] = 255
    content = base64.b64decode(moving_picture(frames, 2.8, side=25).split(",")[1])
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == (25, 15)
        assert picture.n_frames == 14
        picture.seek(13)
        picture.load()
        assert picture.info["duration"] == 200


def test_videos_of_imported_features_are_found_by_names_without_an_ending(filmed, tmp_path):
    features = cache.load(filmed.source.path)
    bare = dataclasses.replace(
        features,
        clip_id=[name.removesuffix(".mp4") for name in features.clip_id],
        source_sha256=[""] * len(features),
    )
    clips = filmed.folder.with_name("clips")
    found = find_clips(bare, filmed.source.path, [clips])
    assert {name: clip.path for name, clip in found.items()} == {
        name: clips / f"{name}.mp4" for name in bare.clip_id
    }
    hashed = dataclasses.replace(bare, source_sha256=["0" * 64] * len(features))
    assert find_clips(hashed, filmed.source.path, [clips]) == {}


def test_a_clip_that_has_changed_is_not_shown(tmp_path):
    filmed = film(tmp_path)
    before = write_report(filmed.folder)
    for line in filmed.messages():
        make_video(tmp_path / "clips" / line["clip"], 90)
    after = write_report(filmed.folder)
    assert before.pictures > after.pictures == 0
    assert any("is not the video that" in note for note in after.notes)


def test_clips_that_moved_are_found_by_their_manifest(tmp_path):
    filmed = film(tmp_path)
    (tmp_path / "clips").rename(tmp_path / "moved")
    assert write_report(filmed.folder).pictures == 0
    for place in ("moved/manifest.jsonl", "moved"):
        words = ["report", filmed.folder, "-o", tmp_path / "p.html", "--clips", tmp_path / place]
        done = run(*words)
        assert done.exit_code == 0, done.output
        assert done.stdout == f"{tmp_path / 'p.html'}\n"
        assert read_page(tmp_path / "p.html").all("img")


def test_a_folder_that_is_not_there_is_one_sentence(filmed):
    done = run("report", str(filmed.folder), "--clips", "nowhere")
    assert done.exit_code == 1
    assert done.stderr == "Error: nowhere does not exist\n"


def test_find_clips_takes_only_the_clips_of_the_cache(filmed, tmp_path):
    features = cache.load(filmed.source.path)
    clips = shutil.copytree(filmed.folder.with_name("clips"), tmp_path / "clips")
    make_video(clips / "stranger.mp4", 5)
    found = find_clips(features, filmed.source.path, [clips])
    assert sorted(found) == sorted(features.clip_id)


def test_what_moves_is_seen_wherever_it_was():
    frames = np.zeros((5, 4, 20, 3), np.uint8) + 50
    for time in range(5):
        frames[time, :, 4 * time : 4 * time + 2] = 250
    laid = overlay(frames)
    assert (laid[:, [0, 4, 8, 12, 16]] == 250).all()
    assert (laid[:, 2:4] == 50).all()


def test_the_lexicon_is_written_beside_the_page(filmed):
    write_report(filmed.folder)
    stored = json.loads((filmed.folder / "lexicon.json").read_text())
    assert stored == json.loads(json.dumps(load_lexicon(filmed).to_json()))
    assert [(one["agent"], one["position"]) for one in stored["positions"]] == [
        (1, 1), (1, 2), (2, 1), (2, 2),
    ]  # fmt: skip
