"""One regression on several windows: its weights, its parts, and how it reads the steps."""

import numpy as np
import pytest

from data import memory
from data.errors import OutOfMemoryError
from pipeline.dataset import WindowRidge, ridge
from pipeline.dataset.window_ridge import Reading, kernels

OBJECTS = np.repeat(np.arange(30), 4)
TRAIN = np.flatnonzero(OBJECTS % 5 > 0)
LABELS = OBJECTS[:, None].astype(float) * [1.0, -2.0]


def noise(steps: int, dimensions: int, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(steps)
    return (scale * rng.normal(size=(len(OBJECTS), steps, dimensions))).astype(np.float32)


def order(scores: np.ndarray, labels: np.ndarray = LABELS) -> float:
    """The correlation of scores with the first property, over clips that nothing was fitted to."""
    test = np.setdiff1d(np.arange(len(OBJECTS)), TRAIN)
    return float(np.corrcoef(scores[test, 0], labels[test, 0])[0, 1])


@pytest.mark.parametrize("logs", [False, True])
@pytest.mark.parametrize("mean", [False, True])
def test_weights_and_parts_are_those_of_a_regression_on_the_kernel(monkeypatch, logs, mean):
    reading = Reading(logs, mean)
    windows = [noise(3, 7), noise(1, 20) * np.float32(1e15)]
    kernel = dict(kernels(windows, TRAIN))[reading]
    alone = [(reading, kernel)]
    monkeypatch.setattr("pipeline.dataset.window_ridge.kernels", lambda *_: alone)
    shared = WindowRidge.fit(windows, LABELS, OBJECTS, TRAIN)
    targets = ridge.relative_ranks(LABELS, TRAIN)
    expected = ridge.predict(
        kernel,
        targets,
        TRAIN,
        np.arange(len(OBJECTS)),
        objects=OBJECTS,
        goodness=ridge.closeness(targets),
    )
    np.testing.assert_allclose(shared.predictions, expected, atol=1e-4)
    for window, scale, weight, bias, part in zip(
        windows, shared.scales, shared.weights, shared.biases, shared.parts, strict=True
    ):
        each = np.concatenate(list(Reading(logs).vectors(window, scale)), axis=1)
        np.testing.assert_allclose(each.astype(float) @ weight + bias, part, atol=1e-4)
        np.testing.assert_allclose(part[TRAIN].mean(0), 0, atol=1e-9)


def test_windows_that_say_something_together_are_read_together():
    """Neither window tells the property, their difference does."""
    nuisance = noise(1, 1, 100.0)
    windows = [nuisance + LABELS[:, :1, None].astype(np.float32), nuisance]
    shared = WindowRidge.fit(windows, LABELS, OBJECTS, TRAIN)
    alone = [WindowRidge.fit([window], LABELS, OBJECTS, TRAIN) for window in windows]
    assert order(shared.predictions) > 0.95
    assert order(sum(one.predictions for one in alone)) < 0.7


def test_a_window_weighs_as_much_as_one_of_a_thousand_times_its_numbers():
    told = noise(1, 1, 0.3) + LABELS[:, :1, None].astype(np.float32) / 10
    kernel, wide = (
        dict(kernels(windows, TRAIN))[Reading()]
        for windows in ([told, noise(2, 500)], [noise(2, 500)])
    )
    both = ridge.linear_kernel(told[:, 0], TRAIN) + wide
    np.testing.assert_allclose(kernel, both / 2, atol=1e-6)


def test_steps_are_read_as_their_mean_where_that_is_what_tells():
    features = noise(16, 40, 6.0)
    features += (
        LABELS[:, :1, None].astype(np.float32) / 10 * np.linspace(-1, 1, 40, dtype=np.float32)
    )
    assert WindowRidge.fit([features], LABELS, OBJECTS, TRAIN).reading.mean
    rising = noise(4, 6, 0.5)
    rising += (
        LABELS[:, :1, None].astype(np.float32) * np.linspace(-1, 1, 4, dtype=np.float32)[:, None]
    )
    assert not WindowRidge.fit([rising], LABELS, OBJECTS, TRAIN).reading.mean


def test_equal_clips_get_equal_parts():
    features = noise(3, 50)
    features[1:4] = features[0]
    shared = WindowRidge.fit([features[:, :2], features[:, 2:]], LABELS, OBJECTS, TRAIN)
    assert all(np.ptp(part[:4], axis=0).max() == 0 for part in shared.parts)


def test_what_the_clips_after_training_are_called_changes_nothing():
    windows = [noise(3, 7), noise(2, 5)]
    before = WindowRidge.fit(windows, LABELS, OBJECTS, TRAIN).predictions
    labels = LABELS.copy()
    labels[np.setdiff1d(np.arange(len(labels)), TRAIN)] = np.nan
    assert np.array_equal(WindowRidge.fit(windows, labels, OBJECTS, TRAIN).predictions, before)


def test_a_regression_too_large_for_the_memory_is_a_sentence(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 50_000)
    with pytest.raises(OutOfMemoryError, match=r"^ridge regression on 120 clips takes .* free: "):
        WindowRidge.fit([noise(1, 3)], LABELS, OBJECTS, TRAIN)


@pytest.mark.parametrize("steps", [(1, 1), (3, 1)])
def test_every_step_is_read_once_and_the_kernels_are_those_of_each_reading(monkeypatch, steps):
    windows = [noise(count, 6) for count in steps]
    read = []
    vectors = Reading.vectors
    monkeypatch.setattr(
        Reading, "vectors", lambda own, *window: read.append(own) or vectors(own, *window)
    )
    found = dict(kernels(windows, TRAIN))
    assert read == [Reading(logs) for logs in (False, True) for _ in windows]
    assert len(found) == (2 if max(steps) == 1 else 4)
    for reading, kernel in found.items():
        expected = np.zeros(kernel.shape)
        for window in windows:
            each = list(vectors(reading, window, reading.scale(window, TRAIN)))
            for step in each:
                expected += ridge.linear_kernel(step, TRAIN) / (len(each) * len(windows))
        assert np.array_equal(kernel, expected)  # to the bit
