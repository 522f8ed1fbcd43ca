"""What videos give away: found, checked and measured, or left out with a reason."""

import sys
from pathlib import Path

import av
import numpy as np
import pytest

from data import cache
from data.cache import Features, ledger_path
from data.clips import Clip
from data.files import sha256_file
from data.manifests import write_manifest
from pipeline.dataset import CacheSource, RunInputs
from pipeline.evaluation import evaluate
from pipeline.evaluation.baselines.recordings import CELLS, read_recordings
from pipeline.training import train
from tests.helpers.command import run

CLIPS = 20
EVERY = np.arange(6)


def make_video(path: Path, number: int, *, speed: int = 2) -> Path:
    """A square that moves by `speed` pixels a frame over a floor; longer by the number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    floor = np.random.default_rng(99).integers(30, 90, (16, 24, 3)).repeat(4, 0).repeat(4, 1)
    texture = np.random.default_rng(number).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=10 + number)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.bit_rate = 2_000_000
        for frame in range(8 + number):
            picture = floor.astype(np.uint8)
            left = 8 + speed * min(frame, 8)
            picture[24:40, left : left + 16] = texture
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return path


@pytest.fixture
def folder(tmp_path):
    clips = [
        Clip(id=f"{n}.mp4", path=make_video(tmp_path / "clips" / f"{n}.mp4", n)) for n in EVERY
    ]
    write_manifest(clips, tmp_path / "clips" / "manifest.jsonl")
    return tmp_path / "clips"


def inputs_of(folder: Path, *, samplings: tuple[dict, ...] = ({"frames": 4},)) -> RunInputs:
    """Caches of the videos in a folder, one for each way of sampling them."""
    ids = [f"{n}.mp4" for n in EVERY]
    caches = tuple(
        Features(
            features=np.zeros((6, 4, 3), np.float32), clip_id=ids, object=ids,
            scenario=[""] * 6, labels={"mass": np.arange(6.0)}, fingerprint={}, sampler=sampler,
            source_sha256=[sha256_file(folder / one) for one in ids],
        )
        for sampler in samplings
    )  # fmt: skip
    sources = tuple(
        CacheSource.of(folder / f"{n}.h5", one, name=f"cache{n}") for n, one in enumerate(caches)
    )
    return RunInputs(sources, caches, {}, tuple(source.path for source in sources))


def test_how_clips_are_filed_is_measured(folder):
    (shortcuts,) = read_recordings(inputs_of(folder), EVERY, [folder]).features["shortcuts"]
    assert shortcuts[:, 1].tolist() == [10 + n for n in EVERY]
    assert shortcuts[:, 2:4].tolist() == [[96, 64]] * 6
    assert shortcuts[:, 4].tolist() == [(folder / f"{n}.mp4").stat().st_size for n in EVERY]
    assert shortcuts[:, 0] == pytest.approx([(7 + n) / (10 + n) for n in EVERY])


def test_a_stretch_of_a_video_is_as_long_as_it_is(folder):
    clips = [Clip(id=f"{n}.mp4", path=folder / f"{n}.mp4", start=0.1, end=0.6) for n in EVERY]
    write_manifest(clips, folder / "cut.jsonl")
    given = [folder / "cut.jsonl"]
    (shortcuts,) = read_recordings(inputs_of(folder), EVERY, given).features["shortcuts"]
    assert shortcuts[:, 0] == pytest.approx([0.5] * 6)


def test_flow_is_where_and_how_the_square_moves(folder):
    pytest.importorskip("cv2")
    (flow,) = read_recordings(inputs_of(folder), EVERY, [folder]).features["optical_flow"]
    assert flow.shape == (6, 3, CELLS, CELLS, 3)
    first = flow[0, 0]  # frames 0 and 2: 4 pixels of 96, which are 256 when flow is measured
    inside, outside = first[7:9, 3:4].mean((0, 1)), first[0:2].mean((0, 1))
    assert inside[0] == pytest.approx(4 * 256 / 96, rel=0.2)
    assert abs(inside[1]) < 1
    assert inside[2] == pytest.approx(inside[0], rel=0.1)
    assert np.abs(outside).max() < 0.5


def test_each_way_of_sampling_counts_once(folder):
    pytest.importorskip("cv2")
    both = inputs_of(folder, samplings=({"frames": 4}, {"frames": 4}, {"frames": 3}))
    found = read_recordings(both, EVERY, [folder])
    assert [flow.shape[1] for flow in found.features["optical_flow"]] == [3, 2]
    assert len(found.features["shortcuts"]) == 1


def test_without_opencv_the_sentence_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    found = read_recordings(inputs_of(folder), EVERY, [folder])
    assert found.features["optical_flow"] == []
    assert len(found.features["shortcuts"]) == 1
    assert found.missing == {
        "optical_flow": "OpenCV is not installed: pip install 'heliograph[flow]'"
    }


def _gone(path: Path) -> None:
    path.unlink()


def _changed(path: Path) -> None:
    make_video(path, 17)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [(_gone, "4.mp4: no video of it was found"), (_changed, "4.mp4 is not the video that 4.mp4")],
)
def test_a_video_that_is_not_there_leaves_them_out(folder, harm, reason):
    inputs = inputs_of(folder)
    harm(folder / "4.mp4")
    found = read_recordings(inputs, EVERY, [folder])
    assert found.features == {"optical_flow": [], "shortcuts": []}
    for sentence in found.missing.values():
        assert sentence.startswith("1 of 6 clips cannot be read from their videos")
        assert reason in sentence
    others = np.array([0, 1, 2, 3, 5])  # where the clip is in no split, it may be gone
    assert read_recordings(inputs, others, [folder]).features["shortcuts"]


def test_a_video_that_cannot_be_read_leaves_them_out(folder):
    (folder / "2.mp4").write_bytes(b"no video")
    found = read_recordings(inputs_of(folder), EVERY, [folder / "manifest.jsonl"])
    assert "2.mp4" in found.missing["shortcuts"]
    assert "\n" not in found.missing["shortcuts"]


def test_the_command_decodes_the_videos_where_they_were(tmp_path, monkeypatch):
    """Objects are as heavy as their videos are long, which features of noise do not know."""
    pytest.importorskip("cv2")
    names = [f"o{n // 2:02d}/{n % 2}.mp4" for n in range(CLIPS)]
    clips = [
        Clip(id=name, path=make_video(tmp_path / "clips" / name, n // 2, speed=1))
        for n, name in enumerate(names)
    ]
    features = Features(
        features=np.random.default_rng(0).normal(size=(CLIPS, 4, 6)).astype(np.float32),
        clip_id=names, object=[name[:3] for name in names], scenario=[""] * CLIPS,
        labels={"mass": np.arange(CLIPS) // 2 + 1.0}, fingerprint={}, sampler={"frames": 3},
        source_sha256=[sha256_file(clip.path) for clip in clips],
    )  # fmt: skip
    cache.save(features, tmp_path / "c.h5")
    lines = [f'{{"clip": "{c.id}", "path": "{c.path}", "outcome": "done"}}\n' for c in clips]
    ledger_path(tmp_path / "c.h5").write_text("".join(lines))
    folder = train(tmp_path / "c.h5", tmp_path / "run", seeds=range(2), epochs=2).folder
    module = sys.modules[evaluate.__module__]
    monkeypatch.setattr(module, "PARTS", module.PARTS[:1])  # the baselines alone
    found = evaluate(folder, permutations=10, videos=())
    assert found.baselines["shortcuts"].mean > 0.9
    assert found.baselines["optical_flow"] is not None
    names = list(found.baselines)
    assert names.index("optical_flow") < names.index("shortcuts") < names.index("ridge")
    without = evaluate(folder, permutations=10)
    assert without.baselines == found.baselines  # what was found stays
    (tmp_path / "clips").rename(tmp_path / "moved")
    gone = evaluate(folder, permutations=10, videos=())
    assert gone.baselines["shortcuts"] is None
    assert "20 of 20 clips cannot be read" in gone.missing_baselines["shortcuts"]
    assert evaluate(folder, permutations=10).missing_baselines == gone.missing_baselines
    words = ("evaluate", folder, "--permutations", 10)
    shown = run(*words, "--videos", "--clips", tmp_path / "moved")
    assert shown.exit_code == 0, shown.stderr
    assert "baseline: shortcuts" in shown.stdout
    wrong = run(*words, "--clips", tmp_path / "moved")
    assert wrong.exit_code == 2
    assert "--videos" in wrong.stderr


def test_a_renamed_file_is_found_by_its_bytes(folder):
    inputs = inputs_of(folder)
    for n in EVERY:
        (folder / f"{n}.mp4").rename(folder / f"renamed{n}.mp4")
    (folder / "manifest.jsonl").unlink()
    (shortcuts,) = read_recordings(inputs, EVERY, [folder]).features["shortcuts"]
    assert shortcuts[:, 1].tolist() == [10 + n for n in EVERY]
    cut = [Clip(id=f"cut{n}.mp4", path=folder / f"renamed{n}.mp4", start=0.1) for n in EVERY]
    write_manifest(cut, folder / "cut.jsonl")  # a stretch of the file is another clip
    assert not read_recordings(inputs, EVERY, [folder / "cut.jsonl"]).features["shortcuts"]


def test_what_is_missing_is_named_and_clips_is_not_advised_again(folder, tmp_path):
    inputs = inputs_of(folder)
    for n in range(4):
        (folder / f"{n}.mp4").unlink()
    sentence = read_recordings(inputs, EVERY, [folder]).missing["shortcuts"]
    assert sentence == (
        "4 of 6 clips cannot be read from their videos (0.mp4: no video of it was found; "
        "1.mp4: no video of it was found; 2.mp4: no video of it was found; and 1 more)"
    )
    (tmp_path / "others").mkdir()
    make_video(tmp_path / "others" / "x.mp4", 9)
    sentence = read_recordings(inputs, EVERY, [tmp_path / "others"]).missing["shortcuts"]
    assert sentence.endswith(
        f"nothing in {tmp_path / 'others'} is a clip of the run, by its id or by its bytes"
    )
    assert read_recordings(inputs, EVERY, []).missing["shortcuts"].endswith("with --clips")
