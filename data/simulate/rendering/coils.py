"""Draws the coil of a spring between its anchor and the body that hangs from it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from data.simulate.rendering.camera import Camera
from data.simulate.rendering.look import Look
from data.simulate.rendering.picture import BLACK, GREY, Floats, Picture, quartered, ycc
from data.simulate.scenes import Coil, Puck

FINER = 2  # drawn this much larger, then reduced, for smooth lines
WIRE_M = 0.013
STEPS = 12  # straight pieces per turn
STEEL = {False: 0.42, True: 0.78}  # brightness of the half turns behind and in front


class Wire:
    """The coil of a spring, frame by frame, down to the top of a puck with centres (frames, 2)."""

    def __init__(
        self, coil: Coil, puck: Puck, track: NDArray[np.float64], camera: Camera, look: Look
    ) -> None:
        along = np.linspace(0, 1, coil.turns * STEPS + 1)
        turn = 2 * math.pi * coil.turns * along
        taper = np.minimum(1, np.minimum(along, 1 - along) * 12) * coil.radius
        ends = track[:, None] + (0, puck.radius)  # (frames, 1, 2)
        line = (1 - along)[:, None] * coil.anchor + along[:, None] * ends  # (frames, points, 2)
        points = np.stack(
            [
                line[..., 0] + taper * np.cos(turn),
                line[..., 1],
                0 * line[..., 0] + taper * np.sin(turn),
            ],
            axis=-1,
        )
        x, y, depth = camera.project(points)
        self.places = np.stack([x, y], axis=-1)  # (frames, points, 2), pixels
        self.size = camera.size
        self.width = max(1, round(FINER * WIRE_M * camera.focal_pixels / float(depth.mean())))
        self.steel = ycc(np.ones(3), warmth=look.warmth).astype(np.float32)

    def draw(self, picture: Picture, frame: int) -> None:
        places = self.places[frame]
        least, most = places.min(axis=0), places.max(axis=0)
        left, top = (2 * max(math.floor(place / 2) - 1, 0) for place in least.tolist())
        right, bottom = (min(2 * math.ceil(place / 2) + 2, self.size) for place in most.tolist())
        if left >= right or top >= bottom:
            return
        layers = self._layers((places - (left, top)) * FINER, (right - left, bottom - top))
        cover, bright = layers
        seen = picture.luma[top:bottom, left:right]
        seen[:] = seen + bright * self.steel[0] - cover * (seen - BLACK) + np.float32(0.5)
        cover, bright = quartered(layers)
        coloured = picture.chroma[:, top // 2 : bottom // 2, left // 2 : right // 2]
        hues = bright * self.steel[1:, None, None]
        coloured[:] = coloured + hues - cover * (coloured - GREY) + np.float32(0.5)

    def _layers(self, places: NDArray[np.float64], size: tuple[int, int]) -> Floats:
        """How much of each pixel the wire covers, and how bright it is there: (2, h, w)."""
        image = Image.new("RGB", (FINER * size[0], FINER * size[1]))
        pen = ImageDraw.Draw(image)
        for front, steel in STEEL.items():
            for at in range(0, len(places) - 1, STEPS // 2):  # half turns: in front, behind, ...
                if (at % STEPS == 0) == front:
                    half = places[at : at + STEPS // 2 + 1]
                    fill = (255, round(255 * steel), 0)
                    pen.line(half.ravel().tolist(), fill=fill, width=self.width)
        drawn = np.asarray(image.reduce(FINER), np.float32)  # (h, w, 3)
        return np.moveaxis(drawn[..., :2], -1, 0) * np.float32(1 / 255)
