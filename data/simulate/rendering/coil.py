"""The coil of a spring between its anchor and the body that hangs from it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from data.simulate.rendering.appearance import Appearance
from data.simulate.rendering.camera import Camera
from data.simulate.rendering.yuv import BLACK, GREY, Floats, YuvFrame, downsample, to_yuv
from data.simulate.scenes import Coil, Puck

FINER = 2  # drawn this much larger, then reduced, for smooth lines
WIRE_M = 0.013
STEPS = 12  # straight pieces per turn
STEEL = {False: 0.42, True: 0.78}  # brightness of the half turns behind and in front


class CoilRenderer:
    """Renderer of a coil, frame by frame, down to the top of a puck with centres (frames, 2)."""

    def __init__(
        self,
        coil: Coil,
        puck: Puck,
        track: NDArray[np.float64],
        camera: Camera,
        appearance: Appearance,
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
        self.points = np.stack([x, y], axis=-1)  # (frames, points, 2), pixels
        self.size = camera.size
        self.width = max(1, round(FINER * WIRE_M * camera.focal_pixels / float(depth.mean())))
        self.steel = to_yuv(np.ones(3), warmth=appearance.warmth).astype(np.float32)

    def draw(self, canvas: YuvFrame, frame: int) -> None:
        """Draw the coil of frame number `frame` onto a canvas."""
        points = self.points[frame]
        least, most = points.min(axis=0), points.max(axis=0)
        left, top = (2 * max(math.floor(pixel / 2) - 1, 0) for pixel in least.tolist())
        right, bottom = (min(2 * math.ceil(pixel / 2) + 2, self.size) for pixel in most.tolist())
        if left >= right or top >= bottom:
            return
        layers = self._layers((points - (left, top)) * FINER, (right - left, bottom - top))
        cover, bright = layers
        luma = canvas.luma[top:bottom, left:right]
        luma[:] = luma + bright * self.steel[0] - cover * (luma - BLACK) + np.float32(0.5)
        cover, bright = downsample(layers)
        chroma = canvas.chroma[:, top // 2 : bottom // 2, left // 2 : right // 2]
        hues = bright * self.steel[1:, None, None]
        chroma[:] = chroma + hues - cover * (chroma - GREY) + np.float32(0.5)

    def _layers(self, points: NDArray[np.float64], size: tuple[int, int]) -> Floats:
        """Return how much of each pixel the wire covers, and its brightness there: (2, h, w)."""
        image = Image.new("RGB", (FINER * size[0], FINER * size[1]))
        pen = ImageDraw.Draw(image)
        for front, steel in STEEL.items():
            for at in range(0, len(points) - 1, STEPS // 2):  # half turns: in front, behind, ...
                if (at % STEPS == 0) == front:
                    half = points[at : at + STEPS // 2 + 1]
                    fill = (255, round(255 * steel), 0)
                    pen.line(half.ravel().tolist(), fill=fill, width=self.width)
        covered = np.asarray(image.reduce(FINER), np.float32)  # (h, w, 3)
        return np.moveaxis(covered[..., :2], -1, 0) * np.float32(1 / 255)
