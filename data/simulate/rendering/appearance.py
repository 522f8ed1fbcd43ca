"""The appearance of a clip: sampled at random, independent of the labels."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from data.simulate.rendering.camera import Camera

TEXELS = 128  # side of a texture; a power of two, so that it wraps with a mask
VARIANTS = 16  # textures of one pattern; each is moved, scaled and coloured for its clip

Colour = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A surface: two colours (RGB, 0..1) mixed by a texture float32 (128, 128).

    The texture repeats every `tile_m` metres, and is moved by `shift` of its sides.
    """

    low: Colour
    high: Colour
    texture: NDArray[np.float32]
    tile_m: float
    shift: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class PuckColours:
    """A puck's colours, and the mark on its face: its name in `MARKS`, turned by `angle`."""

    face: Colour
    mark_colour: Colour
    mark: str
    angle: float


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """Colours, light and camera of one clip.

    `light` (3,) is the unit vector to the light. `sway` (frames, 5) is what a camera in a hand adds
    to yaw, pitch, roll and shift, frame by frame; None is a camera on a tripod.
    """

    floor: Surface
    back: Surface
    blocks: tuple[Surface, ...]
    pucks: tuple[PuckColours, ...]
    light: NDArray[np.float64]
    ambient: float
    warmth: float
    yaw: float
    pitch: float
    roll: float
    field: float
    zoom: float
    shift: tuple[float, float]
    sway: NDArray[np.float64] | None = None

    def camera(
        self, view: tuple[float, float, float, float], *, size: int, frame: int = 0
    ) -> Camera:
        """Return the camera of one frame, `size` pixels wide and high, of a `Trial.view`."""
        yaw, pitch, roll, x, y = np.zeros(5) if self.sway is None else self.sway[frame]
        return Camera.around(
            view, size=size, yaw=self.yaw + yaw, pitch=self.pitch + pitch, roll=self.roll + roll,
            field=self.field, zoom=self.zoom, shift=(self.shift[0] + x, self.shift[1] + y),
        )  # fmt: skip


MARKS = ("cross", "ring", "half", "dots")


def sample_appearance(rng: np.random.Generator, *, blocks: int, pucks: int) -> Appearance:
    """Sample the appearance of a scene with `blocks` surfaces of blocks and `pucks` pucks."""
    azimuth, height = rng.uniform(-0.9, 0.9), rng.uniform(0.85, 1.25)
    light = np.array(
        [
            math.sin(azimuth) * math.cos(height),
            math.sin(height),
            math.cos(azimuth) * math.cos(height),
        ]
    )
    return Appearance(
        floor=_sample_surface(
            rng, rng.choice(["checker", "planks", "tiles", "speckle"]), tile_m=0.8
        ),
        back=_sample_surface(
            rng, rng.choice(["bricks", "stripes", "speckle"]), tile_m=1.2, pale=True
        ),
        blocks=tuple(_sample_surface(rng, "wood", tile_m=0.7) for _ in range(blocks)),
        pucks=tuple(_sample_puck_colours(rng) for _ in range(pucks)),
        light=light,
        ambient=rng.uniform(0.42, 0.58),
        warmth=rng.uniform(-0.07, 0.07),
        yaw=rng.uniform(-0.45, 0.1),
        pitch=rng.uniform(0.18, 0.40),
        roll=rng.uniform(-0.04, 0.04),
        field=rng.uniform(0.75, 1.0),
        zoom=rng.uniform(1.0, 1.12),
        shift=(rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03)),
    )


def _sample_puck_colours(rng: np.random.Generator) -> PuckColours:
    hue = rng.uniform()
    return PuckColours(
        face=colour(hue, rng.uniform(0.65, 0.95), rng.uniform(0.6, 1.0)),
        mark_colour=colour(
            hue + rng.uniform(0.35, 0.65), rng.uniform(0.0, 0.8), rng.uniform(0.7, 1.0)
        ),
        mark=str(rng.choice(MARKS)),
        angle=rng.uniform(0, 2 * math.pi),
    )


def colour(hue: float, saturation: float, value: float) -> Colour:
    """Return the colour RGB of a hue (any number; it repeats with 1), saturation and value."""
    return colorsys.hsv_to_rgb(hue % 1.0, saturation, value)


def _sample_surface(
    rng: np.random.Generator, pattern: str, *, tile_m: float, pale: bool = False
) -> Surface:
    hue = rng.uniform()
    saturation = rng.uniform(0.05, 0.3) if pale else rng.uniform(0.1, 0.5)
    bright = rng.uniform(0.75, 0.95) if pale else rng.uniform(0.55, 0.9)
    contrast = rng.uniform(0.12, 0.25) if pale else rng.uniform(0.2, 0.5)
    high = colour(hue, saturation, bright)
    low = colour(hue + rng.uniform(-0.08, 0.08), min(1, saturation * 1.3), bright * (1 - contrast))
    return Surface(
        low=low, high=high, texture=texture(pattern, int(rng.integers(VARIANTS))),
        tile_m=tile_m * rng.uniform(0.8, 1.25), shift=(rng.uniform(), rng.uniform()),
    )  # fmt: skip


@cache
def texture(pattern: str, variant: int) -> NDArray[np.float32]:
    """Return a texture float32 (128, 128) in 0..1 that repeats seamlessly; shared, so read-only.

    Raises:
        ValueError: There is no such pattern.
    """
    rng = np.random.default_rng([*pattern.encode(), variant])
    v, u = np.meshgrid(*(2 * [np.arange(TEXELS) / TEXELS]), indexing="ij")
    grain = _noise(rng, (8, 8)) * 0.5 + _noise(rng, (32, 32)) * 0.5
    if pattern == "checker":
        base = ((np.floor(u * 4) + np.floor(v * 4)) % 2).astype(float)
    elif pattern == "stripes":
        base = (np.floor(u * 8) % 2).astype(float)
    elif pattern == "tiles":
        base = (np.minimum((u * 4) % 1, (v * 4) % 1) > 0.08).astype(float)
    elif pattern == "bricks":
        row = np.floor(v * 8)
        base = (np.minimum((u * 4 + 0.5 * (row % 2)) % 1, (v * 8) % 1 * 0.5) > 0.06).astype(float)
    elif pattern == "planks":
        tones = rng.uniform(0.2, 0.9, size=8)
        base = tones[np.floor(v * 8).astype(int)] * (((v * 8) % 1) > 0.06)
        grain = _noise(rng, (4, 64)).T * 0.6 + grain * 0.4
    elif pattern == "wood":
        base = 0.5 + 0.5 * np.sin(2 * np.pi * (v * 6 + 1.2 * _noise(rng, (4, 4))))
        grain = _noise(rng, (4, 64)).T
    elif pattern == "speckle":
        base = _noise(rng, (64, 64))
    elif pattern == "dots":
        base = (np.hypot((u * 6) % 1 - 0.5, (v * 6) % 1 - 0.5) < 0.33).astype(float)
    elif pattern == "zigzag":
        base = (np.floor(v * 8 + 2 * np.abs((u * 4) % 1 - 0.5)) % 2).astype(float)
    elif pattern == "waves":
        base = 0.5 + 0.5 * np.sin(2 * np.pi * (v * 5 + 0.3 * np.sin(4 * np.pi * u)))
    elif pattern == "patches":
        base = (_noise(rng, (5, 5)) > 0.5).astype(float)
    else:
        raise ValueError(f"no texture is called {pattern!r}")
    values = (0.75 * base + 0.25 * grain).astype(np.float32)
    values.flags.writeable = False
    return values


def _noise(rng: np.random.Generator, cells: tuple[int, int]) -> NDArray[np.float64]:
    """Return smooth periodic noise (128, 128) in 0..1, `cells` bumps down and across."""
    coarse = rng.uniform(size=cells)
    for axis, count in enumerate(cells):
        position = np.arange(TEXELS) * count / TEXELS
        low = np.floor(position).astype(int)
        part = position - low
        part = part * part * (3 - 2 * part)
        weight = part[:, None] if axis == 0 else part[None, :]
        coarse = (
            np.take(coarse, low % count, axis=axis) * (1 - weight)
            + np.take(coarse, (low + 1) % count, axis=axis) * weight
        )
    return coarse
