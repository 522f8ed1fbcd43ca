"""Draws a world: the fixed parts once per clip, the pucks and their shadows frame by frame.

A 3-D engine would be slower and no truer: the bodies move in a plane and never turn, so that a
frame differs from the one before only under the pucks and their shadows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from data.simulate.rendering import raycast
from data.simulate.rendering.camera import Camera
from data.simulate.rendering.coils import Wire
from data.simulate.rendering.look import Look, Paint
from data.simulate.rendering.picture import BLACK, GREY, Floats, Picture, quartered, ycc
from data.simulate.rendering.raycast import Backdrop
from data.simulate.scenes import Puck, World

NEAR_SOFT = 0.25  # half the width of a shadow's rim, in radii of what casts it,
FAR_SOFT = 0.12  # and how much it grows per metre on the way
NONE, HALF, ALL = np.float32(0), np.float32(0.5), np.float32(1)


def frames(world: World, look: Look, *, size: int) -> Iterator[Picture]:
    """Yields the frames of a world, `size` pixels wide and high, one per row of its tracks.

    It is the same picture every time, drawn over for the next frame.
    """
    camera = Camera.around(
        world.view, size=size, yaw=look.yaw, pitch=look.pitch, roll=look.roll, field=look.field,
        zoom=look.zoom, shift=look.shift,
    )  # fmt: skip
    backdrop = raycast.render(world, look, camera)
    shadows = _Shadows(backdrop, camera, look, back_z=world.back_z)
    tracks = np.moveaxis(world.tracks, 1, 0)  # (pucks, frames, 2)
    behind = [shadows.of(puck, track) for puck, track in zip(world.pucks, tracks, strict=True)]
    wires = (
        [] if world.coil is None else [Wire(world.coil, world.pucks[0], tracks[0], camera, look)]
    )
    brushes = [
        _Brush(puck, paint, track, backdrop, camera, look)
        for puck, paint, track in zip(world.pucks, look.pucks, tracks, strict=True)
    ]
    things: list[_Shadow | Wire | _Brush] = [*behind, *wires, *brushes]  # the last in front
    still = Picture.of(backdrop.luma, backdrop.chroma)
    picture = Picture.of(backdrop.luma, backdrop.chroma)
    for frame in range(len(world.tracks)):
        picture.show(still)
        for thing in things:
            thing.draw(picture, frame)
        yield picture


def _windows(
    camera: Camera, points: NDArray[np.float64], reach: NDArray[np.float64] | float
) -> list[tuple[int, int, int, int]]:
    """Pixels around world points (frames, k, 3), `reach` (frames,) metres to every side.

    Top, bottom, left and right of each frame's, all even; bottom <= top where it is empty.
    """
    x, y, depth = camera.project(points)
    margin = reach * camera.focal_pixels / np.maximum(depth.min(axis=1), 0.05) * 1.05 + 2
    low = np.stack([y.min(axis=1) - margin, x.min(axis=1) - margin]) / 2
    high = np.stack([y.max(axis=1) + margin, x.max(axis=1) + margin]) / 2
    end = camera.size // 2
    (top, left), (bottom, right) = (
        2 * np.clip(places, 0, end).astype(int) for places in (np.floor(low), np.ceil(high))
    )
    right = np.where(bottom > top, right, left)
    bottom = np.where(right > left, bottom, top)
    return list(zip(*(side.tolist() for side in (top, bottom, left, right)), strict=True))


def _part(values: Floats) -> Floats:
    """`values` between 0 and 1, in place."""
    return values.clip(NONE, ALL, out=values)


class _Shadows:
    """How the light falls on the fixed parts, at every second pixel: shadows have soft rims."""

    def __init__(self, backdrop: Backdrop, camera: Camera, look: Look, *, back_z: float) -> None:
        self.camera, self.light, self.back_z = camera, look.light, back_z
        across = np.cross(look.light, [0.0, 0.0, 1.0])
        across /= np.linalg.norm(across)
        self.axes = np.stack([look.light, across, np.cross(look.light, across)])  # (3, 3)
        x, y, z = backdrop.position[:, ::2, ::2]
        # How far along the light each place lies, and where across it: each (n / 2, n / 2), metres.
        self.places = [
            x * axis[0] + y * axis[1] + z * axis[2] for axis in self.axes.astype(np.float32)
        ]
        self.direct, self.direct_chroma = backdrop.direct, quartered(backdrop.direct)

    def of(self, puck: Puck, track: NDArray[np.float64]) -> _Shadow:
        """The shadow of a puck with centres (frames, 2)."""
        return _Shadow(self, puck, track)


class _Shadow:
    """Darkens what lies behind a puck, seen from the light; softer the further away."""

    def __init__(self, all_of: _Shadows, puck: Puck, track: NDArray[np.float64]) -> None:
        self.all, self.puck = all_of, puck
        centres = np.pad(track, ((0, 0), (0, 1)))  # (frames, 3)
        # The light goes on to the floor or to the wall behind, whichever comes first.
        light = all_of.light
        way = np.minimum(np.maximum(track[:, 1], 0) / light[1], -all_of.back_z / light[2])
        ends = np.stack([centres, centres - light * way[:, None]], axis=1)
        reach = (1 + NEAR_SOFT) * puck.radius + FAR_SOFT * way
        self.windows = _windows(all_of.camera, ends, reach)
        self.centres = (centres @ all_of.axes.T).astype(np.float32)  # along and across the light

    def draw(self, picture: Picture, frame: int) -> None:
        top, bottom, left, right = self.windows[frame]
        if bottom <= top:
            return
        half = slice(top // 2, bottom // 2), slice(left // 2, right // 2)
        along, p, q = (
            centre - place[half]
            for centre, place in zip(self.centres[frame], self.all.places, strict=True)
        )
        apart = np.sqrt(p * p + q * q)
        soft = np.maximum(along, NONE) * np.float32(2 * FAR_SOFT)
        soft += np.float32(2 * NEAR_SOFT * self.puck.radius)
        dark = _part((np.float32(self.puck.radius) - apart) / soft + HALF)
        dark *= along > 0
        rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
        if not rows.size:
            return
        dark = dark[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        top, left = top // 2 + int(rows[0]), left // 2 + int(columns[0])
        half = slice(top, top + dark.shape[0]), slice(left, left + dark.shape[1])
        whole = (
            slice(2 * half[0].start, 2 * half[0].stop),
            slice(2 * half[1].start, 2 * half[1].stop),
        )
        seen = picture.luma[whole]
        keep = 1 - dark.repeat(2, axis=0).repeat(2, axis=1) * self.all.direct[whole]
        seen[:] = (seen - BLACK) * keep + (BLACK + HALF)
        coloured = picture.chroma[:, *half]
        coloured[:] = (coloured - GREY) * (1 - dark * self.all.direct_chroma[half]) + (GREY + HALF)


class _Brush:
    """Draws one puck with smooth edges at its exact place.

    Seen along a ray, a disc swept along z is a disc around each point of the segment in which the
    ray crosses the puck's depth; the nearest of them gives the outline. The segments depend on
    the camera alone and are worked out once.
    """

    def __init__(
        self, puck: Puck, paint: Paint, track: NDArray[np.float64], backdrop: Backdrop,
        camera: Camera, look: Look,
    ) -> None:  # fmt: skip
        self.puck, self.backdrop = puck, backdrop
        depths = np.broadcast_to([puck.depth / 2, -puck.depth / 2], (len(track), 2))
        ends = np.concatenate([track[:, None].repeat(2, axis=1), depths[..., None]], axis=2)
        self.windows = _windows(camera, ends, puck.radius)
        self.centres = track.astype(np.float32)
        places = np.arange(camera.size, dtype=np.float32) + HALF
        constant, per_x, per_y = camera.rays().astype(np.float32).T[..., None, None]  # (3, 1, 1)
        rays = constant + per_x * places + per_y * places[:, None]  # (3, n, n)
        origin = camera.position.astype(np.float32)
        deeper = 1 / rays[2]
        self.near = (np.float32(puck.depth / 2) - origin[2]) * deeper  # depth of the front, (n, n)
        self.thick = np.float32(-puck.depth) * deeper
        self.x, self.y = origin[:2, None, None] + self.near * rays[:2]  # where it is met, m
        self.dx, self.dy = self.thick * rays[:2]  # from there to where the rear is met
        self.length2 = self.dx * self.dx + self.dy * self.dy + np.float32(1e-12)
        self.sharpness = np.float32(camera.focal_pixels) / self.near  # pixels per metre
        self.light = look.light.astype(np.float32) * np.float32(raycast.BOUNCED / puck.radius)
        self.turned = self.dx * self.light[0] + self.dy * self.light[1]
        self.ambient = np.float32(look.ambient)
        front = np.array([0, 0, 1], np.float32)
        self.face_light = np.float32(look.ambient + float(raycast.lit(look, front)))
        colours = ycc(np.array([paint.face, paint.mark_colour]), warmth=look.warmth)
        self.face, self.marked = colours.astype(np.float32)  # each (3,)
        self.mark = MARKS[paint.mark]
        self.cos = np.float32(math.cos(paint.angle) / puck.radius)
        self.sin = np.float32(math.sin(paint.angle) / puck.radius)

    def draw(self, picture: Picture, frame: int) -> None:
        top, bottom, left, right = self.windows[frame]
        if bottom <= top:
            return
        window = slice(top, bottom), slice(left, right)
        layers = self._layers(self.centres[frame], window)
        cover, of_face, of_mark = layers
        seen = picture.luma[window]
        colour = of_face * self.face[0] + of_mark * self.marked[0]
        seen[:] = np.minimum(seen + colour - cover * (seen - BLACK) + HALF, 235)
        half = slice(top // 2, bottom // 2), slice(left // 2, right // 2)
        cover, of_face, of_mark = quartered(layers)
        hues = of_face * self.face[1:, None, None] + of_mark * self.marked[1:, None, None]
        coloured = picture.chroma[:, *half]
        mixed = coloured + hues - cover * (coloured - GREY) + HALF
        coloured[:] = np.clip(mixed, 16, 240)

    def _layers(self, centre: Floats, window: tuple[slice, slice]) -> Floats:
        """Layers (3, h, w) of the puck with its centre (2,): how much of each pixel it covers,
        and in how much light there its own colour and its mark's stand."""
        radius = np.float32(self.puck.radius)
        sx, sy, a, sharp = (
            part[window] for part in (self.dx, self.dy, self.length2, self.sharpness)
        )
        dx, dy = self.x[window] - centre[0], self.y[window] - centre[1]
        b = dx * sx + dy * sy
        c = dx * dx + dy * dy
        nearest = _part(-b / a)
        outline = np.sqrt(np.maximum(c + nearest * (b + b + nearest * a), NONE))
        rim = radius * sharp + HALF
        layers = np.empty((3, *c.shape), np.float32)
        cover, of_face, of_mark = layers
        at = self.near[window] + nearest * self.thick[window]
        np.multiply(_part(rim - outline * sharp), self.backdrop.visible(at, window), out=cover)
        front = np.sqrt(c) * sharp
        face = _part(rim - front)
        # Where the ray meets the side, and how that faces the light.
        root = np.sqrt(np.maximum(b * b - a * (c - radius * radius), NONE))
        meets = _part((-b - root) / a)
        facing = dx * self.light[0] + dy * self.light[1] + meets * self.turned[window]
        side = np.maximum(facing, NONE) + self.ambient
        inner = _part(rim - np.float32(0.1) * radius * sharp - front)  # around it, a darker rim
        lit = face * (inner * np.float32(0.18) + np.float32(0.82)) * self.face_light
        u, v = dx * self.cos + dy * self.sin, dy * self.cos - dx * self.sin  # in radii
        pattern = _part(self.mark(u, v) * (sharp * radius) + HALF)
        np.multiply(lit * pattern, cover, out=of_mark)
        np.multiply(lit + np.float32(0.85) * side * (1 - face), cover, out=of_face)
        of_face -= of_mark
        return layers


def _length(x: Floats, y: Floats) -> Floats:
    return np.sqrt(x * x + y * y)


def _cross(x: Floats, y: Floats) -> Floats:
    return np.float32(0.2) - np.minimum(np.abs(x), np.abs(y))


def _ring(x: Floats, y: Floats) -> Floats:
    return np.float32(0.18) - np.abs(_length(x, y) - np.float32(0.55))


def _half(x: Floats, y: Floats) -> Floats:
    return x


def _dots(x: Floats, y: Floats) -> Floats:
    return np.float32(0.28) - _length(np.abs(x) - np.float32(0.45), y)


# How far inside the mark a point of the face lies, in radii.
MARKS = {"cross": _cross, "ring": _ring, "half": _half, "dots": _dots}
