"""Draws the coil of a spring between its anchor and the body that hangs from it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from data.simulate.camera import Camera
from data.simulate.look import Look
from data.simulate.world import Coil

FINER = 3  # drawn this much larger, then reduced, for smooth lines
WIRE_M = 0.013
STEPS = 12  # straight pieces per turn
STEEL = {False: 0.42, True: 0.78}  # brightness of the half turns behind and in front


def draw(
    picture: NDArray[np.uint8], coil: Coil, camera: Camera, look: Look, end: tuple[float, float]
) -> None:
    """Draws a coil from its anchor to `end` (x, y) into a picture (n, n, 3)."""
    along = np.linspace(0, 1, coil.turns * STEPS + 1)
    turn = 2 * math.pi * coil.turns * along
    taper = np.minimum(1, np.minimum(along, 1 - along) * 12) * coil.radius
    line = np.outer(1 - along, coil.anchor) + np.outer(along, end)  # (points, 2)
    points = np.stack(
        [line[:, 0] + taper * np.cos(turn), line[:, 1], taper * np.sin(turn)], axis=-1
    )
    x, y, depth = camera.project(points)
    n = camera.size
    left, top = max(int(x.min()) - 3, 0), max(int(y.min()) - 3, 0)
    right, bottom = min(math.ceil(x.max()) + 3, n), min(math.ceil(y.max()) + 3, n)
    if left >= right or top >= bottom:
        return
    width = max(1, round(FINER * WIRE_M * camera.focal_pixels / float(depth.mean())))
    places = np.stack([x - left, y - top], axis=-1) * FINER
    window = picture[top:bottom, left:right]
    for front, steel in STEEL.items():
        mask = Image.new("L", (FINER * (right - left), FINER * (bottom - top)))
        pen = ImageDraw.Draw(mask)
        for at in range(0, len(along) - 1, STEPS // 2):  # half turns: in front, behind, in front
            if (at % STEPS == 0) == front:
                half = places[at : at + STEPS // 2 + 1]
                pen.line(half.ravel().tolist(), fill=255, width=width)
        cover = np.asarray(mask.reduce(FINER), np.float32)[..., None] / np.float32(255)
        colour = 255 * steel * np.array([1 + look.warmth, 1, 1 - look.warmth], np.float32)
        window[:] = window + cover * (np.minimum(colour, 255) - window) + np.float32(0.5)
