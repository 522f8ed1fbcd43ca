"""A puck falls through a fluid and bounces: elasticity x drag.

Closed forms (tested): with the drag k (1/s) it falls with the speed (g / k) (1 - exp(-k t)); a
bounce takes the speed v to e v, hence for k = 0 the height h to e^2 h.
"""

from __future__ import annotations

import math

import numpy as np

from data.simulate.physics import FLOOR, add_puck, first_bounce, play, space, steps_per_frame
from data.simulate.world import Prism, Property, Puck, Scene, World

HEIGHT_M = (0.85, 1.0)  # from the floor to the puck's lower side, at the start
BOARD_M = 0.26
DEPTH_M = 0.5


def _play(
    elasticity: float, drag: float, rng: np.random.Generator, frames: int, fps: float
) -> World:
    puck = Puck(radius=rng.uniform(0.13, 0.16), depth=rng.uniform(0.14, 0.22))
    start = (rng.uniform(-0.25, 0.25), rng.uniform(*HEIGHT_M) + puck.radius)
    board = ((-0.65, 0.0), (0.65, 0.0), (0.65, BOARD_M), (-0.65, BOARD_M))
    rear = ((-0.65, 0.0), (0.65, 0.0), (0.65, 0.1), (-0.65, 0.1))
    world = space([FLOOR], drag_per_s=drag)
    body = add_puck(world, puck, at=start, elasticity=elasticity, friction=0.5)
    states, seconds = play(world, [body], frames=frames, fps=fps)
    step, speed, height = first_bounce(states[:, 0], puck.radius)
    return World(
        prisms=(
            Prism(corners=rear, depth=0.03, middle_z=0.03 - DEPTH_M / 2, material=1),
            Prism(corners=board, depth=0.03, middle_z=DEPTH_M / 2 - 0.03, material=0),
        ),
        pucks=(puck,),
        tracks=states[:: steps_per_frame(fps), :, :2],
        labels={
            "elasticity": elasticity,
            "drag_per_s": drag,
            "fall_seconds": math.nan if step is None else float(seconds[step]),
            "impact_speed_m_s": speed,
            "bounce_height_m": height,
            "final_height_m": float(states[-1, 0, 1] - puck.radius),
        },
        view=(-0.6, 0.0, 0.6, 1.3),
    )


FALL = Scene(
    name="fall",
    properties=(
        Property(label="elasticity", letter="e", low=0.1, high=0.9),
        Property(label="drag_per_s", letter="d", low=0.0, high=4.0),
    ),
    play=_play,
)
