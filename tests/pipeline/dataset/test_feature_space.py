"""Regressions of many clips in the space of features: those of the kernel, with bounded memory."""

import numpy as np
import pytest

from data.errors import HeliographError
from pipeline.dataset import WindowRidge, feature_space, ridge
from pipeline.dataset.window_ridge import Reading
from tests.helpers.memory import peak_memory

OBJECTS = np.repeat(np.arange(40), 4)
TRAIN = np.flatnonzero(OBJECTS % 5 > 0)
TEST = np.flatnonzero(OBJECTS % 5 == 0)
CLIPS = len(OBJECTS)


def noise(steps: int, dimensions: int, kind: type = np.float32) -> np.ndarray:
    rng = np.random.default_rng(dimensions)
    features = rng.normal(size=(CLIPS, steps, dimensions)) + rng.normal(size=dimensions)
    features[:, :, 0] = 3  # a feature that does not vary
    return features.astype(kind)


def labels(features: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(1)
    told = features[:, 0].astype(float) @ rng.normal(size=(features.shape[2], 2))
    return told + 0.3 * rng.normal(size=told.shape)


def in_feature_space(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let these few clips be many, read a few at a time."""
    monkeypatch.setattr(ridge, "MOST_CLIPS", 10)
    monkeypatch.setattr("pipeline.dataset.window_ridge.MOST_CLIPS", 10)
    monkeypatch.setattr(feature_space, "NUMBERS_AT_ONCE", 200)


def predicted(features: list[np.ndarray], goodness_of: np.ndarray) -> np.ndarray:
    targets = ridge.relative_ranks(goodness_of, TRAIN)
    return ridge.predict(
        ridge.likeness(features, TRAIN),
        targets,
        TRAIN,
        TEST,
        objects=OBJECTS,
        goodness=ridge.closeness(targets),
    )


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.uint8])
def test_predictions_are_those_of_the_kernel(monkeypatch, kind):
    features = [np.abs(10 * noise(3, 7)).astype(kind), np.abs(10 * noise(1, 20)[:, 0]).astype(kind)]
    expected = predicted(features, labels(features[0]))
    in_feature_space(monkeypatch)
    found = predicted(features, labels(features[0]))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("shapes", [[(3, 7), (1, 20)], [(1, 9)]])
@pytest.mark.parametrize("logs", [False, True])
def test_a_regression_on_windows_is_that_of_the_kernel(monkeypatch, shapes, logs):
    windows = [noise(*shape) for shape in shapes]
    told = labels(windows[0])
    if logs:
        windows = [np.sign(window) * np.expm1(np.abs(window)) for window in windows]
    expected = WindowRidge.fit(windows, told, OBJECTS, TRAIN)
    in_feature_space(monkeypatch)
    found = WindowRidge.fit(windows, told, OBJECTS, TRAIN)
    assert found.reading == expected.reading
    assert found.goodness == pytest.approx(expected.goodness, abs=1e-6)
    np.testing.assert_allclose(found.predictions, expected.predictions, atol=1e-4)
    for mine, theirs in zip(found.parts, expected.parts, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)
    for window, scale, weight, bias, part in zip(
        windows, found.scales, found.weights, found.biases, found.parts, strict=True
    ):
        reading = Reading(found.reading.logarithms)
        each = np.concatenate(list(reading.vectors(window, scale)), axis=1)
        np.testing.assert_allclose(each.astype(float) @ weight + bias, part, atol=1e-6)


def test_wide_features_are_read_on_the_axes_that_tell(monkeypatch):
    """Of 300 numbers of two steps along ten directions, 40 are kept: nothing is lost."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(CLIPS, 2, 10))
    features = [(hidden @ rng.normal(size=(10, 150))).astype(np.float32)]
    told = labels(hidden)
    expected = predicted(features, told)
    in_feature_space(monkeypatch)
    monkeypatch.setattr(feature_space, "MOST_NUMBERS", 40)
    vectors = ridge.likeness(features, TRAIN)
    assert (len(vectors), vectors.width) == (CLIPS, 40)
    np.testing.assert_allclose(predicted(features, told), expected, atol=1e-3)


def test_equal_clips_are_predicted_equal_wherever_they_are_read(monkeypatch):
    features = noise(3, 30)
    features[TEST[1:]] = features[TEST[0]]
    in_feature_space(monkeypatch)
    monkeypatch.setattr(feature_space, "MOST_NUMBERS", 20)
    monkeypatch.setattr(feature_space, "NUMBERS_AT_ONCE", 450)
    values = predicted([features], labels(features))
    assert np.ptp(values, axis=0).max() < 1e-12
    parts = WindowRidge.fit([features], labels(features), OBJECTS, TRAIN).parts
    assert np.ptp(parts[0][TEST], axis=0).max() == 0


def test_no_test_clip_is_looked_at(monkeypatch):
    features = noise(3, 7)
    in_feature_space(monkeypatch)
    told = labels(features)
    before = predicted([features], told)
    told[TEST] = 1e6
    assert np.array_equal(predicted([features], told), before)


def test_a_clip_beyond_what_float32_holds_is_a_sentence(monkeypatch):
    in_feature_space(monkeypatch)
    features = noise(1, 7) * np.float32(1e-25)
    told = labels(features)
    features[TEST[0]] = 1.0
    with pytest.raises(HeliographError, match="too far from those of the training clips"):
        predicted([features], told)


def test_memory_does_not_grow_with_the_clips(tmp_path, monkeypatch):
    """A kernel of these clips is 128 MB."""
    monkeypatch.setattr(feature_space, "NUMBERS_AT_ONCE", 1 << 16)
    count = 4000
    path = tmp_path / "features.npy"
    objects = np.arange(count) // 4
    told = np.random.default_rng(0).normal(size=(count, 1))
    features = np.random.default_rng(1).normal(size=(count, 4, 100)).astype(np.float16)
    features[:, :, :1] += told[:, None]
    np.save(path, features)
    train = np.flatnonzero(objects % 5 > 0)
    with peak_memory() as peak:
        found = WindowRidge.fit([np.load(path, mmap_mode="r")], told, objects, train)
    test = np.flatnonzero(objects % 5 == 0)
    assert np.corrcoef(found.predictions[test, 0], told[test, 0])[0, 1] > 0.8
    assert peak.bytes < 40e6
