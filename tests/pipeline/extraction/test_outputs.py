"""`--pool` in the commands: what an output with fewer steps than frames does in each of them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import backbones
from data import cache
from data.clips import Clip
from data.errors import HeliographError
from data.manifests import write_manifest
from data.video import Sampling, read_sampled
from pipeline.extraction import load_settings
from tests.helpers.command import run

pytestmark = pytest.mark.usefixtures("mapped")
MAPPED = ("--backbone", "mapped", "--device", "cpu")


@pytest.fixture
def manifest(folder: Path, tmp_path: Path) -> Path:
    """Six films, each an object of its own with a mass."""
    films = Path(shutil.copytree(folder, tmp_path / "films"))
    clips = [
        Clip(id=f"{n}", path=films / f"{n}.mp4", object=f"o{n}", labels={"mass": n})
        for n in range(6)
    ]
    path = films / "clips.jsonl"
    write_manifest(clips, path)
    return path


def extract(manifest: Path, out: Path, *words: object) -> cache.Features:
    shown = run("extract", manifest, "-o", out, *MAPPED, *words)
    assert shown.exit_code == 0, shown.stderr
    return cache.load(out)


def test_the_cache_has_all_frames_and_one_step_fewer(manifest: Path, tmp_path: Path) -> None:
    features = extract(manifest, tmp_path / "c.h5", "--frames", 8, "--pool", "grid2+motion")
    assert features.features.shape == (6, 3, 15)
    assert features.frame_index.shape == features.pts_seconds.shape == (6, 8)
    model = backbones.load("mapped", device="cpu", output="grid2+motion1")
    assert features.fingerprint == model.fingerprint
    assert features.fingerprint["frames_spanned"] == 4
    info = json.loads(run("cache", "info", tmp_path / "c.h5", "--json").stdout)
    assert (info["steps"], info["dimensions"]) == (3, 15)
    assert "grid2+motion1" in info["origin"]
    # Step t is of the frames from t * frames_per_step on, as many as it spans.
    steps = [model.preprocess(_frames(manifest, features, step)) for step in range(3)]
    alone = np.stack([model.forward(pixels[None])[0, 0].numpy() for pixels in steps])
    np.testing.assert_allclose(features.features[0], alone, rtol=2e-3, atol=1e-4)


def _frames(manifest: Path, features: cache.Features, step: int) -> np.ndarray:
    """Return the four frames of a step of the first clip, decoded anew."""
    frames, _ = read_sampled(manifest.parent / "0.mp4", Sampling(frames=8))
    assert frames.index.tolist() == features.frame_index[0].tolist()
    return frames.frames[2 * step : 2 * step + 4]


def test_an_extraction_goes_on_only_with_the_same_output(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.h5"
    first = extract(manifest, out, "--frames", 4, "--pool", "motion")
    again = run("extract", manifest, "-o", out, *MAPPED, "--frames", 4, "--pool", "motion1")
    assert again.exit_code == 0
    assert "6 kept" in again.stderr or "0 clips extracted" in again.stderr
    assert cache.load(out).content_sha256 == first.content_sha256
    for words in (["--pool", "motion2"], ["--pool", "mean"], []):
        refused = run("extract", manifest, "-o", out, *MAPPED, "--frames", 4, *words)
        assert refused.exit_code == 1
        assert "was made with --pool 'motion1', and this run has" in refused.stderr
    words = ("--frames", 4, "--pool", "motion", "--dtype", "float32")
    other = run("extract", manifest, "-o", out, *MAPPED, *words)
    assert "has float16 (1, 3); go on with --dtype float16" in other.stderr


def test_a_damaged_clip_is_repaired_to_the_bit(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.h5"
    whole = extract(manifest, out, "--frames", 8, "--pool", "motion2")
    data = bytearray(out.read_bytes())
    data[data.find(whole.features[3].tobytes()) + 1] ^= 4
    out.write_bytes(data)
    shown = run("cache", "verify", out, "--repair", "--device", "cpu")
    assert shown.exit_code == 0, shown.stderr
    assert "1 clip extracted" in shown.stderr
    assert cache.load(out).content_sha256 == whole.content_sha256


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--frames", 2, "--pool", "motion"], "needs at least 4 frames, and there are 2"),
        (["--frames", 8, "--pool", "grid29"], "28 x 28 places: take grid1 to grid28"),
        (["--frames", 8, "--pool", "cls"], "no output 'cls': choose one of mean, gridN, mo"),
    ],
)
def test_an_impossible_output_is_refused(
    words: list[object], sentence: str, manifest: Path, tmp_path: Path
) -> None:
    shown = run("extract", manifest, "-o", tmp_path / "c.h5", *MAPPED, *words)
    assert shown.exit_code == 2
    assert sentence in shown.stderr
    assert not (tmp_path / "c.h5").exists()


def test_a_run_on_differences_speaks_of_new_videos(manifest: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    for line in list(lines):  # twelve objects are needed; the features of two are alike
        copy = {"id": f"{line['id']} b", "path": f"b{line['path']}", "object": f"b{line['object']}"}
        film = (manifest.parent / line["path"]).read_bytes()
        (manifest.parent / copy["path"]).write_bytes(film + b"\0\0\0\x08free")
        lines.append(line | copy)
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    extract(manifest, tmp_path / "c.h5", "--frames", 8, "--pool", "motion2+mean")
    words = ["--property", "mass", "--seeds", 1, "--epochs", 1, "--agents", 2]
    trained = run(
        "train",
        tmp_path / "c.h5",
        "-o",
        tmp_path / "run",
        *words,
        "--device",
        "cpu",
        "--allow-leaks",
    )
    assert trained.exit_code == 0, trained.stderr
    said = run("message", tmp_path / "run", manifest.parent / "0.mp4", "--json", "--device", "cpu")
    assert said.exit_code == 0, said.stderr
    stored = [json.loads(line) for line in (tmp_path / "run" / "messages.jsonl").open()]
    assert json.loads(said.stdout)["message"] == stored[0]["message"]


def test_a_declared_output_is_checked_and_made_again(manifest: Path, tmp_path: Path) -> None:
    made = extract(manifest, tmp_path / "c.h5", "--frames", 8, "--pool", "motion2", "--pad")
    with open(tmp_path / "c.h5", "r+b") as file:
        file.write(bytes(512))  # without a seal it is a file of another program
    words = ["import", tmp_path / "c.h5", "-o", tmp_path / "new.h5", "--backbone", "mapped"]
    refused = run("cache", *words, "--frames", 8)
    assert refused.exit_code == 2
    assert "mapped gives 3 numbers a step, and these features have 12" in refused.stderr
    refused = run("cache", *words, "--frames", 6, "--pool", "motion2")
    assert "mapped gives 2 steps of 6 frames, and these features have 3" in refused.stderr
    taken = run("cache", *words, "--frames", 8, "--pool", "motion2")
    assert taken.exit_code == 0, taken.stderr
    imported = cache.load(tmp_path / "new.h5")
    assert imported.fingerprint["output"] == "motion2"
    assert np.array_equal(imported.features, made.features)
    info = json.loads(run("cache", "info", tmp_path / "new.h5", "--json").stdout)
    assert "mapped, output motion2, 8 frames, in its file mapped, as declared" in info["origin"]
    alone = run("cache", *words[:4], "--pool", "motion2")
    assert alone.exit_code == 2
    assert "name it in --backbone" in alone.stderr


def test_the_list_of_backbones_has_their_outputs() -> None:
    lines = run("backbones").stdout.splitlines()
    assert "mapped --pool: mean, gridN, motionN (N up to 28), sums" in lines


def test_the_papers_file_takes_as_many_frames_as_eight_steps_are_of() -> None:
    settings = load_settings(backbone="mapped", output="motion2", device="cpu")
    assert settings.sampling.frames == 18
    assert settings.backbone.output.name == "motion2"
    with pytest.raises(HeliographError, match="mapped takes 4 frames a step, and the static file"):
        load_settings(backbone="mapped", output="motion2", device="cpu", static=True)
