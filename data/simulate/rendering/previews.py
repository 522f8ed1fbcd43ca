"""Previews of simulated clips: a contact sheet and an animation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from data.clips import Clip, ClipError
from data.files import replacing
from data.manifests import read_manifest
from data.video import Sampling, read_sampled

PAPER, INK = (250, 250, 248), (40, 40, 44)
GAP = 6  # pixels between pictures
FORMATS = {".gif": "GIF", ".webp": "WEBP"}


def contact_sheet(
    manifest: Path,
    out_png: Path,
    *,
    clips: int = 8,
    only: Sequence[str] = (),
    frames: int = 8,
    width: int = 144,
) -> None:
    """Write a PNG: a row of `frames` frames for each of `clips` clips, from all over the grid.

    `only`: ids of the clips to show instead; `width`: pixels of one frame.

    Raises:
        HeliographError: The manifest cannot be read, names no clips, or names a video that cannot
            be read.
    """
    listed = _read(manifest)
    chosen = [clip for clip in listed if clip.id in only] if only else _spread(listed, clips)
    margin, step, font = 176, width + GAP, ImageFont.load_default(12)
    sheet = Image.new("RGB", (margin + frames * step, len(chosen) * step + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    for row, clip in enumerate(chosen):
        top = GAP + row * step
        name, *values = _caption(clip)
        pen.text((GAP + 2, top + 6), name, fill=INK, font=ImageFont.load_default(14))
        pen.multiline_text((GAP + 2, top + 30), "\n".join(values), fill=INK, font=font, spacing=5)
        for column, picture in enumerate(_frames(clip, frames, width)):
            sheet.paste(picture, (margin + column * step, top))
    with replacing(out_png) as file:
        sheet.save(file, format="PNG", compress_level=3)


def preview(manifest: Path, out: Path, *, frames: int = 24, width: int = 112) -> None:
    """Write an animated .gif or .webp: the grid in motion, one clip of a cell.

    A row is a level of the first property, a column one of the second, five of each at most;
    `frames`: pictures of the animation, which runs as fast as the clips; `width`: pixels of one
    cell.

    Raises:
        HeliographError: As for `contact_sheet`; or the suffix is another one.
    """
    image_format = FORMATS.get(out.suffix.lower())
    if image_format is None:
        raise ClipError(f"{out}: a preview is one of {', '.join(FORMATS)}, not {out.suffix!r}")
    clips = _read(manifest)
    chosen = _cells(clips, side=5)
    columns = math.isqrt(len(chosen))
    rows = -(-len(chosen) // columns)
    step = width + 2
    canvases = [
        Image.new("RGB", (columns * step - 2, rows * step - 2), PAPER) for _ in range(frames)
    ]
    for index, clip in enumerate(chosen):
        corner = (index % columns * step, index // columns * step)
        for canvas, picture in zip(canvases, _frames(clip, frames, width), strict=True):
            canvas.paste(picture, corner)
    seconds = _seconds(chosen[0])
    with replacing(out) as file:
        canvases[0].save(
            file, format=image_format, save_all=True, append_images=canvases[1:], loop=0,
            duration=round(1000 * seconds / frames),
        )  # fmt: skip


def _cells(clips: list[Clip], *, side: int) -> list[Clip]:
    """Return the first clip of each cell, in their order: `side` squared cells at most."""
    first_of_cell: dict[str, Clip] = {}
    for clip in clips:
        first_of_cell.setdefault(clip.object, clip)
    firsts = list(first_of_cell.values())
    width = math.isqrt(len(firsts))
    if width <= side or width * width != len(firsts):
        return _spread(firsts, side * side)
    levels = np.linspace(0, width - 1, side).round().astype(int)
    return [firsts[width * row + column] for row in levels for column in levels]


def _read(manifest: Path) -> list[Clip]:
    clips = read_manifest(manifest)
    if not clips:
        raise ClipError(f"{manifest} names no clips")
    return clips


def _spread(clips: list[Clip], count: int) -> list[Clip]:
    """Return at most `count` of the clips, evenly spread over them."""
    indices = np.linspace(0, len(clips) - 1, min(count, len(clips))).round().astype(int)
    return [clips[index] for index in indices]


def _frames(clip: Clip, count: int, width: int) -> list[Image.Image]:
    batch, _ = read_sampled(clip.path, Sampling(frames=count, pad=True))
    return [_shrink(pixels, width) for pixels in batch.frames]


def _seconds(clip: Clip) -> float:
    """Return how long a clip is shown, in seconds."""
    _, info = read_sampled(clip.path, Sampling(frames=1))
    return float(info.pts_seconds[-1] - info.pts_seconds[0])


def _shrink(pixels: NDArray[np.uint8], width: int) -> Image.Image:
    height = round(width * pixels.shape[0] / pixels.shape[1])
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.HAMMING)


def _caption(clip: Clip) -> list[str]:
    """Return the clip's id, then its first labels, a line each."""
    return [
        clip.id.removesuffix(".mp4"),
        *(f"{k} {v:.3g}" for k, v in list(clip.labels.items())[:5]),
    ]
