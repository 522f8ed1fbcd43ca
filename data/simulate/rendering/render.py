"""Frames of a trial: the fixed parts once per clip, the pucks and their shadows frame by frame.

A 3-D engine would be slower and no more realistic: the bodies move in a plane and never turn, so
that a frame differs from the one before only under the pucks and their shadows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from data.simulate.rendering.appearance import Appearance, PuckColours
from data.simulate.rendering.background import (
    LIGHT_STRENGTH,
    Background,
    direct_light,
    render_background,
)
from data.simulate.rendering.camera import Camera
from data.simulate.rendering.coil import CoilRenderer
from data.simulate.rendering.yuv import BLACK, GREY, Floats, YuvFrame, downsample, to_yuv
from data.simulate.scenes import Puck, Trial

NEAR_SOFT = 0.25  # half the width of a shadow's rim, in radii of what casts it,
FAR_SOFT = 0.12  # and how much it grows per metre on the way
NONE, HALF, ALL = np.float32(0), np.float32(0.5), np.float32(1)


def render_frames(trial: Trial, appearance: Appearance, *, size: int) -> Iterator[YuvFrame]:
    """Yield the frames of a trial, `size` pixels wide and high, one per row of its tracks.

    A frame may be drawn over for the next one. While the camera sways, each is drawn from nothing.
    """
    if appearance.sway is None:
        yield from _render_still(trial, appearance, appearance.camera(trial.view, size=size))
        return
    for frame in range(len(trial.tracks)):
        moment = replace(trial, tracks=trial.tracks[frame : frame + 1])
        camera = appearance.camera(trial.view, size=size, frame=frame)
        yield from _render_still(moment, appearance, camera)


def _render_still(trial: Trial, appearance: Appearance, camera: Camera) -> Iterator[YuvFrame]:
    """Yield the frames that a camera sees which does not move: one object, drawn over each time."""
    background = render_background(trial, appearance, camera)
    caster = _ShadowCaster(background, camera, appearance, back_z=trial.back_z)
    tracks = np.moveaxis(trial.tracks, 1, 0)  # (pucks, frames, 2)
    shadows = [
        caster.shadow_of(puck, track) for puck, track in zip(trial.pucks, tracks, strict=True)
    ]
    coils = (
        []
        if trial.coil is None
        else [CoilRenderer(trial.coil, trial.pucks[0], tracks[0], camera, appearance)]
    )
    pucks = [
        _PuckRenderer(puck, colours, track, background, camera, appearance)
        for puck, colours, track in zip(trial.pucks, appearance.pucks, tracks, strict=True)
    ]
    # From back to front.
    layers: list[_PuckShadow | CoilRenderer | _PuckRenderer] = [*shadows, *coils, *pucks]
    still = YuvFrame.from_floats(background.luma, background.chroma)
    canvas = YuvFrame.from_floats(background.luma, background.chroma)
    for frame in range(len(trial.tracks)):
        canvas.copy_from(still)
        for layer in layers:
            layer.draw(canvas, frame)
        yield canvas


def _windows(
    camera: Camera, points: NDArray[np.float64], reach: NDArray[np.float64] | float
) -> list[tuple[int, int, int, int]]:
    """Return windows of pixels around points (frames, k, 3) and `reach` (frames,) metres about.

    Top, bottom, left and right for each frame, all even; bottom <= top where it is empty.
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
    """Clip `values` to 0..1, in place."""
    return values.clip(NONE, ALL, out=values)


class _ShadowCaster:
    """The direct light on the fixed parts, at every second pixel, since shadows have soft rims."""

    def __init__(
        self, background: Background, camera: Camera, appearance: Appearance, *, back_z: float
    ) -> None:
        self.camera, self.light, self.back_z = camera, appearance.light, back_z
        across = np.cross(appearance.light, [0.0, 0.0, 1.0])
        across /= np.linalg.norm(across)
        self.axes = np.stack(
            [appearance.light, across, np.cross(appearance.light, across)]
        )  # (3, 3)
        x, y, z = background.position[:, ::2, ::2]
        # Coordinates of each point along and across the light: each (n / 2, n / 2), metres.
        self.points = [
            x * axis[0] + y * axis[1] + z * axis[2] for axis in self.axes.astype(np.float32)
        ]
        self.direct, self.direct_chroma = background.direct, downsample(background.direct)

    def shadow_of(self, puck: Puck, track: NDArray[np.float64]) -> _PuckShadow:
        """Return the shadow of a puck with centres (frames, 2)."""
        return _PuckShadow(self, puck, track)


class _PuckShadow:
    """The shadow of a puck on what is behind it, seen from the light; softer further away."""

    def __init__(self, caster: _ShadowCaster, puck: Puck, track: NDArray[np.float64]) -> None:
        self.caster, self.puck = caster, puck
        centres = np.pad(track, ((0, 0), (0, 1)))  # (frames, 3)
        # The light goes on to the floor or to the wall behind, whichever comes first.
        light = caster.light
        way = np.minimum(np.maximum(track[:, 1], 0) / light[1], -caster.back_z / light[2])
        ends = np.stack([centres, centres - light * way[:, None]], axis=1)
        reach = (1 + NEAR_SOFT) * puck.radius + FAR_SOFT * way
        self.windows = _windows(caster.camera, ends, reach)
        self.centres = (centres @ caster.axes.T).astype(np.float32)  # along and across the light

    def draw(self, canvas: YuvFrame, frame: int) -> None:
        """Draw it in frame number `frame` onto a canvas."""
        top, bottom, left, right = self.windows[frame]
        if bottom <= top:
            return
        half = slice(top // 2, bottom // 2), slice(left // 2, right // 2)
        along, p, q = (
            centre - point[half]
            for centre, point in zip(self.centres[frame], self.caster.points, strict=True)
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
        luma = canvas.luma[whole]
        keep = 1 - dark.repeat(2, axis=0).repeat(2, axis=1) * self.caster.direct[whole]
        luma[:] = (luma - BLACK) * keep + (BLACK + HALF)
        chroma = canvas.chroma[:, *half]
        chroma[:] = (chroma - GREY) * (1 - dark * self.caster.direct_chroma[half]) + (GREY + HALF)


class _PuckRenderer:
    """Renderer of one puck, with smooth edges, at its exact position.

    Seen along a ray, a disc swept along z is a disc around each point of the segment in which the
    ray crosses the puck's depth; the nearest of them gives the outline. The segments depend on
    the camera alone and are worked out once.
    """

    def __init__(
        self, puck: Puck, colours: PuckColours, track: NDArray[np.float64], background: Background,
        camera: Camera, appearance: Appearance,
    ) -> None:  # fmt: skip
        self.puck, self.background = puck, background
        depths = np.broadcast_to([puck.depth / 2, -puck.depth / 2], (len(track), 2))
        ends = np.concatenate([track[:, None].repeat(2, axis=1), depths[..., None]], axis=2)
        self.windows = _windows(camera, ends, puck.radius)
        self.centres = track.astype(np.float32)
        centres = np.arange(camera.size, dtype=np.float32) + HALF
        constant, per_x, per_y = camera.rays().astype(np.float32).T[..., None, None]  # (3, 1, 1)
        rays = constant + per_x * centres + per_y * centres[:, None]  # (3, n, n)
        origin = camera.position.astype(np.float32)
        deeper = 1 / rays[2]
        self.near = (np.float32(puck.depth / 2) - origin[2]) * deeper  # depth of the front, (n, n)
        self.thick = np.float32(-puck.depth) * deeper
        self.x, self.y = origin[:2, None, None] + self.near * rays[:2]  # where it is met, m
        self.dx, self.dy = self.thick * rays[:2]  # from there to where the rear is met
        self.length2 = self.dx * self.dx + self.dy * self.dy + np.float32(1e-12)
        self.sharpness = np.float32(camera.focal_pixels) / self.near  # pixels per metre
        self.light = appearance.light.astype(np.float32) * np.float32(LIGHT_STRENGTH / puck.radius)
        self.turned = self.dx * self.light[0] + self.dy * self.light[1]
        self.ambient = np.float32(appearance.ambient)
        front = np.array([0, 0, 1], np.float32)
        self.face_light = np.float32(appearance.ambient + float(direct_light(appearance, front)))
        yuv = to_yuv(np.array([colours.face, colours.mark_colour]), warmth=appearance.warmth)
        self.face, self.marked = yuv.astype(np.float32)  # each (3,)
        self.mark = MARKS[colours.mark]
        self.cos = np.float32(math.cos(colours.angle) / puck.radius)
        self.sin = np.float32(math.sin(colours.angle) / puck.radius)

    def draw(self, canvas: YuvFrame, frame: int) -> None:
        """Draw it in frame number `frame` onto a canvas."""
        top, bottom, left, right = self.windows[frame]
        if bottom <= top:
            return
        window = slice(top, bottom), slice(left, right)
        layers = self._layers(self.centres[frame], window)
        cover, of_face, of_mark = layers
        luma = canvas.luma[window]
        colour = of_face * self.face[0] + of_mark * self.marked[0]
        luma[:] = np.minimum(luma + colour - cover * (luma - BLACK) + HALF, 235)
        half = slice(top // 2, bottom // 2), slice(left // 2, right // 2)
        cover, of_face, of_mark = downsample(layers)
        hues = of_face * self.face[1:, None, None] + of_mark * self.marked[1:, None, None]
        chroma = canvas.chroma[:, *half]
        mixed = chroma + hues - cover * (chroma - GREY) + HALF
        chroma[:] = np.clip(mixed, 16, 240)

    def _layers(self, centre: Floats, window: tuple[slice, slice]) -> Floats:
        """Return layers (3, h, w) of the puck with its centre (2,).

        How much of each pixel it covers, and the light there on its own colour and on its mark's.
        """
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
        np.multiply(_part(rim - outline * sharp), self.background.visible(at, window), out=cover)
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


def _bars(x: Floats, y: Floats) -> Floats:
    return np.float32(0.15) - np.abs((y + ALL) % np.float32(0.6) - np.float32(0.3))


def _spot(x: Floats, y: Floats) -> Floats:
    return HALF - _length(x, y)


# How far inside the mark a point of the face is, in radii.
MARKS = {
    "cross": _cross, "ring": _ring, "half": _half, "dots": _dots, "bars": _bars, "spot": _spot,
}  # fmt: skip
