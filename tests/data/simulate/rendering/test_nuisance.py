"""Other looks: each number outside the range of ordinary clips, each pattern another."""

import numpy as np
import pytest

from data.simulate import SCENES
from data.simulate.rendering.appearance import Appearance, sample_appearance
from data.simulate.rendering.nuisance import sample_nuisance
from data.simulate.rendering.render import render_frames
from tests.helpers.trials import rgb, trial_of

CLIPS = 300


def looks(appearance: Appearance) -> dict[str, float]:
    """What an appearance is made of, as numbers."""
    return {
        "light": abs(float(np.arctan2(appearance.light[0], appearance.light[2]))),
        "height": float(appearance.light[1]),
        "ambient": appearance.ambient,
        "warmth": appearance.warmth,
        "yaw": appearance.yaw,
        "pitch": appearance.pitch,
        "roll": appearance.roll,
        "field": appearance.field,
        "zoom": appearance.zoom,
        "shift": appearance.shift[0],
        "floor": max(appearance.floor.high),
        "tile": appearance.floor.tile_m,
        "back": max(appearance.back.high),
        "block": max(appearance.blocks[0].high),
    }


def test_no_look_of_nuisance_is_one_of_an_ordinary_clip() -> None:
    rng = np.random.default_rng(0)
    usual = [sample_appearance(rng, blocks=2, pucks=1) for _ in range(CLIPS)]
    other = [sample_nuisance(rng, blocks=2, pucks=1) for _ in range(CLIPS)]
    known = {name: sorted(looks(one)[name] for one in usual) for name in looks(usual[0])}
    for one in other:
        inside = [
            name for name, value in looks(one).items() if known[name][0] <= value <= known[name][-1]
        ]
        assert not inside
    drawn = [
        {surface.texture.tobytes() for one in group for surface in (one.floor, one.back)}
        for group in (usual, other)
    ]
    assert len(drawn[1]) > 30
    assert not drawn[0] & drawn[1]
    marks = [{one.pucks[0].mark for one in group} for group in (usual, other)]
    assert not marks[0] & marks[1]


@pytest.mark.parametrize("scene", SCENES)
def test_what_moves_can_be_seen_in_other_looks(scene: str) -> None:
    trial = trial_of(scene, tuple(prop.low for prop in SCENES[scene].properties), seed=2)
    blocks = 1 + max((prism.surface for prism in trial.prisms), default=-1)
    rng = np.random.default_rng(1)
    for _ in range(4):
        appearance = sample_nuisance(rng, blocks=blocks, pucks=len(trial.pucks))
        first, *_, last = [
            rgb(frame).astype(int) for frame in render_frames(trial, appearance, size=64)
        ]
        assert (np.abs(first - last).max(axis=2) > 30).sum() > 20
        camera = appearance.camera(trial.view, size=64)
        x, y, _ = camera.project(np.pad(trial.tracks[0], ((0, 0), (0, 1))))
        assert ((x > 0) & (x < 64) & (y > 0) & (y < 64)).all()
