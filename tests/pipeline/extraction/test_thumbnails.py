"""Thumbnails: exact means of the pixels that the backbone saw, and kept by extraction."""

import numpy as np
import pytest
import torch

import backbones
from data import cache
from data.video import Sampling, read_sampled
from pipeline.extraction import extract
from pipeline.extraction.thumbnails import SIDE, thumbnails_of
from tests.helpers.command import run
from tests.helpers.films import make_film

SAMPLING = Sampling(frames=4)


def by_enlarging(pixels: np.ndarray) -> np.ndarray:
    """The definition: each pixel cut into 16 x 16 equal pieces, of which every cell is made."""
    whole = pixels.astype(np.int64)
    grey = 299 * whole[:, 0] + 587 * whole[:, 1] + 114 * whole[:, 2]
    frames, height, width = grey.shape
    pieces = grey.repeat(SIDE, axis=1).repeat(SIDE, axis=2)
    cells = pieces.reshape(frames, SIDE, height, SIDE, width).sum(axis=(2, 4))
    area = 1000 * height * width
    return ((2 * cells + area) // (2 * area)).astype(np.uint8)


@pytest.mark.parametrize("shape", [(224, 224), (32, 48), (37, 20), (28, 28), (5, 9), (16, 16)])
def test_cells_are_exact_means_also_where_they_cut_pixels(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, *shape), np.uint8)
    assert np.array_equal(thumbnails_of(pixels), by_enlarging(pixels))


@pytest.mark.parametrize("height", [32, 4112, 4113])
def test_the_brightest_frames_do_not_overflow(height):
    assert (thumbnails_of(np.full((1, 3, height, 16), 255, np.uint8)) == 255).all()


def test_extraction_keeps_those_of_the_pixels_that_the_backbone_saw(clips, tmp_path, tiny):
    model = tiny()
    extract(clips, tmp_path / "c.h5", backbone=model, sampling=SAMPLING)
    found = cache.load(tmp_path / "c.h5")
    assert found.has_thumbnails.all()
    for clip, thumbnails in zip(clips, found.thumbnails, strict=True):
        batch, _ = read_sampled(clip.path, SAMPLING)
        pixels = model.preprocess(batch.frames).numpy()
        assert np.array_equal(thumbnails, by_enlarging(pixels))
    assert cache.info(tmp_path / "c.h5")["thumbnails"] == 6


def test_a_cache_from_before_goes_on_and_its_own_clips_have_none(clips, tmp_path, tiny):
    whole, target = tmp_path / "whole.h5", tmp_path / "c.h5"
    extract(clips, whole, backbone=tiny(), sampling=SAMPLING)
    full = cache.load(whole)
    older = full.select([0, 1, 2])
    cache.save(without_any(older), target)
    again = extract(clips, target, backbone=tiny(), sampling=SAMPLING)
    found = cache.load(target)
    assert (again.kept, again.done) == (3, 3)
    assert found.has_thumbnails.tolist() == [False] * 3 + [True] * 3
    assert np.array_equal(found.thumbnails[3:], full.thumbnails[3:])
    assert np.array_equal(found.features, full.features)
    assert cache.verify(target) == []
    before = target.read_bytes()
    extract(clips, target, backbone=tiny(), sampling=SAMPLING)
    assert target.read_bytes() == before


def without_any(features: cache.Features) -> cache.Features:
    columns = {name: getattr(features, name) for name in features.__dataclass_fields__}
    return cache.Features(**columns | {"thumbnails": np.empty((0, 0, 0, 0), np.uint8)})


def test_a_frame_of_the_backbone_pixels_is_its_thumbnail():
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (2, 3, 3, 224, 224), dtype=np.uint8))
    found = backbones.load("pixels", device="cpu").forward(pixels)
    assert found.shape == (2, 3, 256)
    for clip, features in zip(pixels, found.numpy(), strict=True):
        thumbnails = thumbnails_of(clip.numpy()).reshape(3, 256)
        assert np.abs(features * 255 - thumbnails).max() < 0.51  # they are rounded


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
