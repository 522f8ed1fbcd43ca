"""Principal axes and projections: white, to the bit as in one product, and in bounded memory."""

import numpy as np
import pytest
import scipy.linalg

from data import memory
from data.errors import OutOfMemoryError
from pipeline.config import build_config
from pipeline.dataset import (
    blocks,
    energy_axes,
    principal_axes,
    project,
    projection,
    training_axes,
)
from tests.helpers.memory import peak_memory


def some_features(clips: int, steps: int, dim: int) -> np.ndarray:
    """Features float16 whose dimensions vary more and less."""
    rng = np.random.default_rng(0)
    spread = np.geomspace(1, 0.03, dim)
    return (rng.standard_normal((clips, steps, dim)) * spread + 1).astype(np.float16)


def axes_of_one_product(
    rows: np.ndarray, axes: int, shrinkage: float, *, standardise: bool
) -> np.ndarray:
    """The principal axes as they were found when all rows were in one float64 array."""
    rows = rows.astype(np.float64)
    spread = rows.std(axis=0) if standardise else np.ones(rows.shape[1])
    rows = rows / spread
    mean = rows.mean(axis=0)
    direction = mean / np.linalg.norm(mean)
    rows -= np.outer(rows @ direction, direction)
    chosen = (rows.shape[1] - axes, rows.shape[1] - 1)
    values, vectors = scipy.linalg.eigh(rows.T @ rows / len(rows), subset_by_index=chosen)
    scale = 1 / np.sqrt(values + shrinkage * values.mean())
    return vectors / spread[:, None] * scale / np.sqrt((values * scale**2).mean())


def same_but_for_signs(one: np.ndarray, two: np.ndarray) -> bool:
    """Whether two sets of axes are the same, whichever way each of them points."""
    signs = np.sign((one * two).sum(axis=0))
    return bool(np.allclose(one, two * signs, rtol=1e-6, atol=1e-8 * np.abs(one).max()))


def test_principal_axes_are_white_and_as_many_as_asked_for():
    rng = np.random.RandomState(0)
    features = rng.rand(30, 4, 12) @ rng.rand(12, 12)
    projected = (features @ principal_axes(features, 5)).reshape(-1, 5)
    np.testing.assert_allclose(projected.T @ projected / 120, np.eye(5), atol=1e-8)
    np.testing.assert_allclose(projected.mean(axis=0), 0, atol=1e-8)
    few = principal_axes(features[:1, :3], 5)  # three vectors: two directions about their mean
    assert few.shape == (12, 5)
    assert ((few == 0).all(axis=0)).sum() == 3
    assert principal_axes(features, 99).shape == (12, 12)


def test_shrinkage_leaves_weak_axes_weak():
    rng = np.random.RandomState(0)
    features = rng.randn(50, 4, 6) * [9, 5, 3, 2, 1, 0.5] @ rng.randn(6, 6) + 7
    spread = [
        (features @ principal_axes(features, 5, shrinkage)).std(axis=(0, 1))
        for shrinkage in (0.0, 1.0, 1e9)
    ]
    for found in spread:
        np.testing.assert_allclose((found**2).mean(), 1, atol=1e-6)
    np.testing.assert_allclose(spread[0], 1, atol=1e-6)
    assert (np.diff([found[-1] / found[0] for found in spread]) > 0.1).all()


@pytest.mark.parametrize(
    "setting", [{"shrinkage": 2.0}, {"standardise": True}, {"keep_mean": True}, {}]
)
def test_the_axes_of_a_training_are_those_of_its_settings(setting):
    features, clips = some_features(30, 4, 12), np.arange(5, 25)
    config = build_config("default", ["mass"], axes=5, **{"shrinkage": 0.5} | setting)
    expected = principal_axes(features, 5, clips=clips, **{"shrinkage": 0.5} | setting)
    np.testing.assert_array_equal(training_axes(features, config, clips), expected)


@pytest.mark.parametrize(("shrinkage", "standardise"), [(0.0, False), (1.0, False), (0.5, True)])
def test_axes_are_those_of_one_product_and_of_blocks(monkeypatch, shrinkage, standardise) -> None:
    features = some_features(30, 4, 40)
    clips = np.arange(0, 30, 2)
    rows = features[clips].reshape(-1, 40)
    expected = axes_of_one_product(rows, 8, shrinkage, standardise=standardise)

    def found() -> np.ndarray:
        return principal_axes(features, 8, shrinkage, standardise=standardise, clips=clips)

    np.testing.assert_allclose(found(), expected, rtol=1e-12, atol=1e-14)
    whole = found()
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", 500)
    assert same_but_for_signs(found(), whole)


def test_axes_may_lie_along_the_mean_where_it_is_kept() -> None:
    features = some_features(30, 4, 40)
    mean = features.astype(np.float64).mean(axis=(0, 1))
    mean /= np.linalg.norm(mean)
    without, kept = (
        principal_axes(features, 8, 1e9, keep_mean=keep_mean) for keep_mean in (False, True)
    )
    assert np.abs(mean @ without).max() < 1e-12
    strongest = kept[:, -1] / np.linalg.norm(kept[:, -1])
    assert abs(mean @ strongest) > 0.99
    assert ((features.astype(np.float64) @ kept) ** 2).mean() == pytest.approx(1)


@pytest.mark.parametrize("axes", [8, 30])
def test_axes_of_few_steps_are_those_of_many_dimensions(monkeypatch, axes) -> None:
    features = some_features(6, 4, 60)
    expected, energy = principal_axes(features, axes), energy_axes(features, axes)
    monkeypatch.setattr(projection, "WIDE", 50)
    found, other = principal_axes(features, axes), energy_axes(features, axes)
    assert found.shape == expected.shape == (60, axes)
    known = np.abs(expected).max(axis=0) > 0  # of 24 steps about their mean, at most 24
    assert (np.abs(found).max(axis=0) > 0).tolist() == known.tolist()
    assert same_but_for_signs(found[:, known], expected[:, known])
    assert same_but_for_signs(other[:, -8:], energy[:, -8:])


def test_more_steps_than_needed_are_drawn_once_for_all(monkeypatch) -> None:
    features = some_features(300, 4, 10)
    monkeypatch.setattr(projection, "MOST_ROWS", 100)
    found = principal_axes(features, 3)
    np.testing.assert_array_equal(found, principal_axes(features, 3))
    drawn = np.sort(np.random.default_rng(0).choice(300, 25, replace=False))
    np.testing.assert_array_equal(found, principal_axes(features[drawn], 3))


def test_axes_and_projection_hold_a_block_and_not_all_clips(monkeypatch, tmp_path) -> None:
    """A float64 copy of these features is 31 MB, one in float32 16 MB; both were made."""
    path = tmp_path / "features.npy"
    np.save(path, some_features(400, 10, 500))
    features = np.load(path, mmap_mode="r")
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", 1 << 16)
    clips = np.arange(300)
    with peak_memory() as peak:
        axes = principal_axes(features, 8, clips=clips)
        energy_axes(features, 8, clips=clips)
        projected = project(features, [axes, axes])
    assert projected.shape == (2, 400, 10, 8)
    products = 500 * 500 * 8
    assert peak.bytes < 3 * products + 4 * 8 * (1 << 16)


def test_a_projection_has_the_bits_of_one_product(monkeypatch) -> None:
    features = some_features(9, 4, 40)
    axes = principal_axes(features, 5)
    expected = features.astype(np.float32) @ axes.astype(np.float32)
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", 320)
    np.testing.assert_array_equal(project(features, [axes])[0], expected)


def test_too_little_memory_for_axes_is_a_sentence(monkeypatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    with pytest.raises(OutOfMemoryError, match=r"finding 4 axes .* takes .* are free"):
        principal_axes(some_features(9, 4, 40), 4)
