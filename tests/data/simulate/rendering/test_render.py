"""The frames: first frames independent of the labels, smooth edges, true occlusion."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from data.simulate import SCENES
from data.simulate.rendering.camera import SWAY, sample_sway
from data.simulate.rendering.encode import encode_video
from data.simulate.rendering.render import render_frames
from data.simulate.scenes import Prism, Puck, Trial
from tests.helpers.trials import (
    FPS,
    SIZE,
    appearance_of,
    decoded,
    drawn_frames,
    rgb,
    trial_of,
)


def corners(scene: str) -> list[tuple[float, float]]:
    first, second = SCENES[scene].properties
    return [(a, b) for a in (first.low, first.high) for b in (second.low, second.high)]


@pytest.mark.parametrize("scene", SCENES)
def test_the_first_frame_does_not_depend_on_the_properties(scene: str, tmp_path: Path) -> None:
    """Not a pixel, not even through the encoder, which could spend bits by what follows."""
    firsts, lasts = [], []
    for values in corners(scene):
        trial = trial_of(scene, values, seed=3)
        path = tmp_path / "clip.mp4"
        encode_video(
            render_frames(trial, appearance_of(trial, 3), size=SIZE),
            path,
            fps=FPS,
            size=SIZE,
        )
        frames = decoded(path)
        firsts.append(frames[0])
        lasts.append(frames[-1])
    for other in firsts[1:]:
        np.testing.assert_array_equal(other, firsts[0])
    assert any(np.abs(other.astype(int) - lasts[0]).max() > 30 for other in lasts[1:])


@pytest.mark.parametrize("scene", SCENES)
def test_a_camera_in_a_hand_moves_what_stands_still(scene: str) -> None:
    trial = trial_of(scene, corners(scene)[0], seed=5)
    still = appearance_of(trial, 5)
    sway = sample_sway(np.random.default_rng(0), len(trial.tracks), FPS)
    held = replace(still, sway=sway)
    frames = [rgb(frame).astype(int) for frame in render_frames(trial, held, size=SIZE)]
    assert len(frames) == len(trial.tracks)
    for before, after in pairwise(frames):
        assert (np.abs(after - before).max(axis=2) > 3).mean() > 0.2  # nearly all of the picture
    for number in (0, 7):  # each frame is what a camera on a tripod sees from there
        yaw, pitch, roll, x, y = sway[number]
        there = replace(
            still, yaw=still.yaw + yaw, pitch=still.pitch + pitch, roll=still.roll + roll,
            shift=(still.shift[0] + x, still.shift[1] + y),
        )  # fmt: skip
        moment = replace(trial, tracks=trial.tracks[number : number + 1])
        (seen,) = (rgb(frame) for frame in render_frames(moment, there, size=SIZE))
        np.testing.assert_array_equal(seen, frames[number])


def test_how_far_a_hand_sways() -> None:
    sways = [sample_sway(np.random.default_rng(seed), 48, FPS) for seed in range(50)]
    assert sways[0].shape == (48, 5)
    np.testing.assert_allclose(np.std(sways, axis=(0, 1)), SWAY, rtol=0.2)
    steps = np.abs(np.diff(sways, axis=1)).mean(axis=(0, 1))
    assert (steps < 0.4 * np.array(SWAY)).all()  # from frame to frame it is smooth


@pytest.mark.parametrize("scene", SCENES)
def test_a_probe_on_the_first_frame_is_at_chance(scene: str) -> None:
    """Ridge regression on pixels, cells held out, against 200 shuffles of the labels."""
    rng = np.random.default_rng(0)
    pixels, labels = [], []
    properties = SCENES[scene].properties
    for repetition in range(6):
        for values in corners(scene):
            trial = SCENES[scene].simulate(*values, rng, 2, FPS)
            seen = drawn_frames(trial, int(rng.integers(1 << 30)), size=64)[0]
            pixels.append(seen.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3)).ravel())
            labels.append([*values, repetition])
    x = np.array(pixels)  # (clips, 192)
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-9)
    y, fold = np.array(labels)[:, :2], np.array(labels)[:, 2]
    y = (y - y.mean(axis=0)) / y.std(axis=0)
    for column in range(len(properties)):
        real = _explained(x, y[:, column], fold)
        null = [_explained(x, rng.permutation(y[:, column]), fold) for _ in range(200)]
        assert np.quantile(null, 0.005) < real < np.quantile(null, 0.995)


def _explained(x: NDArray[np.float64], y: NDArray[np.float64], fold: NDArray[np.float64]) -> float:
    """Correlation of held-out predictions with y."""
    kernel = x @ x.T / x.shape[1]
    predicted = np.empty_like(y)
    for held in np.unique(fold):
        test, train = fold == held, fold != held
        inner = kernel[np.ix_(train, train)] + np.eye(int(train.sum()))
        predicted[test] = kernel[np.ix_(test, train)] @ np.linalg.solve(inner, y[train])
    return float(np.corrcoef(predicted, y)[0, 1])


def still(puck: Puck, at: tuple[float, float], prisms: tuple[Prism, ...] = ()) -> Trial:
    return Trial(
        prisms=prisms, pucks=(puck,), tracks=np.array([[at]], float), labels={},
        view=(-0.5, 0.0, 0.5, 1.0),
    )  # fmt: skip


def difference(a: Trial, b: Trial) -> NDArray[np.float64]:
    """How much two worlds differ, (n, n), in the colour in which they differ most."""
    shown = [drawn_frames(trial, 5)[0].astype(float) for trial in (a, b)]
    return np.abs(shown[0] - shown[1]).max(axis=-1)


def test_the_puck_is_drawn_where_the_camera_sees_it() -> None:
    puck, at = Puck(radius=0.1, depth=0.02), (0.2, 0.6)
    far = still(puck, (50.0, 50.0))
    changed = difference(still(puck, at), far) > 12
    camera = appearance_of(far, 5).camera(far.view, size=SIZE)
    x, y, depth = camera.project(np.array([*at, 0.0]))
    radius = 0.1 * camera.focal_pixels / float(depth)
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    inside = np.hypot(columns - x, rows - y) < 0.7 * radius
    assert changed[inside].mean() > 0.95


def test_small_steps_move_the_picture_a_little() -> None:
    """Places are finer than a pixel: a tenth of one is seen, and is less than a whole one."""
    puck = Puck(radius=0.15, depth=0.1)
    base = still(puck, (0.0, 0.5))
    steps = [difference(base, still(puck, (step, 0.5))).sum() for step in (0.001, 0.004, 0.016)]
    assert 0 < steps[0] < steps[1] < steps[2]


def test_a_board_in_front_hides_the_puck_and_one_behind_does_not() -> None:
    puck, far = Puck(radius=0.1, depth=0.1), (50.0, 50.0)
    sides = ((-0.5, 0.0), (0.5, 0.0), (0.5, 1.0), (-0.5, 1.0))
    for z, shown in ((0.3, False), (-0.3, True)):
        board = (Prism(corners=sides, depth=0.02, middle_z=z),)
        changed = difference(still(puck, (0.0, 0.5), board), still(puck, far, board))
        # The puck's own area, without what its shadow may reach beside the board.
        assert (
            changed[SIZE // 2 - 4 : SIZE // 2 + 4, SIZE // 2 - 4 : SIZE // 2 + 4] > 5
        ).any() == shown


def test_a_puck_casts_a_shadow_on_the_floor() -> None:
    puck = Puck(radius=0.15, depth=0.2)
    with_puck, without = (
        drawn_frames(still(puck, at), 5)[0].astype(float).mean(axis=-1)
        for at in ((0, 0.2), (50, 50))
    )
    darker = without - with_puck
    assert (darker[SIZE // 2 :] > 8).sum() > 50


def test_a_puck_outside_the_picture_leaves_it_alone() -> None:
    puck = Puck(radius=0.1, depth=0.1)
    assert difference(still(puck, (50.0, 0.1)), still(puck, (-50.0, 0.1))).max() == 0


def test_looks_vary_and_repeat_with_their_seed() -> None:
    trial = trial_of("ramp", (0.5, 0.2), seed=0)
    one, same, other = (drawn_frames(trial, seed)[0].astype(int) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).mean() > 8
