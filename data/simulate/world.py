"""What a scene hands to the renderer: fixed blocks, moving pucks, and what happened to them.

Scenes live in the plane z = 0, in metres, y upwards; everything is extruded along z, so that a
camera that looks at it from the side sees depth. Pucks never turn (their moment of inertia is
infinite): a free disc rolls down a ramp once its friction exceeds a third of the slope, and from
there on its motion says nothing about the friction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pymunk
from numpy.typing import NDArray

GRAVITY_M_S2 = 9.81
STEPS_PER_SECOND = 1920  # bounce heights within 2 % of e^2 h, sliding acceleration within 0.1 %


@dataclass(frozen=True, kw_only=True)
class Prism:
    """A convex block: `corners` (n, 2) in metres, extruded over |z - middle_z| <= depth / 2."""

    corners: tuple[tuple[float, float], ...]
    depth: float
    middle_z: float = 0.0
    material: int = 0

    def __post_init__(self) -> None:
        if len(self.corners) < 3 or self.depth <= 0:
            raise ValueError("a prism needs at least three corners and a positive depth")


@dataclass(frozen=True, kw_only=True)
class Puck:
    """A disc that never turns, its axis along z: radius and depth in metres."""

    radius: float
    depth: float


@dataclass(frozen=True, kw_only=True)
class World:
    """One simulated trial.

    `tracks` is float64 (frames, pucks, 2): centres in metres. `view` is the box (left, bottom,
    right, top) in metres that the camera keeps in the picture; like everything else that can be
    seen in the first frame it must not depend on the labels. The wall behind stands at z =
    `back_z`. `labels` are exact: the hidden
    properties, and the outcomes with their unit in the name (NaN where undefined).
    """

    prisms: tuple[Prism, ...]
    pucks: tuple[Puck, ...]
    tracks: NDArray[np.float64]
    labels: Mapping[str, float]
    view: tuple[float, float, float, float]
    back_z: float = -0.75

    def __post_init__(self) -> None:
        if self.tracks.ndim != 3 or self.tracks.shape[1:] != (len(self.pucks), 2):
            raise ValueError(
                f"tracks have shape {self.tracks.shape}, not (frames, {len(self.pucks)}, 2)"
            )

    def __repr__(self) -> str:
        return f"World(tracks={self.tracks.shape}, labels={dict(self.labels)})"


@dataclass(frozen=True, kw_only=True)
class Property:
    """A hidden property: its label, the letter in cell names, and its physical range."""

    label: str
    letter: str
    low: float
    high: float

    def levels(self, grid: int) -> NDArray[np.float64]:
        """`grid` evenly spaced physical values, from `low` to `high`."""
        return np.linspace(self.low, self.high, grid)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A kind of scene: two hidden properties, and the function that plays one trial.

    `play(first, second, rng, frames, fps)` takes the two physical values, and draws everything
    else (start, sizes) from `rng`, in the same order whatever the values are.
    """

    name: str
    properties: tuple[Property, Property]
    play: Callable[[float, float, np.random.Generator, int, float], World]


def space(prisms: Sequence[Prism]) -> pymunk.Space:
    """A pymunk space in metres with the blocks in it.

    pymunk multiplies the coefficients of two touching shapes. The blocks have 1 for both, so
    that a puck's own elasticity and friction are those of the contact.
    """
    made = pymunk.Space()
    made.gravity = (0.0, -GRAVITY_M_S2)
    made.iterations = 10
    made.collision_slop = 1e-5
    for prism in prisms:
        shape = pymunk.Poly(made.static_body, prism.corners)
        shape.elasticity = 1.0
        shape.friction = 1.0
        made.add(shape)
    return made


def add_puck(
    to: pymunk.Space, puck: Puck, *, at: tuple[float, float], elasticity: float, friction: float,
    mass: float = 1.0,
) -> pymunk.Body:  # fmt: skip
    """A puck that cannot turn, at rest at `at`."""
    body = pymunk.Body(mass, math.inf)
    body.position = at
    shape = pymunk.Circle(body, puck.radius)
    shape.elasticity = elasticity
    shape.friction = friction
    to.add(body, shape)
    return body


def play(
    to: pymunk.Space, bodies: Sequence[pymunk.Body], *, frames: int, fps: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Runs the space over `frames` frames: (states, times).

    States are float64 (steps + 1, bodies, 4): x, y, vx, vy in SI units at every step of the
    solver; frame `i` is step `i * steps_per_frame(fps)`.
    """
    per_frame = steps_per_frame(fps)
    dt = 1.0 / (fps * per_frame)
    steps = (frames - 1) * per_frame
    states = np.empty((steps + 1, len(bodies), 4))
    for step in range(steps + 1):
        for index, body in enumerate(bodies):
            states[step, index] = (*body.position, *body.velocity)
        if step < steps:
            to.step(dt)
    return states, np.arange(steps + 1, dtype=np.float64) * dt


def steps_per_frame(fps: float) -> int:
    """How many steps of the solver one frame takes."""
    return max(1, math.ceil(STEPS_PER_SECOND / fps))
