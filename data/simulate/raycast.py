"""The fixed parts of a picture: floor, wall behind and blocks, by casting rays.

Rays and points are stored as one array per coordinate (3, n), which NumPy goes through several
times faster than (n, 3). Every pixel gets one ray; pixels in which two faces meet get sixteen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from data.simulate.camera import Camera
from data.simulate.look import TEXELS, Look, Material
from data.simulate.world import Prism, World

Floats = NDArray[np.float32]

CHUNK = 8192  # rays at a time: what they need stays in the processor's cache
EDGE_SAMPLES = 4  # per axis, in pixels where faces meet
SOFT_M = 0.03  # a shadow is whole where the light would cross this much of a block
BOUNCED = 0.62  # strength of the light, beside the ambient one of the look


@dataclass(frozen=True, kw_only=True)
class Backdrop:
    """The fixed parts of a clip.

    `colour` (n, n, 3) in 0..255; `position` (3, n, n) in metres; `direct` (n, n), the part of the
    light that a shadow would take away; `depth` (n, n) in metres along the view. Where faces meet,
    `edge` (n, n) is a column of `edge_depth` (16, edges), the depths within the pixel; else -1.
    """

    colour: Floats
    position: Floats
    direct: Floats
    depth: Floats
    edge: NDArray[np.int32]
    edge_depth: Floats

    def visible(self, at: Floats, window: tuple[slice, slice]) -> Floats:
        """The part (h, w) of each pixel in a window in which a thing at depth `at` is in front."""
        shown = (at < self.depth[window]).astype(np.float32)
        column = self.edge[window]
        mixed = column >= 0
        behind = self.edge_depth[:, column[mixed]]  # (16, k)
        shown[mixed] = np.mean(at[mixed] < behind, axis=0, dtype=np.float32)
        return shown


def lit(look: Look, normals: Floats) -> Floats:
    """The direct light (k,) on faces with unit normals (k, 3); the ambient light comes on top."""
    return np.float32(BOUNCED) * np.maximum(normals @ look.light.astype(np.float32), 0)


def render(world: World, look: Look, camera: Camera) -> Backdrop:
    """The fixed parts of a world, as the camera sees them."""
    scenery = _Scenery(world, look, camera)
    n = camera.size
    grid = np.arange(n, dtype=np.float32) + np.float32(0.5)
    x, y = (part.ravel() for part in np.meshgrid(grid, grid))
    hits = scenery.trace(x, y)
    colour, direct = hits.colour, hits.direct
    edges = np.flatnonzero(_borders(hits.face.reshape(n, n)))
    part = (np.arange(EDGE_SAMPLES, dtype=np.float32) + np.float32(0.5)) / EDGE_SAMPLES
    dx, dy = (side.ravel()[:, None] - np.float32(0.5) for side in np.meshgrid(part, part))
    fine = scenery.trace((x[edges] + dx).ravel(), (y[edges] + dy).ravel())
    colour[:, edges] = fine.colour.reshape(3, EDGE_SAMPLES**2, -1).mean(axis=1)
    direct[edges] = fine.direct.reshape(EDGE_SAMPLES**2, -1).mean(axis=0)
    edge = np.full(n * n, -1, np.int32)
    edge[edges] = np.arange(len(edges))

    tint = 255 * np.array([1 + look.warmth, 1, 1 - look.warmth], np.float32)
    picture = np.ascontiguousarray(colour.T).reshape(n, n, 3) * tint * _gradient(look, n)[..., None]
    return Backdrop(
        colour=np.clip(picture, 0, 255),
        position=hits.position.reshape(3, n, n),
        direct=direct.reshape(n, n),
        depth=hits.depth.reshape(n, n),
        edge=edge.reshape(n, n),
        edge_depth=fine.depth.reshape(EDGE_SAMPLES**2, -1),
    )


def _borders(face: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Pixels (n, n) beside which another face begins."""
    border = np.zeros(face.shape, bool)
    down, across = face[1:] != face[:-1], face[:, 1:] != face[:, :-1]
    border[1:] |= down
    border[:-1] |= down
    border[:, 1:] |= across
    border[:, :-1] |= across
    return border


def _gradient(look: Look, n: int) -> Floats:
    """The light falls off across the picture, away from the side that it comes from."""
    at = np.linspace(-1, 1, n, dtype=np.float32)
    slope = np.float32(0.16 * look.light[0])
    return 1 + slope * at[None, :] - np.float32(0.06) * (at[:, None] ** 2 + at[None, :] ** 2)


@dataclass(frozen=True, kw_only=True)
class _Hits:
    """What n rays meet: number of the face (n,), depth (n,), position (3, n), colour (3, n), and
    direct light (n,) as a part of all light."""

    face: NDArray[np.int16]
    depth: Floats
    position: Floats
    colour: Floats
    direct: Floats


class _Scenery:
    """The faces of a world: 0 is the floor, 1 the wall behind, then those of the blocks."""

    def __init__(self, world: World, look: Look, camera: Camera) -> None:
        self.back_z = np.float32(world.back_z)
        self.light = look.light.astype(np.float32)
        self.ambient = np.float32(look.ambient)
        self.camera = camera
        self.origin = camera.position.astype(np.float32)
        self.blocks = [_half_spaces(prism) for prism in world.prisms]
        self.firsts = 2 + np.cumsum([0, *(len(normals) for normals, _ in self.blocks)])
        floor_and_back = np.array([[0, 1, 0], [0, 0, 1]], np.float32)
        self.normals = np.concatenate([floor_and_back, *(normals for normals, _ in self.blocks)])
        self.strength = lit(look, self.normals)
        self.materials = [look.floor, look.back]
        for prism, (normals, _) in zip(world.prisms, self.blocks, strict=True):
            self.materials += len(normals) * [look.blocks[prism.material]]

    def trace(self, x: Floats, y: Floats) -> _Hits:
        """Follows the rays through pixel places (n,) to what they meet first."""
        parts = [
            self._trace(self.camera.rays(x[at : at + CHUNK], y[at : at + CHUNK]))
            for at in range(0, len(x), CHUNK)
        ]
        joined = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts], axis=-1)
            for field in fields(_Hits)
        }
        return _Hits(**joined)

    def _trace(self, rays: Floats) -> _Hits:
        """Follows rays (3, n)."""
        with np.errstate(divide="ignore"):
            to_floor = -self.origin[1] / rays[1]
            to_back = (self.back_z - self.origin[2]) / rays[2]
        to_floor[~(to_floor > 0)] = np.inf
        to_back[~(to_back > 0)] = np.inf
        depth = np.minimum(to_floor, to_back)
        face = (to_floor >= to_back).astype(np.int16)
        for first, (normals, offsets) in zip(self.firsts, self.blocks, strict=False):
            entry, leave, side = _cast(normals, offsets, self.origin, rays)
            nearer = np.flatnonzero((entry < leave) & (entry > 0) & (entry < depth))
            depth[nearer] = entry[nearer]
            face[nearer] = np.int16(first) + side[nearer]
        position = self.origin[:, None] + depth * rays
        dark = self._shadows(position)
        colour = np.empty_like(rays)
        direct = np.empty_like(depth)
        for index in np.unique(face):
            where = np.flatnonzero(face == index)
            u, v = _on_face(self.normals[index], position[:, where])
            light = self.strength[index] * (1 - dark[where])
            colour[:, where] = _sample(self.materials[index], u, v) * (light + self.ambient)
            direct[where] = light / (light + self.ambient)
        return _Hits(face=face, depth=depth, position=position, colour=colour, direct=direct)

    def _shadows(self, position: Floats) -> Floats:
        """How much of the light (n,) the blocks keep from points (3, n): 0..1, soft at the rim."""
        dark = np.zeros(position.shape[1], np.float32)
        for normals, offsets in self.blocks:
            towards = normals @ self.light
            inside = offsets[:, None] - _dot(normals, position)  # (k, n): how far within each face
            entry = np.zeros(position.shape[1], np.float32)
            leave = np.full(position.shape[1], np.inf, np.float32)
            for distance, slope in zip(inside, towards, strict=True):
                if slope < 0:
                    np.maximum(entry, distance / slope, out=entry)
                elif slope > 0:
                    np.minimum(leave, distance / slope, out=leave)
            np.maximum(dark, (leave - entry) / np.float32(SOFT_M), out=dark)
        return np.minimum(dark, 1)


def _dot(normals: Floats, vectors: Floats) -> Floats:
    """Products (k, n) of (k, 3) and (3, n), without the threads of a BLAS: the same everywhere."""
    return np.einsum("kc,cn->kn", normals, vectors)


def _on_face(normal: Floats, point: Floats) -> tuple[Floats, Floats]:
    """Coordinates in metres (u, v), each (n,), of points (3, n) on a face."""
    if abs(normal[2]) > 0.5:
        return point[0], point[1]
    return point[0] * normal[1] - point[1] * normal[0], point[2]


def _sample(material: Material, u: Floats, v: Floats) -> Floats:
    """Colours (3, n) of a material at (u, v) in metres, bilinear."""
    scale = np.float32(TEXELS / material.tile_m)
    u, v = u * scale, v * scale
    column, row = np.floor(u), np.floor(v)
    du, dv = u - column, v - row
    mask = TEXELS - 1
    j0, i0 = column.astype(np.int32) & mask, (row.astype(np.int32) & mask) * TEXELS
    j1, i1 = (j0 + 1) & mask, (i0 + TEXELS) & (mask * TEXELS)
    texture = material.texture.ravel()
    above = texture[i0 + j0] * (1 - du) + texture[i0 + j1] * du
    below = texture[i1 + j0] * (1 - du) + texture[i1 + j1] * du
    value = above + (below - above) * dv
    low, high = (np.array(c, np.float32)[:, None] for c in (material.low, material.high))
    return low + value * (high - low)


def _half_spaces(prism: Prism) -> tuple[Floats, Floats]:
    """Outward normals (k, 3) and offsets (k,): inside is normal . p <= offset."""
    corners = np.array(prism.corners)
    following = np.roll(corners, -1, axis=0)
    edge = following - corners
    area = float(np.sum(corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1]))
    normal = np.stack([edge[:, 1], -edge[:, 0]], axis=1) * math.copysign(1.0, area)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    front = prism.middle_z + prism.depth / 2  # and the rear face is at front - depth
    normals = np.concatenate([np.pad(normal, ((0, 0), (0, 1))), [[0, 0, 1], [0, 0, -1]]])
    offsets = np.concatenate([np.sum(normal * corners, axis=1), [front, prism.depth - front]])
    return normals.astype(np.float32), offsets.astype(np.float32)


def _cast(
    normals: Floats, offsets: Floats, origin: Floats, rays: Floats
) -> tuple[Floats, Floats, NDArray[np.int16]]:
    """Where rays (3, n) from `origin` (3,) enter and leave a convex block, and by which face.

    They meet it where entry < leave.
    """
    n = rays.shape[1]
    entry = np.full(n, -np.inf, np.float32)
    leave = np.full(n, np.inf, np.float32)
    side = np.zeros(n, np.int16)
    inside = offsets - normals @ origin  # (k,)
    with np.errstate(divide="ignore"):
        for index, towards in enumerate(_dot(normals, rays)):
            at = inside[index] / towards
            into = towards < 0
            first = np.where(into, at, -np.inf)
            side[first > entry] = index
            np.maximum(entry, first, out=entry)
            np.minimum(leave, np.where(into, np.inf, at), out=leave)
    return entry, leave, side
