"""The record of a scene, and of what it simulates: fixed blocks, moving pucks, and their paths.

A scene is in the plane z = 0, in metres, y upwards; everything is extruded along z, so that a
camera at the side sees depth. Pucks never turn (their moment of inertia is infinite): a free disc
rolls down a ramp once its friction exceeds a third of the slope, and its motion then no longer
depends on the friction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Prism:
    """A convex block: `corners` (n, 2) in metres, extruded over |z - middle_z| <= depth / 2."""

    corners: tuple[tuple[float, float], ...]
    depth: float
    middle_z: float = 0.0
    surface: int = 0

    def __post_init__(self) -> None:
        if len(self.corners) < 3 or self.depth <= 0:
            raise ValueError("a prism needs at least three corners and a positive depth")


@dataclass(frozen=True, kw_only=True)
class Puck:
    """A disc that never turns, its axis along z: radius and depth in metres."""

    radius: float
    depth: float


@dataclass(frozen=True, kw_only=True)
class Coil:
    """A visible spring from `anchor` (x, y) in metres to the top of the only puck."""

    anchor: tuple[float, float]
    radius: float
    turns: int


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One simulated trial.

    `tracks` is float64 (frames, pucks, 2): centres in metres. `view` is the box (left, bottom,
    right, top) in metres that the camera keeps in the picture; like everything else that is visible
    in the first frame it must not depend on the labels. The wall behind is at z = `back_z`.
    `labels` are exact: the hidden properties, and the outcomes with their unit in the name (NaN
    where undefined).

    Raises:
        ValueError: `tracks` has another shape.
    """

    prisms: tuple[Prism, ...]
    pucks: tuple[Puck, ...]
    tracks: NDArray[np.float64]
    labels: Mapping[str, float]
    view: tuple[float, float, float, float]
    back_z: float = -0.75
    coil: Coil | None = None

    def __post_init__(self) -> None:
        if self.tracks.ndim != 3 or self.tracks.shape[1:] != (len(self.pucks), 2):
            raise ValueError(
                f"tracks have shape {self.tracks.shape}, not (frames, {len(self.pucks)}, 2)"
            )

    def __repr__(self) -> str:
        return f"Trial(tracks={self.tracks.shape}, labels={dict(self.labels)})"


@dataclass(frozen=True, kw_only=True)
class Property:
    """A hidden property: its label, the letter in cell names, and its physical range."""

    label: str
    letter: str
    low: float
    high: float
    geometric: bool = False

    def levels(self, grid: int) -> NDArray[np.float64]:
        """Return `grid` values from `low` to `high`, at equal distances or (`geometric`) ratios."""
        return (np.geomspace if self.geometric else np.linspace)(self.low, self.high, grid)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A kind of scene: two hidden properties, and the function that simulates one trial.

    `simulate(first, second, rng, frames, fps)` takes the two physical values, and draws everything
    else (start, sizes) from `rng`, in the same order for all values.
    """

    name: str
    properties: tuple[Property, Property]
    simulate: Callable[[float, float, np.random.Generator, int, float], Trial]
