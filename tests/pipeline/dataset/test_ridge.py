"""Ridge regression on a kernel: the plain solution, no look at test clips, and ties."""

import numpy as np
import pytest

from data import memory
from data.errors import HeliographError, OutOfMemoryError
from pipeline.dataset import blocks, ridge
from tests.helpers.memory import peak_memory


def test_ridge_agrees_with_the_plain_solution():
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(40, 6)), rng.normal(size=(40, 2))
    train, clips = np.arange(30), np.arange(30, 40)
    penalty = 0.7
    predictions = ridge._solve(
        ridge.linear_kernel(features, train), targets, train, clips, np.array([penalty])
    )[0]
    x = (features - features[train].mean(0)) / features[train].std(0) / np.sqrt(6)
    y = targets[train] - targets[train].mean(0)
    weights = np.linalg.solve(x[train].T @ x[train] + penalty * np.eye(6), x[train].T @ y)
    assert predictions == pytest.approx(x[clips] @ weights + targets[train].mean(0), abs=1e-4)


def test_ridge_never_looks_at_test_targets():
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(40, 6)), rng.normal(size=(40, 1))
    train, clips = np.arange(30), np.arange(30, 40)
    objects = np.arange(40) // 2

    kernel = ridge.linear_kernel(features, train)
    before = ridge.predict(
        kernel, targets, train, clips, objects=objects, goodness=ridge.closeness(targets)
    )
    targets[clips] = 1e6
    after = ridge.predict(
        kernel, targets, train, clips, objects=objects, goodness=ridge.closeness(targets)
    )
    assert np.array_equal(before, after)


def test_ranks_among_training_clips():
    labels = np.array([[10.0], [30.0], [20.0], [25.0], [99.0]])
    assert ridge.relative_ranks(labels, np.array([0, 1, 2])).ravel().tolist() == [0, 1, 0.5, 1, 1.5]


def clustered(per: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of 40 kinds of clip, `per` equal clips of each, with targets and objects."""
    rng = np.random.default_rng(0)
    kinds = np.arange(40).repeat(per)
    features = rng.normal(size=(40, 60)).astype(np.float32)[kinds]
    return features, rng.normal(size=(len(kinds), 1)), kinds


@pytest.mark.parametrize("per", [2, 5, 20])
def test_equal_clips_get_equal_rows_and_predictions(per):
    features, targets, kinds = clustered(per)
    train, clips = np.flatnonzero(kinds < 30), np.flatnonzero(kinds >= 30)
    kernel = ridge.linear_kernel(features, train)
    assert np.ptp(kernel.reshape(40, per, -1), axis=1).max() == 0
    for penalty in ridge.PENALTIES:
        values = ridge._solve(kernel, targets, train, clips, np.array([penalty]))[0]
        assert np.ptp(values.reshape(10, per), axis=1).max() < 1e-10 * np.abs(values).max()


def test_penalties_that_are_equally_good_up_to_rounding_are_a_tie():
    features, targets, kinds = clustered(2)
    train, clips = np.flatnonzero(kinds < 30), np.flatnonzero(kinds >= 30)
    kernel = ridge.linear_kernel(features, train)
    smallest = ridge._solve(kernel, targets, train, clips, ridge.PENALTIES[:1])[0]
    for seed in range(5):
        rng = np.random.default_rng(seed)

        def last_bits(values, own, rng=rng):
            return 0.3 + rng.integers(-2, 3) * np.spacing(0.3)

        values = ridge.predict(kernel, targets, train, clips, objects=kinds, goodness=last_bits)
        assert np.array_equal(values, smallest)


@pytest.mark.parametrize("exponent", [60, 63, -95, -110])
def test_a_kernel_does_not_depend_on_the_scale_of_the_features(exponent):
    features = np.random.RandomState(0).randn(40, 30).astype(np.float32)
    train = np.arange(30)
    scaled = np.ldexp(features, exponent)
    kernels = [ridge.linear_kernel(own, train) for own in (features, scaled)]
    assert np.array_equal(*kernels)


def test_a_clip_beyond_what_float32_holds_is_a_sentence():
    features = np.random.RandomState(0).randn(40, 30).astype(np.float32) * np.float32(1e-25)
    features[-1] = 1.0
    with pytest.raises(HeliographError, match="too far from those of the training clips"):
        ridge.linear_kernel(features, np.arange(30))


def test_a_kernel_is_the_same_from_blocks_of_columns(monkeypatch):
    features = np.random.default_rng(0).normal(size=(30, 4, 50)).astype(np.float16)
    train = np.arange(20)
    expected = ridge.linear_kernel(features.reshape(30, -1), train)
    parts = [features[:, :2], features[:, 2:]]
    assert np.array_equal(ridge.linear_kernel(parts, train), expected)
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", 300)
    for given in (features, parts, features.reshape(30, -1)):
        np.testing.assert_allclose(ridge.linear_kernel(given, train), expected, rtol=0, atol=1e-6)


def test_equal_clips_get_equal_rows_from_blocks_of_columns(monkeypatch):
    features, _, kinds = clustered(5)
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", 1000)
    kernel = ridge.linear_kernel(features, np.flatnonzero(kinds < 30))
    assert np.ptp(kernel.reshape(40, 5, -1), axis=1).max() == 0
    assert ridge.first_equal_rows(features, kinds).tolist() == (5 * kinds).tolist()


def test_clips_that_differ_in_one_of_their_features_alone_are_not_equal():
    same, other = np.zeros((3, 2), np.float16), np.array([0, 1, 0])
    assert ridge.first_equal_rows(same, other).tolist() == [0, 1, 0]


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.uint8])
def test_clips_that_all_differ_need_no_digests(monkeypatch, kind):
    features = np.random.default_rng(0).integers(0, 200, (40, 3, 11)).astype(kind)
    twice = np.concatenate([features, features[:2]])
    assert ridge.first_equal_rows(twice).tolist() == [*range(40), 0, 1]
    assert ridge.first_equal_rows(features[:, 1:]).tolist() == list(range(40))
    monkeypatch.setattr(ridge, "_digest", None)
    assert ridge.first_equal_rows(features).tolist() == list(range(40))


def test_a_kernel_holds_a_block_of_columns_and_not_all(monkeypatch, tmp_path):
    """A float32 copy of these features is 19 MB; two were made."""
    path = tmp_path / "features.npy"
    np.save(path, np.random.default_rng(0).normal(size=(120, 10, 4000)).astype(np.float16))
    features = np.load(path, mmap_mode="r")
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", 1 << 17)
    with peak_memory() as peak:
        ridge.linear_kernel(features, np.arange(90))
    assert peak.bytes < 8 * 4 * (1 << 17)


def test_a_kernel_too_large_for_the_memory_is_a_sentence(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 50_000)
    with pytest.raises(OutOfMemoryError, match=r"^ridge regression on 40 clips takes .* free: "):
        ridge.linear_kernel(np.zeros((40, 3)), np.arange(30))
