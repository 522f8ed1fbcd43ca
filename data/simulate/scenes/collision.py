"""A sliding puck strikes one at rest: mass ratio x restitution.

Closed forms (tested), with r = m1 / m2 and v the speed of the striker just before: the struck puck
leaves with v r (1 + e) / (r + 1), the striker goes on with v (r - e) / (r + 1). Then both slow
down with mu g on a floor whose friction is the same in every clip. Nothing visible depends on
a mass.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from data.simulate.scenes.physics import (
    FLOOR,
    add_puck,
    make_space,
    simulate_bodies,
    steps_per_frame,
)
from data.simulate.scenes.scene import Property, Puck, Scene, Trial

FRICTION = 0.08
LAUNCH_M_S = (1.2, 1.4, 1.6, 1.8, 2.0)  # the action: one of these, drawn at random


def _simulate(
    ratio: float, restitution: float, rng: np.random.Generator, frames: int, fps: float
) -> Trial:
    # One radius for both: discs on a floor touch along a level line only if they are equal.
    radius = rng.uniform(0.17, 0.20)
    pucks = tuple(Puck(radius=radius, depth=rng.uniform(0.14, 0.22)) for _ in range(2))
    at = (rng.uniform(-0.75, -0.62), rng.uniform(-0.12, 0.05))
    launch = float(rng.choice(LAUNCH_M_S))
    space = make_space([FLOOR], elasticity=0.0)
    striker = add_puck(
        space, pucks[0], at=(at[0], radius), elasticity=restitution, friction=FRICTION, mass=ratio
    )
    struck = add_puck(space, pucks[1], at=(at[1], radius), elasticity=1.0, friction=FRICTION)
    striker.velocity = (launch, 0.0)
    states, seconds = simulate_bodies(space, [striker, struck], frames=frames, fps=fps)
    labels = {"mass_ratio": ratio, "restitution": restitution, "launch_speed_m_s": launch}
    return Trial(
        prisms=(),
        pucks=pucks,
        tracks=states[:: steps_per_frame(fps), :, :2],
        labels=labels | _outcomes(states, seconds),
        view=(-0.9, 0.0, 0.9, 0.5),
    )


def _outcomes(states: NDArray[np.float64], seconds: NDArray[np.float64]) -> dict[str, float]:
    """Return speeds just before and after the impact (or NaN), and how far the struck puck goes."""
    struck = np.flatnonzero(states[:, 1, 2] > 1e-3)
    final = float(states[-1, 1, 0] - states[0, 1, 0])
    if not struck.size:
        return {
            "impact_seconds": math.nan, "impact_speed_m_s": math.nan,
            "striker_speed_m_s": math.nan, "struck_speed_m_s": math.nan,
            "struck_distance_m": final,
        }  # fmt: skip
    step = int(struck[0])
    return {
        "impact_seconds": float(seconds[step]),
        "impact_speed_m_s": float(states[step - 1, 0, 2]),
        "striker_speed_m_s": float(states[step, 0, 2]),
        "struck_speed_m_s": float(states[step, 1, 2]),
        "struck_distance_m": final,
    }


COLLISION = Scene(
    name="collision",
    properties=(
        Property(label="mass_ratio", letter="m", low=0.25, high=4.0, geometric=True),
        Property(label="restitution", letter="e", low=0.1, high=0.9),
    ),
    simulate=_simulate,
)
