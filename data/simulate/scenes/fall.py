"""A puck falls through a fluid and bounces: elasticity x drag.

Closed forms (tested): with the drag k (1/s) it falls with the speed (g / k) (1 - exp(-k t)); a
bounce takes the speed v to e v, hence for k = 0 the height h to e^2 h.

It falls from so high that a few frames a second show the motion, and the drag stays so small that
the bounce is visible above the board: with positions known to 4 pixels in 8 of 48 frames, kernel
ridge regression orders 96 % of pairs by drag and 88 % by elasticity (from 0.9 m with drags up to 4:
86 % and 82 %).
"""

from __future__ import annotations

import math

import numpy as np

from data.simulate.scenes.physics import (
    FLOOR,
    add_puck,
    first_bounce,
    make_space,
    simulate_bodies,
    steps_per_frame,
)
from data.simulate.scenes.scene import Prism, Property, Puck, Scene, Trial

HEIGHT_M = (1.28, 1.5)  # from the floor to the puck's lower side, at the start
WIDE_M, DEPTH_M = 1.95, 0.75  # the ground between the boards in front and behind
FRONT_M, REAR_M, THICK_M = 0.38, 0.15, 0.04  # these boards


def _simulate(
    elasticity: float, drag: float, rng: np.random.Generator, frames: int, fps: float
) -> Trial:
    puck = Puck(radius=rng.uniform(0.2, 0.24), depth=rng.uniform(0.22, 0.32))
    drop = rng.uniform(*HEIGHT_M)
    start = (rng.uniform(-0.38, 0.38), drop + puck.radius)
    space = make_space([FLOOR], drag_per_s=drag)
    body = add_puck(space, puck, at=start, elasticity=elasticity, friction=0.5)
    states, seconds = simulate_bodies(space, [body], frames=frames, fps=fps)
    step, speed, height = first_bounce(states[:, 0], puck.radius)
    return Trial(
        prisms=(
            _board(REAR_M, middle_z=-DEPTH_M / 2, surface=1),
            _board(FRONT_M, middle_z=DEPTH_M / 2, surface=0),
        ),
        pucks=(puck,),
        tracks=states[:: steps_per_frame(fps), :, :2],
        labels={
            "elasticity": elasticity,
            "drag_per_s": drag,
            "drop_height_m": drop,
            "fall_seconds": math.nan if step is None else float(seconds[step]),
            "impact_speed_m_s": speed,
            "bounce_height_m": height,
            "final_height_m": float(states[-1, 0, 1] - puck.radius),
        },
        view=(-0.9, 0.0, 0.9, 1.95),
        back_z=-1.1,
    )


def _board(height: float, *, middle_z: float, surface: int) -> Prism:
    half = WIDE_M / 2
    corners = ((-half, 0.0), (half, 0.0), (half, height), (-half, height))
    return Prism(corners=corners, depth=THICK_M, middle_z=middle_z, surface=surface)


FALL = Scene(
    name="fall",
    properties=(
        Property(label="elasticity", letter="e", low=0.1, high=0.9),
        Property(label="drag_per_s", letter="d", low=0.0, high=3.0),
    ),
    simulate=_simulate,
)
