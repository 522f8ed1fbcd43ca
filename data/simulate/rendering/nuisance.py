"""Other looks than any ordinary clip has: each range lies outside that of `sample_appearance`."""

from __future__ import annotations

import math

import numpy as np

from data.simulate.rendering.appearance import (
    VARIANTS,
    Appearance,
    PuckColours,
    Surface,
    colour,
    texture,
)

PATTERNS, MARKS = ("dots", "zigzag", "waves", "patches"), ("bars", "spot")


def sample_nuisance(rng: np.random.Generator, *, blocks: int, pucks: int) -> Appearance:
    """Sample the appearance of a scene with `blocks` surfaces of blocks and `pucks` pucks.

    Textures and marks are of other patterns, colours deeper on what is fixed and duller on what
    moves, the light comes from farther to the side, and the camera stands elsewhere.
    """
    azimuth, height = _either(rng, (-1.3, -1.0), (1.0, 1.3)), rng.uniform(0.55, 0.8)
    light = np.array(
        [
            math.sin(azimuth) * math.cos(height),
            math.sin(height),
            math.cos(azimuth) * math.cos(height),
        ]
    )
    return Appearance(
        floor=_sample_surface(rng, tile_m=0.8),
        back=_sample_surface(rng, tile_m=1.2),
        blocks=tuple(_sample_surface(rng, tile_m=0.7) for _ in range(blocks)),
        pucks=tuple(_sample_puck_colours(rng) for _ in range(pucks)),
        light=light,
        ambient=_either(rng, (0.32, 0.4), (0.6, 0.7)),
        warmth=_either(rng, (-0.2, -0.1), (0.1, 0.2)),
        yaw=_either(rng, (-0.65, -0.5), (0.15, 0.3)),
        pitch=rng.uniform(0.43, 0.55),
        roll=_either(rng, (-0.1, -0.05), (0.05, 0.1)),
        field=_either(rng, (0.5, 0.7), (1.05, 1.2)),
        zoom=rng.uniform(1.15, 1.3),
        shift=(_either(rng, (-0.06, -0.035), (0.035, 0.06)), rng.uniform(-0.03, 0.03)),
    )


def _either(rng: np.random.Generator, *ranges: tuple[float, float]) -> float:
    """Return a number in one of the ranges, which are as likely as each other."""
    return float(rng.uniform(*ranges[int(rng.integers(len(ranges)))]))


def _sample_puck_colours(rng: np.random.Generator) -> PuckColours:
    hue = rng.uniform()
    return PuckColours(
        face=colour(hue, rng.uniform(0.0, 0.5), rng.uniform(0.75, 1.0)),
        mark_colour=colour(hue + rng.uniform(0.35, 0.65), rng.uniform(0.4, 1.0), 0.35),
        mark=str(rng.choice(MARKS)),
        angle=rng.uniform(0, 2 * math.pi),
    )


def _sample_surface(rng: np.random.Generator, *, tile_m: float) -> Surface:
    hue, saturation, bright = rng.uniform(), rng.uniform(0.55, 0.85), rng.uniform(0.4, 0.54)
    return Surface(
        low=colour(hue + rng.uniform(0.1, 0.4), saturation, bright * rng.uniform(0.4, 0.75)),
        high=colour(hue, saturation, bright),
        texture=texture(str(rng.choice(PATTERNS)), int(rng.integers(VARIANTS))),
        tile_m=tile_m * _either(rng, (0.5, 0.75), (1.3, 1.8)),
        shift=(rng.uniform(), rng.uniform()),
    )
