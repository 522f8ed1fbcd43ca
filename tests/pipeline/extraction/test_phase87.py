"""The paper's feature files, rebuilt from a small tree in Physics 101's layout."""

import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import backbones
from backbones import Backbone, LoadOptions, dinov2, hub, vjepa2
from data.errors import HeliographError
from data.interchange import import_pt, read_pt, write_pt
from data.simulate import simulate
from data.video import Sampling, read_sampled
from pipeline.extraction import compare_feature_files
from tests.helpers.authors_code import authors_code
from tests.helpers.command import run
from tests.helpers.paper_files import make_paper_features
from tests.helpers.tiny_backbone import TINY_ENTRY, TINY_PREPROCESS

OBJECTS = {"wood_02": ("01", "02"), "cardboard_01": ("01",), "foam-1": ("01",)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips of the simulated spring, a second each."""
    folder = tmp_path_factory.mktemp("made") / "clips"
    simulate("spring", folder, grid=2, per_cell=1, size=64, seconds=1.0, workers=1)
    return folder


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A tree in the layout of Physics 101."""
    tree = tmp_path / "phys101"
    videos = iter(sorted(made.rglob("*.mp4")))
    for name, trials in OBJECTS.items():
        for trial in trials:
            folder = tree / "scenarios" / "spring" / name / trial
            folder.mkdir(parents=True)
            shutil.copy(next(videos), folder / "Camera_1.mp4")
    (tree / "objects").mkdir()
    (tree / "objects" / "mass").write_text("wood_02 12.5\ncardboard_01 7\n")
    (tree / "objects" / "vol").write_text("wood_02 25\n")
    return tree


ORDER = ["cardboard_01", "foam-1", "wood_02", "wood_02"]


def assert_like_the_papers(path: Path, shape: tuple[int, ...]) -> dict:
    """Keys, their order and types are those of the published file."""
    found = torch.load(path, weights_only=False)
    assert list(found) == ["features", "obj_names", "mass_values", "scenario"]
    assert found["features"].dtype == torch.float16
    assert tuple(found["features"].shape) == shape
    assert type(found["obj_names"]) is list
    assert found["obj_names"] == ORDER
    assert type(found["mass_values"]) is np.ndarray
    assert found["mass_values"].dtype == np.float64
    assert found["scenario"] == "spring"
    return found


def test_the_file_has_the_papers_keys_types_and_order(root, tmp_path, tiny):
    out = tmp_path / "spring.pt"
    shown = run("phase87", root, "-o", out, "--backbone", "tiny", "--json")
    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["done"] == 4
    found = assert_like_the_papers(out, (4, 8, 5))
    assert found["mass_values"].tolist() == [7.0, 0.0, 12.5, 12.5]
    assert "no mass is known of foam-1: written as 0.0, as in the paper" in shown.stderr
    assert math.isnan(import_pt(out).labels["mass"][1])

    model = tiny(preprocess="paper", precision="fp32")
    clip = root / "scenarios/spring/wood_02/02/Camera_1.mp4"
    batch, _ = read_sampled(clip, Sampling(name="published", frames=16, pad=True))
    expected = model.forward(model.preprocess(batch.frames)[None])[0].half()
    assert torch.equal(found["features"][3], expected)


def test_the_keys_are_those_of_the_published_file(root, tmp_path, tiny, shared):
    out = tmp_path / "spring.pt"
    run("phase87", root, "-o", out, "--backbone", "tiny")
    theirs = read_pt(shared / "data" / "phase87_phys101_spring_features.pt")
    ours = read_pt(out)
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        assert type(ours[name]) is type(value)
        assert getattr(ours[name], "dtype", None) == getattr(value, "dtype", None)


def test_a_second_run_goes_on_where_the_first_stopped(root, tmp_path, tiny):
    out = tmp_path / "spring.pt"
    run("phase87", root, "-o", out, "--backbone", "tiny")
    before = read_pt(out)
    out.unlink()
    shown = run("phase87", root, "-o", out, "--backbone", "tiny", "--json")
    assert (json.loads(shown.stdout)["done"], json.loads(shown.stdout)["kept"]) == (0, 4)
    assert torch.equal(read_pt(out)["features"], before["features"])


def test_a_file_that_is_not_of_the_cache_next_to_it_is_not_replaced(root, tmp_path, tiny):
    out = tmp_path / "spring.pt"
    words = ["phase87", root, "-o", out, "--backbone", "tiny"]
    film = root / "scenarios/spring/wood_02/01/Camera_1.mp4"
    film.rename(tmp_path / "film.mp4")
    film.write_text("no film")
    assert run(*words).exit_code == 3
    os.replace(tmp_path / "film.mp4", film)
    assert run(*words).exit_code == 0  # goes on, and writes its own file anew
    assert read_pt(out)["obj_names"] == ORDER

    make_paper_features(out)
    foreign = out.read_bytes()
    refused = run(*words)
    assert refused.exit_code == 1
    assert f"{out} exists, and is something else" in refused.stderr
    assert out.read_bytes() == foreign
    assert run(*words, "--overwrite").exit_code == 0
    assert read_pt(out)["obj_names"] == ORDER
    out.with_suffix(".h5").unlink()
    assert run(*words).exit_code == 1


def test_a_clip_that_cannot_be_read_is_left_out_and_named(root, tmp_path, tiny):
    (root / "scenarios/spring/wood_02/01/Camera_1.mp4").write_text("no film")
    out = tmp_path / "spring.pt"
    shown = run("phase87", root, "-o", out, "--backbone", "tiny")
    assert shown.exit_code == 3
    assert "failed: scenarios/spring/wood_02/01/Camera_1.mp4: " in shown.stderr
    assert read_pt(out)["obj_names"] == ["cardboard_01", "foam-1", "wood_02"]


def test_the_static_file_is_of_the_middle_frame(root, tmp_path, small_dinov2):
    out = tmp_path / "static.pt"
    shown = run("phase87", root, "-o", out, "--static", *small_dinov2)
    assert shown.exit_code == 0, shown.stderr
    found = torch.load(out, weights_only=False)
    assert list(found) == ["features", "obj_names"]
    assert (tuple(found["features"].shape), found["features"].dtype) == ((4, 384), torch.float32)
    weights, folder = small_dinov2[1], small_dinov2[3]
    model = backbones.load(
        "dinov2_vits14", device="cpu", weights=weights, hub_dir=folder, preprocess="paper"
    )
    clip = root / "scenarios/spring/foam-1/01/Camera_1.mp4"
    batch, info = read_sampled(clip, Sampling(name="middle", frames=1))
    assert batch.index.tolist() == [info.shown_frames // 2]
    expected = model.forward(model.preprocess(batch.frames)[None])[0, 0]
    assert torch.equal(found["features"][1], expected)


def test_a_static_file_is_of_the_middle_frame_with_any_backbone_of_frames(
    root, tmp_path, mean_colour
):
    out = tmp_path / "static.pt"
    shown = run("phase87", root, "-o", out, "--static", "--backbone", "mean_colour")
    assert shown.exit_code == 0, shown.stderr
    found = torch.load(out, weights_only=False)
    assert list(found) == ["features", "obj_names"]
    assert (tuple(found["features"].shape), found["features"].dtype) == ((4, 3), torch.float32)
    model = backbones.load("mean_colour", device="cpu")
    clip = root / "scenarios/spring/foam-1/01/Camera_1.mp4"
    batch, info = read_sampled(clip, Sampling(name="middle", frames=1))
    assert batch.index.tolist() == [info.shown_frames // 2]
    expected = model.forward(model.preprocess(batch.frames)[None])[0, 0]
    assert torch.equal(found["features"][1], expected)


def test_another_backbone_gives_what_the_card_says_the_file_is(root, tmp_path, small_dinov2):
    out = tmp_path / "spring.pt"
    shown = run("phase87", root, "-o", out, "--backbone", "dinov2_vits14", *small_dinov2)
    assert shown.exit_code == 0, shown.stderr
    assert_like_the_papers(out, (4, 8, 384))


@pytest.mark.slow
def test_vjepa2_through_the_path_of_the_real_weights(root, tmp_path, small_vjepa2):
    out = tmp_path / "spring.pt"
    shown = run("phase87", root, "-o", out, *small_vjepa2)
    assert shown.exit_code == 0, shown.stderr
    found = assert_like_the_papers(out, (4, 8, 1024))
    assert len(np.unique(found["features"].numpy().astype(np.float32).mean((1, 2)))) == 4


def test_without_weights_one_sentence_says_what_to_download(root, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a, **k: None)
    shown = run("phase87", root, "-o", tmp_path / "spring.pt")
    assert shown.exit_code == 1
    *unmatched, sentence = shown.stderr.strip().splitlines()
    assert all("has no line for the object" in line for line in unmatched)
    for part in (vjepa2.PUBLISHED.url, vjepa2.PUBLISHED.sha256, "--weights"):
        assert part in sentence


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["gone", "-o", "x.pt"], 1, "gone is no folder, and so is not a Physics 101 tree"),
        (
            ["gone", "-o", "x.pt", "--scenario", "all"],
            2,
            "no scenario 'all': a file holds one of fall, ramp, spring",
        ),
        (["gone"], 2, "name a ROOT and a file with --out, or two files with --compare"),
        (["gone", "--compare", "a.pt", "b.pt"], 2, "--compare takes two files and no ROOT"),
        (["gone", "-o", "x.pt", "--static", "--frames", "2"], 2, "it takes no --frames"),
        (["--compare", "gone.pt", "b.pt"], 1, "gone.pt"),
    ],
)
def test_wrong_input_gets_a_sentence(words, code, sentence):
    shown = run("phase87", *words)
    assert shown.exit_code == code
    assert sentence in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_file_of_another_kind_is_refused(root, tiny, tmp_path):
    shown = run("phase87", root, "-o", tmp_path / "spring.h5", "--backbone", "tiny")
    assert (shown.exit_code, "the paper's files end in .pt" in shown.stderr) == (1, True)
    shown = run("phase87", root, "-o", tmp_path / "s.pt", "--static", "--backbone", "tiny")
    assert "tiny takes 2 frames a step, and the static file is of single frames" in shown.stderr


class TestCompare:
    def write(self, path: Path, **changes: object) -> Path:
        rng = np.random.default_rng(0)
        content = {
            "features": torch.from_numpy(rng.normal(size=(4, 2, 3)).astype(np.float16)),
            "obj_names": ORDER,
            "mass_values": np.array([7.0, 1.0, 12.5, 12.5]),
            "scenario": "spring",
        }
        write_pt(content | changes, path)
        return path

    def test_a_file_and_itself(self, tmp_path):
        path = self.write(tmp_path / "a.pt")
        found = compare_feature_files(path, path)
        assert (found.clips, found.differences, found.equal) == ((4, 4), [], 4)
        assert list(found.cosine) == [
            "cardboard_01/000",
            "foam-1/000",
            "wood_02/000",
            "wood_02/001",
        ]
        assert min(found.cosine.values()) > 1 - 1e-12
        shown = run("phase87", "--compare", path, path)
        assert "4 clips in both, 4 equal; cosine smallest 1.000000" in shown.stdout
        assert "nothing else differs" in shown.stdout

    def test_the_clip_that_differs_is_named_with_its_cosine(self, tmp_path):
        left = self.write(tmp_path / "a.pt")
        features = read_pt(left)["features"].clone()
        features[2] = -features[2]
        right = self.write(tmp_path / "b.pt", features=features)
        found = compare_feature_files(left, right)
        assert found.equal == 3
        assert found.cosine["wood_02/000"] == pytest.approx(-1)
        printed = json.loads(run("phase87", "--compare", left, right, "--json").stdout)
        assert printed["cosine"]["smallest"] == pytest.approx(-1)

    def test_clips_are_matched_by_object_and_number(self, tmp_path):
        left = self.write(tmp_path / "a.pt")
        content = read_pt(left)
        order = [3, 1, 0]
        right = self.write(
            tmp_path / "b.pt",
            features=content["features"][[2, 1, 0]],
            obj_names=[ORDER[row] for row in order],
            mass_values=np.array([12.5, 2.0, 7.0]),
            scenario="fall",
        )
        found = compare_feature_files(left, right)
        assert found.equal == 3
        assert found.differences == [
            "features: Tensor float16 (4, 2, 3) against Tensor float16 (3, 2, 3)",
            "obj_names: list of 4 against list of 3",
            "mass_values: ndarray float64 (4,) against ndarray float64 (3,)",
            "scenario: 'spring' against 'fall'",
            f"1 clip only in {left}: wood_02/001",
            "mass_values of 1 clip: foam-1/000",
        ]

    def test_other_shapes_have_no_cosine(self, tmp_path):
        moving = self.write(tmp_path / "moving.pt")
        static = tmp_path / "static.pt"
        write_pt({"features": torch.zeros(4, 6), "obj_names": ORDER}, static)
        found = compare_feature_files(moving, static)
        assert (dict(found.cosine), found.equal) == ({}, 0)
        assert found.to_json()["cosine"] is None
        assert found.differences == [
            "keys: features, obj_names, mass_values, scenario against features, obj_names",
            "features: Tensor float16 (4, 2, 3) against Tensor float32 (4, 6)",
        ]

    def test_the_papers_two_files_have_other_shapes(self, shared):
        names = ("features", "static")
        paths = [shared / "data" / f"phase87_phys101_spring_{name}.pt" for name in names]
        shown = run("phase87", "--compare", *paths)
        assert shown.exit_code == 0
        assert "keys: features, obj_names, mass_values, scenario against features, obj_names" in (
            shown.stdout
        )
        assert "Tensor float16 (206, 8, 1024) against Tensor float32 (206, 384)" in shown.stdout

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"features": None}, "features is object"),
            ({"features": 3.0}, r"features is float64 \(\)"),
            ({"features": torch.tensor(1.0)}, r"features is float32 \(\)"),
            ({"features": torch.zeros(2, 3).to(torch.float8_e4m3fn)}, "is refused"),
            ({"obj_names": None}, "obj_names is not a list of text"),
            ({"obj_names": [1, 2]}, "obj_names is not a list of text"),
            ({"obj_names": ["a"]}, "1 obj_names for 2 clips"),
            ({"mass_values": 3}, r"mass_values is int64 \(\)"),
            ({"mass_values": ["", "x"]}, "mass_values is <U1"),
            ({"mass_values": [[1, 2], [3, 4]]}, "mass_values is int64"),
            ({"mass_values": [1.0]}, "2 obj_names for 1 mass_values"),
            ({"mass_values": {"a": 1}}, "mass_values is object"),
        ],
    )
    def test_entries_of_other_types_are_named(self, tmp_path, changes, reason):
        content = {"features": torch.zeros(2, 3), "obj_names": ["a", "b"], "mass_values": [1, 2]}
        left, right = tmp_path / "left.pt", tmp_path / "right.pt"
        write_pt(content, left)
        write_pt(content | changes, right)
        with pytest.raises(HeliographError, match=reason) as error:
            compare_feature_files(left, right)
        assert str(right) in str(error.value)

    def test_tensors_that_are_views_and_of_short_floats_are_compared(self, tmp_path):
        content = {"features": torch.ones(2, 3), "obj_names": ["a", "b"], "mass_values": [1, 2]}
        write_pt(content, tmp_path / "left.pt")
        for ones in (torch.ones(2, 3).bfloat16(), (-torch.ones(2, 3, dtype=torch.complex64)).imag):
            write_pt(content | {"features": ones}, tmp_path / "right.pt")
            compare_feature_files(tmp_path / "left.pt", tmp_path / "right.pt")

    def test_a_file_that_is_not_one_of_the_papers(self, tmp_path):
        write_pt({"a": 1}, tmp_path / "a.pt")
        shown = run("phase87", "--compare", tmp_path / "a.pt", tmp_path / "a.pt")
        assert shown.exit_code == 1
        assert "a.pt has no 'features': it is not one of the paper's files" in shown.stderr


def small(
    monkeypatch: pytest.MonkeyPatch, repository: hub.Repository, entry: str, path: Path
) -> list[object]:
    """Cuts a model of the authors' code to two blocks, and saves random weights for it."""
    folder, real = authors_code(repository), hub.load

    def two_blocks(*arguments: object, **options: object) -> tuple:
        model, revision = real(*arguments, **options)
        encoder = model[0] if isinstance(model, tuple) else model
        encoder.blocks = encoder.blocks[:2]
        return model, revision

    monkeypatch.setattr(hub, "load", two_blocks)
    model, _ = hub.load(repository, entry, hub_dir=folder)
    encoder = model[0] if isinstance(model, tuple) else model
    generator = torch.Generator().manual_seed(0)
    state = {
        name: torch.randn(value.shape, generator=generator) / max(1, value.shape[-1]) ** 0.5
        for name, value in encoder.state_dict().items()
    }
    torch.save({"encoder": state} if isinstance(model, tuple) else state, path)
    return ["--weights", path, "--hub-dir", folder]


@pytest.fixture
def mean_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backbone of single frames, registered as `mean_colour`."""

    def build(options: LoadOptions) -> Backbone:
        return Backbone(
            name="mean_colour",
            dim=3,
            model=torch.nn.Identity(),
            encode=lambda pixels: pixels.mean((3, 4)),  # (B, T, 3, h, w) -> (B, T, 3)
            preprocess=TINY_PREPROCESS,
            options=options,
            source="tests",
            revision="1",
            weights_sha256="none",
            output="mean",
        )

    entry = replace(TINY_ENTRY, name="mean_colour", dim=3, frames_per_step=1, build=build)
    monkeypatch.setitem(backbones.BACKBONES, "mean_colour", entry)


@pytest.fixture
def small_dinov2(monkeypatch, tmp_path):
    """Options that load a small random DINOv2 of the authors' code."""
    return small(monkeypatch, dinov2.REPOSITORY, "dinov2_vits14", tmp_path / "dinov2.pt")


@pytest.fixture
def small_vjepa2(monkeypatch, tmp_path):
    """Options that load a small random V-JEPA 2 of the authors' code."""
    pytest.importorskip("einops")
    return small(monkeypatch, vjepa2.REPOSITORY, "vjepa2_vit_large", tmp_path / "vjepa2.pt")


def test_a_backbone_without_the_papers_preprocessing_takes_its_own_and_says_so(root, tmp_path):
    out = tmp_path / "spring.pt"
    shown = run("phase87", root, "-o", out, "--backbone", "pixels")
    assert shown.exit_code == 0, shown.stderr
    assert "pixels, preprocessing: official" in shown.stderr
    assert_like_the_papers(out, (4, 8, 256))
