"""A puck slides down a ramp, drops off its end, and bounces: elasticity x friction.

Closed forms (tested): it slides with g (sin a - mu cos a); a bounce takes the vertical speed v to
e v, hence the height e^2 v^2 / 2g, and the horizontal speed u to max(0, u - mu (1 + e) v), because
a body that cannot turn slips through the whole impact unless friction stops it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from data.simulate.scenes.physics import (
    FLOOR,
    add_puck,
    first_bounce,
    make_space,
    simulate_bodies,
    steps_per_frame,
)
from data.simulate.scenes.scene import Prism, Property, Puck, Scene, Trial

ANGLE = math.radians(35.0)
DROP_M = 0.5  # height of the ramp's lower end
LENGTH_M = 1.2
WALL_M = 0.85  # where the wall at the right begins
BOARD_M = 0.28  # height of the board in front: a puck that bounces is visible above it
DEPTH_M = 0.4
RADIUS_M = (0.12, 0.15)
SLIDE_M = (0.5, 0.6)  # how far from the ramp's end the puck starts
REST_M_S = 0.02  # slower than this is at rest
VIEW_M = (-0.55, 0.0, WALL_M, 1.05)


def _make_blocks() -> tuple[Prism, ...]:
    run, rise = LENGTH_M * math.cos(ANGLE), LENGTH_M * math.sin(ANGLE)
    ramp = ((0.0, 0.0), (0.0, DROP_M), (-run, DROP_M + rise), (-run, 0.0))
    wall = ((WALL_M, 0.0), (WALL_M + 0.12, 0.0), (WALL_M + 0.12, 0.55), (WALL_M, 0.55))
    board = ((0.0, 0.0), (WALL_M + 0.12, 0.0), (WALL_M + 0.12, BOARD_M), (0.0, BOARD_M))
    return (
        Prism(corners=ramp, depth=DEPTH_M, surface=0),
        Prism(corners=wall, depth=DEPTH_M, surface=1),
        Prism(corners=board, depth=0.03, middle_z=(DEPTH_M - 0.03) / 2, surface=1),
    )


def _simulate(
    elasticity: float, friction: float, rng: np.random.Generator, frames: int, fps: float
) -> Trial:
    puck = Puck(radius=rng.uniform(*RADIUS_M), depth=rng.uniform(0.14, 0.22))
    slide = rng.uniform(*SLIDE_M)
    start = (
        -slide * math.cos(ANGLE) + puck.radius * math.sin(ANGLE),
        DROP_M + slide * math.sin(ANGLE) + puck.radius * math.cos(ANGLE),
    )
    blocks = _make_blocks()
    space = make_space((*blocks[:2], FLOOR))
    body = add_puck(space, puck, at=start, elasticity=elasticity, friction=friction)
    states, seconds = simulate_bodies(space, [body], frames=frames, fps=fps)
    states = states[:, 0]  # (steps + 1, 4)
    labels = {"elasticity": elasticity, "friction": friction, **_outcomes(states, seconds, puck)}
    return Trial(
        prisms=blocks,
        pucks=(puck,),
        tracks=states[:: steps_per_frame(fps), None, :2],
        labels=labels,
        view=VIEW_M,
    )


def _outcomes(
    states: NDArray[np.float64], seconds: NDArray[np.float64], puck: Puck
) -> dict[str, float]:
    """Return the outcomes, from states (steps, 4) and times (steps,).

    Time and speed at the ramp's end; speed downwards at the first bounce, and its height; where
    the puck is at the end of the clip, and whether that is where it rests. NaN where the clip
    ends before it happens.
    """
    x, y, vx, vy = states.T
    along = x * math.cos(ANGLE) - (y - DROP_M) * math.sin(ANGLE)
    beyond = np.flatnonzero(along >= 0)
    step = int(beyond[0]) if beyond.size else None
    _, impact_speed, height = first_bounce(states, puck.radius)
    resting = math.hypot(vx[-1], vy[-1]) < REST_M_S
    return {
        "exit_seconds": math.nan if step is None else float(seconds[step]),
        "exit_speed_m_s": math.nan if step is None else math.hypot(vx[step], vy[step]),
        "impact_speed_m_s": impact_speed,
        "bounce_height_m": height,
        "final_position_m": float(x[-1]),
        "rest_position_m": float(x[-1]) if resting else math.nan,
    }


RAMP = Scene(
    name="ramp",
    properties=(
        Property(label="elasticity", letter="e", low=0.1, high=0.9),
        Property(label="friction", letter="f", low=0.05, high=0.5),
    ),
    simulate=_simulate,
)
