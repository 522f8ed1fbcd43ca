"""Draws a world: the fixed parts once per clip by ray casting, the pucks per frame on top.

A 3-D engine would be slower and no truer: the bodies move in a plane and never turn, so that a
frame differs from the one before only under the pucks and their shadows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.simulate.camera import Camera
from data.simulate.look import TEXELS, Look, Material
from data.simulate.world import Prism, Puck, World

Floats = NDArray[np.float32]

BACK_M = -0.75  # where the wall behind the scene stands
SAMPLES = 2  # per pixel and axis, for the fixed parts
SHADOW = 0.5  # how much of the light a shadow takes


@dataclass(frozen=True, kw_only=True)
class Backdrop:
    """The fixed parts: colour (n, n, 3), 0..255; depth (n, n) and position (n, n, 3), metres."""

    colour: Floats
    depth: Floats
    position: Floats


def frames(world: World, look: Look, *, size: int) -> Iterator[NDArray[np.uint8]]:
    """Yields the frames uint8 (size, size, 3) of a world, one per row of its tracks."""
    camera = Camera.around(
        world.view, size=size, yaw=look.yaw, pitch=look.pitch, roll=look.roll, field=look.field,
        zoom=look.zoom, shift=look.shift,
    )  # fmt: skip
    backdrop = render_backdrop(world, look, camera)
    rays = camera.rays()
    still = backdrop.colour.round().astype(np.uint8)
    for centres in world.tracks:
        picture = still.copy()
        for puck, centre in zip(world.pucks, centres, strict=True):
            _shade(picture, backdrop, camera, look, puck, centre)
        for puck, centre in zip(world.pucks, centres, strict=True):
            _paint(picture, backdrop, rays, camera, look, puck, centre)
        yield picture


def render_backdrop(world: World, look: Look, camera: Camera) -> Backdrop:
    """Casts a ray through every sample at the floor, the wall behind and the blocks."""
    rays = camera.rays(per_pixel=SAMPLES)
    origin = camera.position.astype(np.float32)
    light = look.light.astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        to_floor = -origin[1] / rays[..., 1]
        to_back = (np.float32(BACK_M) - origin[2]) / rays[..., 2]
    to_floor[~(to_floor > 0)] = np.inf
    to_back[~(to_back > 0)] = np.inf
    depth = np.minimum(to_floor, to_back)
    position = origin + depth[..., None] * rays
    on_floor = to_floor < to_back
    colour = np.where(
        on_floor[..., None],
        _sample(look.floor, position[..., 0], position[..., 2]) * _lit(look, (0, 1, 0)),
        _sample(look.back, position[..., 0], position[..., 1]) * _lit(look, (0, 0, 1)),
    )
    for prism in world.prisms:
        _add_prism(prism, look, rays, origin, depth, position, colour)
    shade = np.zeros(depth.shape, np.float32)
    for prism in world.prisms:
        shade = np.maximum(shade, _prism_shadow(prism, position, light))
    colour *= (1 - SHADOW * _soften(shade))[..., None]
    n = camera.size
    mean = colour.reshape(n, SAMPLES, n, SAMPLES, 3).mean(axis=(1, 3))
    mean *= _gradient(look, n)[..., None]
    tint = np.array([1 + look.warmth, 1, 1 - look.warmth], np.float32)
    return Backdrop(
        colour=np.clip(255 * mean * tint, 0, 255).astype(np.float32),
        depth=depth[::SAMPLES, ::SAMPLES],
        position=position[::SAMPLES, ::SAMPLES],
    )


def _lit(look: Look, normal: tuple[float, float, float]) -> np.float32:
    return np.float32(look.ambient + 0.62 * max(0.0, float(np.dot(look.light, normal))))


def _gradient(look: Look, n: int) -> Floats:
    """The light falls off across the picture, away from the side that it comes from."""
    at = np.linspace(-1, 1, n, dtype=np.float32)
    slope = np.float32(0.16 * np.sign(look.light[0]) * abs(look.light[0]) ** 0.5)
    return 1 + slope * at[None, :] - 0.06 * (at[:, None] ** 2 + at[None, :] ** 2)


def _sample(material: Material, u: Floats, v: Floats) -> Floats:
    """Colours (..., 3) of a material at (u, v) in metres, bilinear."""
    scale = np.float32(TEXELS / material.tile_m)
    u, v = u * scale, v * scale
    column, row = np.floor(u), np.floor(v)
    du, dv = u - column, v - row
    mask = TEXELS - 1
    i0 = row.astype(np.int32) & mask
    j0 = column.astype(np.int32) & mask
    i1, j1 = (i0 + 1) & mask, (j0 + 1) & mask
    tex = material.texture
    value = (tex[i0, j0] * (1 - du) + tex[i0, j1] * du) * (1 - dv) + (
        tex[i1, j0] * (1 - du) + tex[i1, j1] * du
    ) * dv
    low = np.array(material.low, np.float32)
    return low + value[..., None] * (np.array(material.high, np.float32) - low)


def _half_spaces(prism: Prism) -> tuple[Floats, Floats]:
    """Outward normals (k, 3) and offsets (k,): inside is normal . p <= offset."""
    corners = np.array(prism.corners)
    following = np.roll(corners, -1, axis=0)
    edge = following - corners
    area = float(np.sum(corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1]))
    normal = np.stack([edge[:, 1], -edge[:, 0]], axis=1) * math.copysign(1.0, area)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    normals = np.concatenate([np.pad(normal, ((0, 0), (0, 1))), [[0, 0, 1], [0, 0, -1]]])
    offsets = np.concatenate([np.sum(normal * corners, axis=1), 2 * [prism.depth / 2]])
    return normals.astype(np.float32), offsets.astype(np.float32)


def _cast(
    prism: Prism, origin: Floats, direction: Floats
) -> tuple[Floats, Floats, NDArray[np.int8]]:
    """Where rays enter and leave a prism (entry < exit: they meet it), and by which face."""
    shape = np.broadcast_shapes(origin.shape, direction.shape)[:-1]
    entry = np.full(shape, -np.inf, np.float32)
    leave = np.full(shape, np.inf, np.float32)
    face = np.zeros(shape, np.int8)
    with np.errstate(divide="ignore", invalid="ignore"):
        for index, (normal, offset) in enumerate(zip(*_half_spaces(prism), strict=True)):
            towards = direction @ normal
            at = (offset - origin @ normal) / towards
            enters = (towards < 0) & (at > entry)
            face[enters] = index
            entry = np.where(enters, at, entry)
            leave = np.where((towards > 0) & (at < leave), at, leave)
    return entry, leave, face


def _add_prism(
    prism: Prism, look: Look, rays: Floats, origin: Floats, depth: Floats, position: Floats,
    colour: Floats,
) -> None:  # fmt: skip
    """Paints a prism into depth, position and colour where it is nearer."""
    entry, leave, face = _cast(prism, origin, rays)
    hit = (entry < leave) & (entry > 0) & (entry < depth)
    where = np.nonzero(hit)
    faces = face[where]
    points = origin + entry[where][:, None] * rays[where]
    depth[where] = entry[where]
    position[where] = points
    normals, _ = _half_spaces(prism)
    along = np.cross([0, 0, 1], normals).astype(np.float32)  # (k, 3): in the face, across z
    flat = np.abs(normals[faces, 2]) > 0.5
    u = np.where(flat, points[:, 0], np.sum(points * along[faces], axis=1))
    v = np.where(flat, points[:, 1], points[:, 2])
    lit = np.array([_lit(look, tuple(n)) for n in normals], np.float32)
    colour[where] = _sample(look.blocks[prism.material], u, v) * lit[faces][:, None]


def _prism_shadow(prism: Prism, position: Floats, light: Floats) -> Floats:
    """1 where the way to the light is blocked by the prism."""
    start = position + np.float32(1e-3) * light
    entry, leave, _ = _cast(prism, start, light)
    return ((entry < leave) & (leave > 1e-3) & (entry > -1e-3)).astype(np.float32)


def _soften(shade: Floats) -> Floats:
    from PIL import Image, ImageFilter

    image = Image.fromarray((shade * 255).astype(np.uint8))
    blurred = image.filter(ImageFilter.BoxBlur(shade.shape[0] / 100))
    return np.asarray(blurred, dtype=np.float32) / np.float32(255)


def _window(
    camera: Camera, points: NDArray[np.float64], reach: float
) -> tuple[slice, slice] | None:
    """The pixels around world points (k, 3) with `reach` metres to every side; None: outside."""
    x, y, depth = camera.project(points)
    near = max(float(depth.min()) - reach, 0.05)
    margin = reach * camera.focal_pixels / near * 1.1 + 2
    left, right = int(x.min() - margin), math.ceil(x.max() + margin)
    top, bottom = int(y.min() - margin), math.ceil(y.max() + margin)
    n = camera.size
    left, right, top, bottom = max(left, 0), min(right, n), max(top, 0), min(bottom, n)
    if left >= right or top >= bottom:
        return None
    return slice(top, bottom), slice(left, right)


def _shade(
    picture: NDArray[np.uint8], backdrop: Backdrop, camera: Camera, look: Look, puck: Puck,
    centre: NDArray[np.float64],
) -> None:  # fmt: skip
    """Darkens where the puck is between the light and the fixed parts, softer with distance."""
    middle = np.array([centre[0], centre[1], 0.0])
    light = look.light
    feet = [middle]
    if light[1] > 0:
        feet.append(middle - light * (max(middle[1], 0.0) / light[1]))
    window = _window(camera, np.array(feet), puck.radius * 1.6)
    if window is None:
        return
    offset = middle.astype(np.float32) - backdrop.position[window]  # (h, w, 3)
    towards = offset @ light.astype(np.float32)
    across = np.sqrt(np.maximum(np.einsum("hwc,hwc->hw", offset, offset) - towards**2, 0))
    soft = np.float32(0.25 * puck.radius) + np.float32(0.12) * np.maximum(towards, 0)
    dark = np.clip((puck.radius - across) / (2 * soft) + 0.5, 0, 1) * (towards > 0)
    picture[window] = picture[window] * (1 - SHADOW * dark)[..., None]


def _paint(
    picture: NDArray[np.uint8], backdrop: Backdrop, rays: Floats, camera: Camera, look: Look,
    puck: Puck, centre: NDArray[np.float64],
) -> None:  # fmt: skip
    """Draws the puck with smooth edges at its exact place.

    The disc swept along z is seen, through a ray, as a disc around each point of the segment in
    which the ray crosses |z| <= depth / 2; the nearest of them gives the outline.
    """
    half = puck.depth / 2
    ends = np.array([[centre[0], centre[1], half], [centre[0], centre[1], -half]])
    window = _window(camera, ends, puck.radius)
    if window is None:
        return
    ray = rays[window]
    origin = camera.position.astype(np.float32)
    t_front = (np.float32(half) - origin[2]) / ray[..., 2]
    t_rear = (np.float32(-half) - origin[2]) / ray[..., 2]
    start = origin[:2] + t_front[..., None] * ray[..., :2] - centre.astype(np.float32)  # (h, w, 2)
    step = (t_rear - t_front)[..., None] * ray[..., :2]
    radius = np.float32(puck.radius)
    per_pixel = t_front / np.float32(camera.focal_pixels)
    a = np.einsum("hwc,hwc->hw", step, step) + np.float32(1e-12)
    b = np.einsum("hwc,hwc->hw", start, step)
    squared = np.einsum("hwc,hwc->hw", start, start)
    nearest = np.clip(-b / a, 0, 1)
    outline = np.sqrt(np.maximum(squared + nearest * (2 * b + nearest * a), 0))
    cover = np.clip(np.float32(0.5) + (radius - outline) / per_pixel, 0, 1)
    front = np.sqrt(squared)
    face = np.clip(np.float32(0.5) + (radius - front) / per_pixel, 0, 1)
    root = np.sqrt(np.maximum(b * b - a * (squared - radius * radius), 0))
    along = np.clip((-b - root) / a, 0, 1)  # where the ray meets the side
    normal = (start + along[..., None] * step) / radius
    light = look.light.astype(np.float32)
    side_light = look.ambient + 0.62 * np.maximum(normal @ light[:2], 0)
    face_light = _lit(look, (0, 0, 1))
    base = np.array(look.puck_face, np.float32)
    mark = np.array(look.puck_mark, np.float32)
    pattern = _mark(look, start / radius, per_pixel / radius)[..., None]
    rim = np.clip((radius * np.float32(0.9) - front) / per_pixel + 0.5, 0, 1)[..., None]
    on_face = (base + pattern * (mark - base)) * face_light * (0.82 + 0.18 * rim)
    on_side = base * np.float32(0.85) * side_light[..., None]
    colour = on_side + face[..., None] * (on_face - on_side)
    tint = np.array([1 + look.warmth, 1, 1 - look.warmth], np.float32)
    cover = cover * (t_front + nearest * (t_rear - t_front) < backdrop.depth[window])
    under = picture[window].astype(np.float32)
    mixed = under + cover[..., None] * (np.clip(255 * colour * tint, 0, 255) - under)
    picture[window] = (mixed + np.float32(0.5)).astype(np.uint8)


def _mark(look: Look, at: Floats, blur: Floats) -> Floats:
    """The pattern on the puck's face, 0..1: `at` (h, w, 2) in radii, edges `blur` wide."""
    cos, sin = math.cos(look.mark_angle), math.sin(look.mark_angle)
    x = at[..., 0] * np.float32(cos) + at[..., 1] * np.float32(sin)
    y = at[..., 1] * np.float32(cos) - at[..., 0] * np.float32(sin)
    far = np.hypot(x, y)
    if look.mark == "cross":
        inside = np.maximum(0.2 - np.minimum(np.abs(x), np.abs(y)), far - 9)
    elif look.mark == "ring":
        inside = 0.18 - np.abs(far - 0.55)
    elif look.mark == "half":
        inside = x
    else:
        inside = 0.28 - np.hypot(np.abs(x) - 0.45, y)
    return np.clip(inside / blur + np.float32(0.5), 0, 1)
