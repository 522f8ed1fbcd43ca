"""The backbone without a network: a frame is its thumbnail."""

import numpy as np
import pytest
import torch

import backbones
from backbones import BackboneValueError
from data import cache
from data.video import Sampling
from pipeline.experiments.recipe import AgentView
from pipeline.experiments.views import ViewFeatures
from pipeline.extraction.thumbnails import thumbnails_of
from tests.helpers.command import run
from tests.helpers.films import make_film


def some_pixels(clips: int, frames: int) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (clips, frames, 3, 224, 224), dtype=np.uint8))


def test_a_frame_is_its_thumbnail():
    pixels = some_pixels(2, 3)
    found = backbones.load("pixels", device="cpu").forward(pixels)
    assert found.shape == (2, 3, 256)
    for clip, features in zip(pixels, found.numpy(), strict=True):
        thumbnails = thumbnails_of(clip.numpy()).reshape(3, 256)
        assert np.abs(features * 255 - thumbnails).max() < 0.51  # they are rounded


def test_motion_is_of_pixels_and_a_grid_of_16_is_the_frame():
    pixels = some_pixels(1, 3)
    frames = backbones.load("pixels", device="cpu").forward(pixels)
    both = backbones.load("pixels", device="cpu", output="grid16+motion16").forward(pixels)
    assert torch.equal(both[..., :256], frames[:, 1:])
    assert torch.equal(both[..., 256:], (frames[:, 1:] - frames[:, :-1]).abs())
    coarse = backbones.load("pixels", device="cpu", output="grid1").forward(pixels)
    torch.testing.assert_close(coarse[..., 0], frames.mean(-1))


def test_bits_do_not_depend_on_the_batch():
    pixels, model = some_pixels(5, 2), backbones.load("pixels", device="cpu")
    together = model.forward(pixels)
    assert torch.equal(together, torch.cat([model.forward(clip[None]) for clip in pixels]))


@pytest.mark.parametrize("weights", ["random", "some.pth"])
def test_weights_are_refused(weights):
    with pytest.raises(BackboneValueError, match="pixels is no network: it takes no weights"):
        backbones.load("pixels", device="cpu", weights=weights)


def test_it_is_an_eye_of_a_recipe():
    eye = ViewFeatures.of(AgentView(name="eye", backbone="pixels", pool="motion8", frames=9), None)
    assert (eye.name, eye.steps, eye.sampling) == ("pixels-motion8-8steps", 8, Sampling(frames=9))
    assert eye.load(device="cpu", hub_dir=None).dim == 64


def test_a_cache_of_pixels_holds_its_thumbnails(tmp_path):
    make_film(tmp_path / "film.mp4", 1)
    words = ("extract", tmp_path / "film.mp4", "-o", tmp_path / "p.h5", "--backbone", "pixels")
    shown = run(*words, "--frames", 4)
    assert shown.exit_code == 0, shown.output
    found = cache.load(tmp_path / "p.h5")
    thumbnails = np.asarray(found.thumbnails).reshape(1, 4, 256)
    assert np.abs(np.asarray(found.features) * 255.0 - thumbnails).max() < 0.7  # of float16
    again = run("cache", "verify", tmp_path / "p.h5")
    assert again.exit_code == 0
    assert "pixels" in run("backbones").stdout
