"""What thumbnails show, in the game of clips that are meant."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from data import cache
from pipeline.evaluation import evaluate
from pipeline.evaluation.baselines.pixels import NAMES, pixel_features
from pipeline.training import train


def test_differences_are_of_successive_frames_and_have_no_sign():
    frames = np.array([[3, 250, 10], [9, 9, 9]], np.uint8).reshape(2, 3, 1, 1)
    shown = pixel_features([frames])
    assert shown["differences"][0].tolist() == [[[[247]], [[240]]], [[[0]], [[0]]]]
    assert shown["first_frame"][0].tolist() == [[[3]], [[9]]]
    assert shown["pixels"][0] is frames


@pytest.mark.parametrize("with_thumbnails", [True, False])
def test_in_the_game_of_clips_they_are_those_of_another_trial(
    tmp_path, monkeypatch, features, with_thumbnails
):
    """The trials of an object look alike, and move in different ways."""
    rng = np.random.default_rng(0)
    number = np.unique(features.object, return_inverse=True)[1]
    looks = rng.integers(0, 200, (number.max() + 1, 1, 4, 4))
    frames = (looks[number] + rng.integers(0, 20, (len(features), 3, 1, 1))).astype(np.uint8)
    changes = {"thumbnails": frames} if with_thumbnails else {}
    cache.save(replace(features, **changes), tmp_path / "c.h5")
    run = train(
        tmp_path / "c.h5", tmp_path / "run", properties=["mass"], seeds=[0], epochs=2,
        oracle_epochs=0, game="referential", game_settings={"distractors": 1},
    )  # fmt: skip
    module = sys.modules[evaluate.__module__]
    parts = [part for part in module.PARTS if part.title == "game"]
    monkeypatch.setattr(module, "PARTS", parts)
    found = evaluate(run.folder, permutations=10)
    assert list(found.baselines) == [*NAMES, "clusters", "other_trial"]
    if with_thumbnails:
        assert found.baselines["pixels"].mean > 0.95
        assert found.baselines["first_frame"].mean > 0.95
        assert found.baselines["differences"].mean < 0.8
        assert found.missing_baselines == {}
    else:
        assert [found.baselines[name] for name in NAMES] == [None] * 3
        assert "have no thumbnails" in found.missing_baselines["pixels"]
