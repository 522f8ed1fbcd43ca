"""How far readouts err, and what follows for new objects."""

import numpy as np
import pytest

from pipeline.message.calibration import (
    LEAST_OBJECTS,
    SpokenClips,
    Witnesses,
    add_points,
    band_chances,
    band_edges,
    fit_points,
    reads_logarithms,
)
from tests.helpers.spoken_runs import made_seeds


def witnesses(errors, objects):
    numbers = np.asarray(objects)
    zeros = np.zeros(len(numbers))
    return Witnesses(np.asarray(errors, float), numbers, zeros.astype(int), numbers, zeros)


def test_points_are_what_symbols_add():
    rng = np.random.default_rng(0)
    tokens = rng.integers(4, size=(400, 2))
    scores = 10.0 + np.array([0, 1, 2, 3])[tokens[:, 0]] - np.array([0, 5, 0, 0])[tokens[:, 1]]
    objects = tuple(str(clip // 4) for clip in range(400))
    every = np.arange(400)
    clips = SpokenClips(tokens, scores[:, None], objects, every[:300], every[300:])
    offset, points = fit_points(clips, scores, vocab=5)
    assert points.shape == (2, 5)
    assert np.abs(offset + add_points(points, tokens) - scores).max() < 0.05
    assert points[0, 4] == 0  # never sent: it adds nothing


def test_what_says_nothing_is_not_believed():
    rng = np.random.default_rng(1)
    every = np.arange(200)
    clips = SpokenClips(
        rng.integers(5, size=(200, 4)), rng.normal(size=(200, 1)),
        tuple(str(clip // 5) for clip in range(200)), every, every[:0],
    )  # fmt: skip
    offset, points = fit_points(clips, clips.labels[:, 0], vocab=5)
    assert np.abs(points).max() < 0.1
    assert offset == pytest.approx(clips.labels.mean(), abs=0.1)


def test_the_reach_is_an_error_that_one_object_in_ten_exceeds():
    assert LEAST_OBJECTS == 9
    nine = witnesses(range(9), range(9))
    assert nine.reach() == 8  # of nine and a new one, the largest is exceeded by one in ten
    assert witnesses(range(8), range(8)).reach() is None
    assert witnesses(range(19), range(19)).reach() == 17
    assert witnesses([-17, *range(17), 18], range(19)).reach() == 17  # of either sign


def test_objects_weigh_the_same_however_many_clips_they_have():
    errors, objects = [5.0] * 100 + [1.0] * 18, [0] * 100 + list(range(1, 19))
    assert witnesses(errors, objects).reach() == 1
    own = witnesses(errors, objects)
    assert own.weights.sum() == pytest.approx(19 / 20)
    assert own.among(own.object != 0).objects == 18
    assert np.median(own.quantiles()) == 1


def test_a_clip_set_aside_of_a_trained_object_bears_no_witness(spoken_run, monkeypatch):
    lines = spoken_run.messages(0)
    first = next(number for number, line in enumerate(lines) if line["part"] == "train")
    assert lines[first]["object"] == lines[first + 1]["object"]
    before = SpokenClips.of(spoken_run, 0)
    changed = [dict(line) for line in lines]
    changed[first]["part"] = "structure"
    monkeypatch.setattr(type(spoken_run), "messages", lambda self, seed=None: changed)
    after = SpokenClips.of(spoken_run, 0)
    assert len(after.train) == len(before.train) - 1
    assert after.held_out.tolist() == before.held_out.tolist()


def test_edges_are_halfway_between_the_thirds():
    assert band_edges(np.array([0.0, 1.0])) == (0.5, 0.5)
    assert band_edges(np.array([1.0, 2.0, 2.0, 2.0, 3.0])) == (1.5, 2.5)  # the middle is one value
    assert band_edges(np.array([1.0, 1.0, 1.0, 4.0])) == (1.0, 2.5)
    assert reads_logarithms(np.array([1.0, 2.0, 10.0]))
    assert not reads_logarithms(np.array([0.0, 1.0, 10.0]))
    assert not reads_logarithms(np.array([2.0, 9.0, 10.0]))


def test_a_chance_is_never_sure():
    errors, weights = np.zeros(9), np.full(9, 1 / 9)
    (chance,) = band_chances(np.array([5.0]), errors, weights, np.array([1.0, 2.0]), 9)
    assert chance.tolist() == pytest.approx([1 / 30, 1 / 30, 28 / 30])


def coverage(runs: int, **made) -> tuple[float, float]:
    """The share of clips of new objects in their intervals, and its standard error over runs."""
    held = []
    for run in range(runs):
        seeds, new = made_seeds(run, new_objects=40, **made)
        offset, points = fit_points(seeds[0], seeds[0].labels[:, 0], vocab=5)
        reach = Witnesses.of(seeds, 0, False, 5).reach()
        errors = new.labels[:, 0] - offset - add_points(points, new.tokens)
        held.append((np.abs(errors) <= reach).mean())
    return float(np.mean(held)), float(np.std(held) / np.sqrt(runs))


@pytest.mark.parametrize(
    ("objects", "seeds", "clips"),
    [
        (26, 3, 3),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [(15, 20, 1), (26, 20, 10)]),
    ],
)
def test_nine_in_ten_clips_of_new_objects_are_in_their_intervals(objects, seeds, clips):
    share, error = coverage(20, objects=objects, seeds=seeds, clips=clips)
    assert 0.88 - 2 * error <= share <= 0.95 + 2 * error
