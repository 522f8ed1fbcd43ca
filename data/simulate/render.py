"""Draws a world: the fixed parts once per clip, the pucks and their shadows frame by frame.

A 3-D engine would be slower and no truer: the bodies move in a plane and never turn, so that a
frame differs from the one before only under the pucks and their shadows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from data.simulate import coils, raycast
from data.simulate.camera import Camera
from data.simulate.look import Look, Paint
from data.simulate.raycast import Backdrop, Floats
from data.simulate.world import Puck, World

Window = tuple[slice, slice]


def frames(world: World, look: Look, *, size: int) -> Iterator[NDArray[np.uint8]]:
    """Yields the frames uint8 (size, size, 3) of a world, one per row of its tracks.

    It is the same array every time, drawn over for the next frame.
    """
    camera = Camera.around(
        world.view, size=size, yaw=look.yaw, pitch=look.pitch, roll=look.roll, field=look.field,
        zoom=look.zoom, shift=look.shift,
    )  # fmt: skip
    backdrop = raycast.render(world, look, camera)
    shadow = _Shadow(backdrop, camera, look)
    brushes = [
        _Brush(puck, paint, backdrop, camera, look)
        for puck, paint in zip(world.pucks, look.pucks, strict=True)
    ]
    still = (backdrop.colour + np.float32(0.5)).astype(np.uint8)
    picture = np.empty_like(still)
    for centres in world.tracks:
        np.copyto(picture, still)
        for puck, (x, y) in zip(world.pucks, centres, strict=True):
            shadow.cast(picture, puck, x, y)
        if world.coil is not None:
            x, y = centres[0]
            coils.draw(picture, world.coil, camera, look, (x, y + world.pucks[0].radius))
        for brush, (x, y) in zip(brushes, centres, strict=True):
            brush.draw(picture, x, y)
        yield picture


def _window(camera: Camera, points: NDArray[np.float64], reach: float) -> Window | None:
    """The pixels around world points (k, 3) with `reach` metres to every side; None: outside."""
    x, y, depth = camera.project(points)
    margin = reach * camera.focal_pixels / max(float(depth.min()), 0.05) * 1.05 + 2
    n = camera.size
    left, right = max(int(x.min() - margin), 0), min(math.ceil(x.max() + margin), n)
    top, bottom = max(int(y.min() - margin), 0), min(math.ceil(y.max() + margin), n)
    if left >= right or top >= bottom:
        return None
    return slice(top, bottom), slice(left, right)


class _Shadow:
    """Darkens what lies behind a puck, seen from the light; softer the further away."""

    def __init__(self, backdrop: Backdrop, camera: Camera, look: Look) -> None:
        self.camera = camera
        self.direct = backdrop.direct
        self.light = look.light
        self.x, self.y = backdrop.position[:2]  # (n, n)
        light = look.light.astype(np.float32)[:, None, None]
        self.along = np.sum(backdrop.position * light, axis=0)  # (n, n)
        self.squared = np.sum(backdrop.position**2, axis=0)

    def cast(self, picture: NDArray[np.uint8], puck: Puck, x: float, y: float) -> None:
        """Draws the shadow of a puck whose centre is at (x, y)."""
        centre = np.array([x, y, 0.0])
        foot = centre - self.light * (max(y, 0.0) / self.light[1])
        window = _window(self.camera, np.stack([centre, foot]), puck.radius * 1.3)
        if window is None:
            return
        cx, cy = np.float32(x), np.float32(y)
        towards = np.float32(centre @ self.light) - self.along[window]  # to the puck, m
        apart = self.squared[window] - 2 * (cx * self.x[window] + cy * self.y[window])
        across = np.sqrt(np.maximum(apart + (cx * cx + cy * cy) - towards * towards, 0))
        soft = np.float32(0.25 * puck.radius) + np.float32(0.12) * np.maximum(towards, 0)
        dark = (np.float32(puck.radius) - across) / (2 * soft) + np.float32(0.5)
        dark = np.clip(dark, 0, 1) * (towards > 0) * self.direct[window]
        rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
        if rows.size:
            inner = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            seen = picture[window][inner]
            seen[:] = seen * (1 - dark[inner])[..., None] + np.float32(0.5)


class _Brush:
    """Draws one puck with smooth edges at its exact place.

    Seen along a ray, a disc swept along z is a disc around each point of the segment in which the
    ray crosses the puck's depth; the nearest of them gives the outline. The segments depend on
    the camera alone and are worked out once.
    """

    def __init__(
        self, puck: Puck, paint: Paint, backdrop: Backdrop, camera: Camera, look: Look
    ) -> None:
        self.puck, self.paint, self.backdrop = puck, paint, backdrop
        self.camera, self.look = camera, look
        n = camera.size
        grid = np.arange(n, dtype=np.float32) + np.float32(0.5)
        x, y = (part.ravel() for part in np.meshgrid(grid, grid))
        rays = camera.rays(x, y).reshape(3, n, n)
        origin = camera.position.astype(np.float32)
        half = np.float32(puck.depth / 2)
        self.near = (half - origin[2]) / rays[2]  # depth at which the front plane is met, (n, n)
        self.thick = (-half - origin[2]) / rays[2] - self.near
        self.start = origin[:2, None, None] + self.near * rays[:2]  # (2, n, n), metres
        self.step = self.thick * rays[:2]
        self.length2 = np.sum(self.step**2, axis=0) + np.float32(1e-12)
        self.sharpness = np.float32(camera.focal_pixels) / self.near  # pixels per metre
        self.tint = 255 * np.array([1 + look.warmth, 1, 1 - look.warmth], np.float32)
        self.face_light = look.ambient + float(raycast.lit(look, np.array([0, 0, 1], np.float32)))

    def draw(self, picture: NDArray[np.uint8], x: float, y: float) -> None:
        """Draws the puck with its centre at (x, y)."""
        half = self.puck.depth / 2
        ends = np.array([[x, y, half], [x, y, -half]])
        window = _window(self.camera, ends, self.puck.radius)
        if window is None:
            return
        radius = np.float32(self.puck.radius)
        both = (slice(None), *window)
        dx = self.start[both][0] - np.float32(x)
        dy = self.start[both][1] - np.float32(y)
        sx, sy = self.step[both]
        a, sharp = self.length2[window], self.sharpness[window]
        b = dx * sx + dy * sy
        c = dx * dx + dy * dy
        nearest = np.clip(-b / a, 0, 1)
        outline = np.sqrt(np.maximum(c + nearest * (2 * b + nearest * a), 0))
        cover = np.clip((radius - outline) * sharp + np.float32(0.5), 0, 1)
        front = np.sqrt(c)
        face = np.clip((radius - front) * sharp + np.float32(0.5), 0, 1)
        root = np.sqrt(np.maximum(b * b - a * (c - radius * radius), 0))
        along = np.clip((-b - root) / a, 0, 1)  # where the ray meets the side
        light = self.look.light.astype(np.float32) / radius
        facing = (dx + along * sx) * light[0] + (dy + along * sy) * light[1]
        side = self.look.ambient + raycast.BOUNCED * np.maximum(facing, 0)
        colour = self._colour(dx / radius, dy / radius, sharp * radius, face, side)
        at = self.near[window] + nearest * self.thick[window]
        cover *= self.backdrop.visible(at, window)
        under = picture[window].astype(np.float32)
        under += cover[..., None] * (np.minimum(colour * self.tint, 255) - under)
        picture[window] = under + np.float32(0.5)

    def _colour(self, x: Floats, y: Floats, sharp: Floats, face: Floats, side: Floats) -> Floats:
        """Colours (h, w, 3) at (x, y) in radii: `face` is 1 on the front, `side` its light."""
        base = np.array(self.paint.face, np.float32)
        mark = np.array(self.paint.mark_colour, np.float32)
        rim = np.clip((np.float32(0.9) - np.hypot(x, y)) * sharp + np.float32(0.5), 0, 1)
        light = np.float32(self.face_light) * (np.float32(0.82) + np.float32(0.18) * rim)
        pattern = self._mark(x, y, sharp)
        edge = np.float32(0.85) * side * (1 - face)
        return (face * light * (1 - pattern) + edge)[..., None] * base + (face * light * pattern)[
            ..., None
        ] * mark

    def _mark(self, x: Floats, y: Floats, sharp: Floats) -> Floats:
        """The pattern on the puck's face, 0..1, at (x, y) in radii."""
        cos, sin = math.cos(self.paint.angle), math.sin(self.paint.angle)
        x, y = x * np.float32(cos) + y * np.float32(sin), y * np.float32(cos) - x * np.float32(sin)
        return np.clip(MARKS[self.paint.mark](x, y) * sharp + np.float32(0.5), 0, 1)


def _cross(x: Floats, y: Floats) -> Floats:
    return np.float32(0.2) - np.minimum(np.abs(x), np.abs(y))


def _ring(x: Floats, y: Floats) -> Floats:
    return np.float32(0.18) - np.abs(np.hypot(x, y) - np.float32(0.55))


def _half(x: Floats, y: Floats) -> Floats:
    return x


def _dots(x: Floats, y: Floats) -> Floats:
    return np.float32(0.28) - np.hypot(np.abs(x) - np.float32(0.45), y)


# How far inside the mark a point of the face lies, in radii.
MARKS = {"cross": _cross, "ring": _ring, "half": _half, "dots": _dots}
