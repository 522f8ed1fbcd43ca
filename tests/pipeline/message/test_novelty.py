"""How far clips are from the training clips."""

import numpy as np
import pytest

from pipeline.dataset import blocks
from pipeline.message import novelty
from pipeline.message.novelty import NoveltyDetector, thinned


def test_clips_of_two_objects_that_look_the_very_same_leave_no_limit():
    same = NoveltyDetector(
        np.zeros((4, 1, 2), np.float32), ["a", "a", "b", "b"], ["1", "2", "3", "4"]
    )
    alike, apart = same(np.array([[[0, 0]], [[0, 1]]], np.float32))
    assert (str(alike), alike.unfamiliar) == ("familiar", False)
    assert (str(apart), apart.unfamiliar) == ("unlike anything seen", True)


@pytest.mark.parametrize("scale", [1e19, 1e-30])
def test_distances_of_very_large_or_small_features_are_right(scale):
    features = np.random.RandomState(0).randn(20, 2, 5).astype(np.float32)
    objects = [str(number % 4) for number in range(20)]
    one, scaled = (
        NoveltyDetector(own, objects, objects)(own + own[::-1])
        for own in (features, features * np.float32(scale))
    )
    for ours, theirs in zip(one, scaled, strict=True):
        assert theirs.value / scale == pytest.approx(ours.value, rel=1e-4)
        assert theirs.unfamiliar == ours.unfamiliar


def test_of_many_training_clips_evenly_spaced_ones_are_compared(monkeypatch):
    monkeypatch.setattr(novelty, "MAX_CLIPS", 4)
    assert thinned([3, 5, 8, 9]) == [3, 5, 8, 9]
    assert thinned(list(range(11))) == [0, 3, 6, 9]
    assert thinned([]) == []
    features = np.random.RandomState(0).randn(11, 2, 5).astype(np.float32)
    ids = [str(number) for number in range(11)]
    whole = NoveltyDetector(features, ids, ids)
    few = NoveltyDetector(features[::3], ids[::3], ids[::3])
    assert whole.clips == few.clips == ids[::3]
    assert whole(features) == few(features)


def test_distances_are_the_same_from_blocks(monkeypatch):
    features = np.random.RandomState(0).randn(20, 2, 5).astype(np.float32)
    ids = [str(number) for number in range(20)]
    expected = NoveltyDetector(features, ids, ids)(features + 1)
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", 30)
    assert NoveltyDetector(features, ids, ids)(features + 1) == expected
