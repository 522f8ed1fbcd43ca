"""A puck hangs from a spring and is let go: stiffness x damping.

Closed forms (tested), with the mass m = 0.8 kg, the stiffness k (N/m) and the damping c (N s/m):
the period is 2 pi / sqrt(k / m - (c / 2m)^2), the swing shrinks with exp(-c t / 2m), and the puck
comes to rest m g / k below the height at which the spring is relaxed. It starts about 10 cm above
that height, wherever it will come to rest.
"""

from __future__ import annotations

import math

import numpy as np
import pymunk

from data.simulate.scenes.physics import (
    GRAVITY_M_S2,
    add_puck,
    make_space,
    simulate_bodies,
    steps_per_frame,
)
from data.simulate.scenes.scene import Coil, Prism, Property, Puck, Scene, Trial

MASS_KG = 0.8
BEAM_M = 1.55  # height of the beam's lower side
RELAXED_M = 0.3  # length of the spring without a load
BOARD_M = 0.5


def _simulate(
    stiffness: float, damping: float, rng: np.random.Generator, frames: int, fps: float
) -> Trial:
    puck = Puck(radius=rng.uniform(0.13, 0.16), depth=rng.uniform(0.14, 0.22))
    x = rng.uniform(-0.15, 0.15)
    relaxed = BEAM_M - RELAXED_M - puck.radius  # height of the centre
    start = relaxed + rng.uniform(0.08, 0.12)
    space = make_space([])
    body = add_puck(space, puck, at=(x, start), elasticity=0.0, friction=0.0, mass=MASS_KG)
    space.add(
        pymunk.DampedSpring(
            space.static_body, body, (x, BEAM_M), (0.0, puck.radius), RELAXED_M, stiffness, damping
        )
    )
    states, _ = simulate_bodies(space, [body], frames=frames, fps=fps)
    decay = damping / (2 * MASS_KG)
    beam = ((-0.65, BEAM_M), (0.65, BEAM_M), (0.65, BEAM_M + 0.08), (-0.65, BEAM_M + 0.08))
    board = ((-0.65, 0.0), (0.65, 0.0), (0.65, BOARD_M), (-0.65, BOARD_M))
    return Trial(
        prisms=(
            Prism(corners=beam, depth=0.2, surface=0),
            Prism(corners=board, depth=0.03, middle_z=0.2, surface=1),
        ),
        pucks=(puck,),
        tracks=states[:: steps_per_frame(fps), :, :2],
        labels={
            "stiffness_n_m": stiffness,
            "damping_n_s_m": damping,
            "period_seconds": 2 * math.pi / math.sqrt(stiffness / MASS_KG - decay**2),
            "rest_extension_m": MASS_KG * GRAVITY_M_S2 / stiffness,
            "lowest_height_m": float(states[:, 0, 1].min()),
            "final_height_m": float(states[-1, 0, 1]),
        },
        view=(-0.6, 0.0, 0.6, BEAM_M + 0.1),
        coil=Coil(anchor=(x, BEAM_M), radius=0.05, turns=9),
    )


SPRING = Scene(
    name="spring",
    properties=(
        Property(label="stiffness_n_m", letter="s", low=20.0, high=60.0, geometric=True),
        Property(label="damping_n_s_m", letter="d", low=0.1, high=4.0),
    ),
    simulate=_simulate,
)
