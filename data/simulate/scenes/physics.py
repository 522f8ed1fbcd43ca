"""The rigid bodies of a scene in pymunk, in SI units, and measurements of their paths."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pymunk
from numpy.typing import NDArray

from data.simulate.scenes.scene import Prism, Puck

GRAVITY_M_S2 = 9.81
STEPS_PER_SECOND = 960  # bounce heights within 2 % of e^2 h, sliding acceleration within 0.2 %

FLOOR = Prism(corners=((-9.0, -1.0), (9.0, -1.0), (9.0, 0.0), (-9.0, 0.0)), depth=1.0)


def make_space(
    prisms: Sequence[Prism], *, elasticity: float = 1.0, drag_per_s: float = 0.0
) -> pymunk.Space:
    """Return a pymunk space in metres with the blocks in it.

    pymunk multiplies the coefficients of two touching shapes. The blocks have friction 1 and
    `elasticity` 1, so that a puck's own coefficients are those of the contact. What moves
    loses `drag_per_s` of its speed per second (linear drag, dv/dt = g - k v).
    """
    space = pymunk.Space()
    space.gravity = (0.0, -GRAVITY_M_S2)
    space.damping = math.exp(-drag_per_s)
    space.iterations = 10
    space.collision_slop = 1e-5
    for prism in prisms:
        shape = pymunk.Poly(space.static_body, prism.corners)
        shape.elasticity = elasticity
        shape.friction = 1.0
        space.add(shape)
    return space


def add_puck(
    space: pymunk.Space, puck: Puck, *, at: tuple[float, float], elasticity: float, friction: float,
    mass: float = 1.0,
) -> pymunk.Body:  # fmt: skip
    """Add a puck that cannot turn, at rest at `at`; return its body."""
    body = pymunk.Body(mass, math.inf)
    body.position = at
    shape = pymunk.Circle(body, puck.radius)
    shape.elasticity = elasticity
    shape.friction = friction
    space.add(body, shape)
    return body


def simulate_bodies(
    space: pymunk.Space, bodies: Sequence[pymunk.Body], *, frames: int, fps: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Run the space for `frames` frames; return (states, times).

    States are float64 (steps + 1, bodies, 4): x, y, vx, vy in SI units at every step of the
    solver; frame `i` is step `i * steps_per_frame(fps)`.
    """
    per_frame = steps_per_frame(fps)
    dt = 1.0 / (fps * per_frame)
    steps = (frames - 1) * per_frame
    values: list[float] = []
    for step in range(steps + 1):
        if step:
            space.step(dt)
        for body in bodies:
            values.extend(body.position)
            values.extend(body.velocity)
    states = np.array(values).reshape(steps + 1, len(bodies), 4)
    return states, np.arange(steps + 1, dtype=np.float64) * dt


def steps_per_frame(fps: float) -> int:
    """Return the number of steps of the solver per frame."""
    return max(1, math.ceil(STEPS_PER_SECOND / fps))


def first_bounce(states: NDArray[np.float64], radius: float) -> tuple[int | None, float, float]:
    """Find the first bounce off the floor of a puck with states (steps, 4).

    Returns:
        The step before it, the speed downwards just before (m/s), and how high the puck's centre
        then rises (m); None and NaN where the clip ends too early.
    """
    y, vy = states[:, 1], states[:, 3]
    reverses = (vy[:-1] < -0.1) & (vy[1:] > vy[:-1] + 0.1) & (y[1:] < radius * 1.3)
    steps = np.flatnonzero(reverses)
    if not steps.size:
        return None, math.nan, math.nan
    step = int(steps[0])
    falling = np.flatnonzero(vy[step + 1 :] <= 0)
    height = math.nan
    if falling.size:
        height = max(0.0, float(y[step + 1 + falling[0]] - y[step + 1]))
    return step, float(-vy[step]), height
