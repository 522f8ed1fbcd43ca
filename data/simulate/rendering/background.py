"""The fixed parts of a frame: floor, wall behind and blocks, by ray casting.

Along the ray through the pixel position (x, y), the inverse of the depth at which it meets a plane
is affine in x and y. A face of a block therefore costs one sum and one comparison a pixel: the ray
is inside a convex block from the farthest of the faces that it may come in by (the least inverse
depth) to the nearest of those that it may leave by. Every pixel gets one ray; pixels in which two
faces meet get some more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from data.simulate.rendering.appearance import TEXELS, Appearance, Surface
from data.simulate.rendering.camera import Camera
from data.simulate.rendering.yuv import Floats, downsample, to_yuv
from data.simulate.scenes import Prism, Trial

STRIP = 1 << 14  # rays at a time: what they need stays in the processor's cache
# Rays in a pixel where faces meet, in eighths of a pixel: no two in one row or column.
EDGE_RAYS = ((-1, -3), (3, -1), (-3, 1), (1, 3))
SOFT_M = 0.03  # a shadow is complete where the light would cross this much of a block
LIGHT_STRENGTH = 0.62  # of the direct light, on top of the ambient light


@dataclass(frozen=True, kw_only=True)
class Background:
    """The fixed parts of a clip.

    `luma` (n, n) and `chroma` (2, n / 2, n / 2), without offsets; `position` (3, n, n) in metres;
    `direct` (n, n), the part of the light that a shadow would remove; `depth` (rays, n, n) in
    metres along the view, at several points of a pixel.
    """

    luma: Floats
    chroma: Floats
    position: Floats
    direct: Floats
    depth: Floats

    def visible(self, at: Floats, window: tuple[slice, slice]) -> Floats:
        """Return the part (h, w) of each pixel in which an object at depth `at` is in front."""
        count = np.zeros(at.shape, np.uint8)
        for depth in self.depth:
            count += at < depth[window]
        return count * np.float32(1 / len(self.depth))


def direct_light(appearance: Appearance, normals: Floats) -> Floats:
    """Return the direct light (k,) on faces with unit normals (k, 3), without the ambient light."""
    return np.float32(LIGHT_STRENGTH) * np.maximum(normals @ appearance.light.astype(np.float32), 0)


def render_background(trial: Trial, appearance: Appearance, camera: Camera) -> Background:
    """Return the fixed parts of a trial, as the camera sees them."""
    geometry = _SceneGeometry(trial, appearance, camera)
    n = camera.size
    centres = np.arange(n, dtype=np.float32) + np.float32(0.5)
    strips = np.array_split(centres, -(-n * n // STRIP))
    hits = _RayHits.joined([geometry.trace(centres, rows[:, None]) for rows in strips])
    rows, columns = np.nonzero(_borders(hits.face))
    dx, dy = np.array(EDGE_RAYS, np.float32).T[..., None] / np.float32(8)  # each (rays, 1)
    fine = geometry.trace(centres[columns] + dx, centres[rows] + dy)  # (rays, edges)
    hits.colour[:, rows, columns] = fine.colour.mean(axis=1)
    hits.direct[rows, columns] = fine.direct.mean(axis=0)
    depth = np.stack(len(EDGE_RAYS) * [hits.depth])
    depth[:, rows, columns] = fine.depth
    colour = hits.colour * _gradient(appearance, n)
    return Background(
        luma=colour[0],
        chroma=downsample(colour[1:]),
        position=hits.position,
        direct=hits.direct,
        depth=depth,
    )


def _borders(face: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return where (n, n) a neighbouring pixel shows another face."""
    border = np.zeros(face.shape, bool)
    down, across = face[1:] != face[:-1], face[:, 1:] != face[:, :-1]
    border[1:] |= down
    border[:-1] |= down
    border[:, 1:] |= across
    border[:, :-1] |= across
    return border


def _gradient(appearance: Appearance, n: int) -> Floats:
    """Return the falloff (n, n) of the light across the frame, away from its source."""
    at = np.linspace(-1, 1, n, dtype=np.float32)
    slope = np.float32(0.16 * appearance.light[0])
    return 1 + slope * at[None, :] - np.float32(0.06) * (at[:, None] ** 2 + at[None, :] ** 2)


@dataclass(frozen=True, kw_only=True)
class _RayHits:
    """What rays of any shape (...) meet.

    Number of the face (...), depth (...), position (3, ...), colour (3, ...) without offsets, and
    direct light (...) as a part of all light.
    """

    face: NDArray[np.intp]
    depth: Floats
    position: Floats
    colour: Floats
    direct: Floats

    @classmethod
    def joined(cls, strips: list[_RayHits]) -> _RayHits:
        """Return strips of a frame, one below the other, as one."""
        parts = {
            field.name: np.concatenate([getattr(strip, field.name) for strip in strips], axis=-2)
            for field in fields(cls)
        }
        return cls(**parts)


@dataclass(frozen=True, kw_only=True)
class _BlockFaces:
    """Numbers of a block's faces.

    Those that face the camera, and the others; those that face away from the light, and the others.
    """

    front: list[int]
    rear: list[int]
    dark: list[int]
    bright: list[int]


class _SceneGeometry:
    """The faces of a trial: 0 is the floor, 1 the wall behind, then those of the blocks."""

    def __init__(self, trial: Trial, appearance: Appearance, camera: Camera) -> None:
        faces = [(np.array([[0.0, 1, 0], [0, 0, 1]]), np.array([0.0, trial.back_z]))]
        faces += [_half_spaces(prism) for prism in trial.prisms]
        normals = np.concatenate([normals for normals, _ in faces])  # (f, 3)
        inside = np.concatenate([offsets for _, offsets in faces]) - normals @ camera.position
        towards = normals @ appearance.light
        self.blocks = []
        for first, last in _runs([len(offsets) for _, offsets in faces])[1:]:
            numbers = range(first, last)
            self.blocks.append(
                _BlockFaces(
                    front=[i for i in numbers if inside[i] < 0],
                    rear=[i for i in numbers if inside[i] >= 0],
                    dark=[i for i in numbers if towards[i] < 0],
                    bright=[i for i in numbers if towards[i] > 0],
                )
            )
        rays = camera.rays()
        self.origin = camera.position.astype(np.float32)
        self.rays = rays.astype(np.float32)
        self.nearness = (normals / inside[:, None] @ rays).astype(np.float32)  # (f, 3)
        with np.errstate(divide="ignore"):
            self.reach = (inside / towards).astype(np.float32)  # (f,) m from the camera

        self.ambient = np.float32(appearance.ambient)
        self.strength = direct_light(appearance, normals.astype(np.float32))
        kinds = [appearance.floor, appearance.back, *appearance.blocks]
        self.textures = np.stack([kind.texture for kind in kinds]).ravel()
        counts = [len(offsets) for _, offsets in faces[1:]]
        of_blocks = np.repeat([2 + prism.surface for prism in trial.prisms], counts)
        kind_of = np.concatenate([[0, 1], of_blocks]).astype(np.intp)  # (f,)
        self.texture_at = kind_of * TEXELS**2
        low = to_yuv(np.array([kind.low for kind in kinds]), warmth=appearance.warmth)
        high = to_yuv(np.array([kind.high for kind in kinds]), warmth=appearance.warmth)
        self.low = low[kind_of].T.astype(np.float32)  # (3, f)
        self.span = (high - low)[kind_of].T.astype(np.float32)
        self.u, self.v = _texture_axes(normals, [kinds[kind] for kind in kind_of])

    def trace(self, x: Floats, y: Floats) -> _RayHits:
        """Follow the rays through pixel positions x and y, broadcast, to what they meet."""
        nearness = [_affine(plane, x, y) for plane in self.nearness]  # each (...)
        near = np.maximum(nearness[0], nearness[1])
        number = (nearness[1] > nearness[0]).view(np.uint8)
        for block in self.blocks:
            entry = reduce(np.minimum, [nearness[i] for i in block.front])
            behind = reduce(np.maximum, [nearness[i] for i in block.rear], near)
            met = entry > behind
            for i in block.front:
                # Later blocks have higher numbers, and are met only in front of earlier ones.
                here = met & (nearness[i] == entry)
                np.maximum(number, here.view(np.uint8) * np.uint8(i), out=number)
            near = np.where(met, entry, near)
        face = number.astype(np.intp)
        depth: Floats = np.reciprocal(near)
        position = np.stack(
            [o + _affine(ray, x, y) * depth for o, ray in zip(self.origin, self.rays, strict=True)]
        )
        light = self.strength.take(face) * (1 - self._shadows(nearness, depth))
        total = light + self.ambient
        value = self._texture(face, position)
        colour = (self.low.take(face, axis=1) + self.span.take(face, axis=1) * value) * total
        return _RayHits(
            face=face, depth=depth, position=position, colour=colour, direct=light / total
        )

    def _shadows(self, nearness: list[Floats], depth: Floats) -> Floats:
        """Return the part (...) of the light that the blocks keep off: 0..1, soft at the rim.

        A point at the depth d is within the face i by `inside[i] * (1 - nearness[i] * d)`, and as
        far from it along the light as that over the slope.
        """
        dark = np.zeros_like(depth)
        for block in self.blocks:
            entry: Floats = reduce(
                np.maximum,
                [self.reach[i] * (1 - nearness[i] * depth) for i in block.dark],
                np.zeros_like(depth),
            )
            leave: Floats = reduce(
                np.minimum, [self.reach[i] * (1 - nearness[i] * depth) for i in block.bright]
            )
            np.maximum(dark, (leave - entry) * np.float32(1 / SOFT_M), out=dark)
        return np.minimum(dark, 1)

    def _texture(self, face: NDArray[np.intp], position: Floats) -> Floats:
        """Return the texture (...) at positions (3, ...) on faces, bilinear."""
        per_x, per_y, offset = self.u.take(face, axis=1)
        u = per_x * position[0] + per_y * position[1] + offset
        per_y, per_z, offset = self.v.take(face, axis=1)
        v = per_y * position[1] + per_z * position[2] + offset
        column, row = np.floor(u), np.floor(v)
        u -= column
        v -= row
        mask = TEXELS - 1
        j0 = column.astype(np.intp) & mask
        i0 = (row.astype(np.intp) & mask) * TEXELS
        j1, i1 = (j0 + 1) & mask, (i0 + TEXELS) & (mask * TEXELS)
        base = self.texture_at.take(face)
        i0 += base
        i1 += base
        above = self.textures.take(i0 + j0)
        above += (self.textures.take(i0 + j1) - above) * u
        below = self.textures.take(i1 + j0)
        below += (self.textures.take(i1 + j1) - below) * u
        return above + (below - above) * v


def _affine(coefficients: Floats, x: Floats, y: Floats) -> Floats:
    """c0 + c1 x + c2 y, broadcast."""
    constant, per_x, per_y = coefficients
    return (constant + per_x * x) + per_y * y


def _runs(lengths: list[int]) -> list[tuple[int, int]]:
    """Return where runs of these lengths, one after the other, begin and end."""
    ends = np.cumsum(lengths).tolist()
    return list(zip([0, *ends], ends, strict=False))


def _texture_axes(normals: NDArray[np.float64], surfaces: list[Surface]) -> tuple[Floats, Floats]:
    """Return texels per metre of each face, both (3, f): u along x, y; v along y, z; offsets."""
    u, v = np.zeros((2, 3, len(normals)), np.float32)
    for i, (normal, surface) in enumerate(zip(normals, surfaces, strict=True)):
        scale = TEXELS / surface.tile_m
        upright = abs(normal[2]) > 0.5  # u runs along x and v along y; else v along z
        u[:2, i] = (scale, 0) if upright else (normal[1] * scale, -normal[0] * scale)
        v[:2, i] = (scale, 0) if upright else (0, scale)
        u[2, i], v[2, i] = TEXELS * surface.shift[0], TEXELS * surface.shift[1]
    return u, v


def _half_spaces(prism: Prism) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return outward normals (k, 3) and offsets (k,): inside is normal . p <= offset."""
    corners = np.array(prism.corners)
    following = np.roll(corners, -1, axis=0)
    edge = following - corners
    area = float(np.sum(corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1]))
    normal = np.stack([edge[:, 1], -edge[:, 0]], axis=1) * math.copysign(1.0, area)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    front = prism.middle_z + prism.depth / 2  # and the rear face is at front - depth
    normals = np.concatenate([np.pad(normal, ((0, 0), (0, 1))), [[0, 0, 1], [0, 0, -1]]])
    offsets = np.concatenate([np.sum(normal * corners, axis=1), [front, prism.depth - front]])
    return normals, offsets
