"""The pictures of the README, from a run of the demo (`make docs`).

    python -m tools.pictures runs/demo

`docs/pictures/message.png` shows a clip, what each agent sees of it and says, and what that means;
`docs/pictures/demo.webp` shows several clips, one after the other. Both are of the first clip of
each cell that no agent was trained on, whatever is said of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from data.clips import Clip
from data.files import replacing
from data.manifests import read_manifest
from data.video import Sampling, read_sampled
from pipeline.message import Message, Reading, Speaker
from pipeline.report.thumbnails import overlay
from pipeline.runs import Run

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"
PAPER, INK, FAINT, LINE = (250, 250, 248), (36, 36, 40), (120, 120, 126), (214, 214, 210)
COLOURS = ((49, 99, 170), (190, 90, 40), (60, 130, 80), (130, 70, 140))
FRAMES = 16
FRAME_MILLISECONDS, HOLD_MILLISECONDS = 110, 2200
MOST_BYTES = 300_000


@dataclass(frozen=True)
class Spoken:
    """A clip, its frames (T, H, W, 3), and what was said of it."""

    clip: Clip
    frames: NDArray[np.uint8]
    message: Message

    def parts(self) -> list[NDArray[np.uint8]]:
        """Return the frames of each agent."""
        return np.array_split(self.frames, len(self.message.tokens))


def speak(demo: Path) -> list[Spoken]:
    """Return the first clip of each cell that no agent was trained on."""
    run = Run.open(demo / "run")
    clips = {clip.id: clip for clip in read_manifest(demo / "clips" / "manifest.jsonl")}
    firsts: dict[str, str] = {}
    for line in run.messages():
        if line["part"] == "test":
            firsts.setdefault(line["object"], line["clip"])
    speaker = Speaker(run)
    spoken = []
    for name in firsts.values():
        batch, _ = read_sampled(clips[name].path, Sampling(frames=FRAMES, pad=True))
        spoken.append(Spoken(clips[name], batch.frames, speaker(clips[name])))
    return spoken


def draw_message(spoken: Spoken, scale: dict[str, tuple[float, float]]) -> Image.Image:
    """Return the picture of a clip as its agents see it, their message, and what it means."""
    parts = spoken.parts()
    side, gap = 286, 16
    width = gap + len(parts) * (side + gap)
    picture = Image.new("RGB", (width, side + 300), PAPER)
    pen = ImageDraw.Draw(picture)
    for agent, part in enumerate(parts):
        left = gap + agent * (side + gap)
        seen = Image.fromarray(overlay(part)).resize((side, side), Image.Resampling.LANCZOS)
        picture.paste(seen, (left, gap))
        write(pen, (left, side + 26), f"agent {agent + 1} says", 20, FAINT)
        words = spoken.message.gloss[agent] if spoken.message.gloss else ()
        for head, symbol in enumerate(spoken.message.tokens[agent]):
            box = (left + 136 + 46 * head, side + 22)
            draw_symbol(pen, box, 36, agent, int(symbol))
        told = [word for word in words if word != "–"]
        write(pen, (left, side + 66), ", ".join(dict.fromkeys(told)) or "nothing sure", 20)
    pen.line((gap, side + 108, width - gap, side + 108), fill=LINE, width=2)
    for row, reading in enumerate(spoken.message.readings or ()):
        corner = (gap, side + 128 + 82 * row)
        true = spoken.clip.labels[reading.name]
        draw_reading(pen, corner, width - 2 * gap, reading, true, scale[reading.name], size=22)
    return picture


def draw_demo(
    clips: list[Spoken], scale: dict[str, tuple[float, float]]
) -> Iterator[tuple[Image.Image, int]]:
    """Yield the pictures of the animation, and for how many milliseconds each is shown.

    An agent says its symbols when its part of the clip is over; the estimates come at the end.
    """
    for spoken in clips:
        ends = np.cumsum([len(part) for part in spoken.parts()])
        for time, frame in enumerate(spoken.frames):
            last = time == len(spoken.frames) - 1
            picture = Image.new("RGB", (680, 224), PAPER)
            seen = Image.fromarray(frame).resize((224, 224), Image.Resampling.LANCZOS)
            picture.paste(seen, (0, 0))
            pen = ImageDraw.Draw(picture)
            write(pen, (244, 12), "message of four agents", 15, FAINT)
            for agent, symbols in enumerate(spoken.message.tokens):
                for head, symbol in enumerate(symbols):
                    box = (244 + 104 * agent + 44 * head, 36)
                    said = time + 1 >= ends[agent]
                    draw_symbol(pen, box, 36, agent, int(symbol) if said else None)
            for row, reading in enumerate(spoken.message.readings or () if last else ()):
                true = spoken.clip.labels[reading.name]
                corner = (244, 92 + 66 * row)
                draw_reading(pen, corner, 420, reading, true, scale[reading.name], size=15)
            yield picture, HOLD_MILLISECONDS if last else FRAME_MILLISECONDS


def draw_symbol(
    pen: ImageDraw.ImageDraw, corner: tuple[int, int], side: int, agent: int, symbol: int | None
) -> None:
    """Draw a symbol in the colour of its agent, or an empty box for one that is not said yet."""
    x, y = corner
    colour = COLOURS[agent % len(COLOURS)]
    fill, outline = (PAPER, LINE) if symbol is None else (colour, colour)
    pen.rounded_rectangle((x, y, x + side, y + side), 6, fill, outline)
    if symbol is not None:
        font = ImageFont.load_default(round(side * 0.6))
        pen.text((x + side / 2, y + side / 2), str(symbol), PAPER, font, anchor="mm")


def draw_reading(
    pen: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    width: int,
    reading: Reading,
    true: float,
    scale: tuple[float, float],
    *,
    size: int,
) -> None:
    """Draw an estimate with its interval on the scale of the property, and what is true."""
    x, y = corner
    texts = (f"{reading.name}, as sent: {reading.value:.2f}", f"true: {true:.2f}")
    for text, colour, left in zip(texts, COLOURS[:2], (x, x + 15 * size), strict=True):
        write(pen, (left, y), text, size, colour)
    low, high = scale
    margin = 0.12 * (high - low)
    low, high = low - margin, high + margin

    def at(value: float) -> float:
        return x + width * (min(max(value, low), high) - low) / (high - low)

    middle, half = y + round(2.1 * size), size // 3
    pen.line((x, middle, x + width, middle), fill=LINE, width=max(2, size // 8))
    if reading.interval is not None:
        left, right = map(at, reading.interval)
        pen.rounded_rectangle((left, middle - half, right, middle + half), half, (178, 200, 228))
    told = at(reading.value)
    pen.ellipse((told - half, middle - half, told + half, middle + half), COLOURS[0])
    tick = at(true)
    pen.line((tick, middle - 2 * half, tick, middle + 2 * half), fill=COLOURS[1], width=size // 5)


def write(
    pen: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    text: str,
    size: int,
    colour: tuple[int, int, int] = INK,
) -> None:
    """Write a line of text, its left upper corner given."""
    pen.text(corner, text, fill=colour, font=ImageFont.load_default(size))


def save(demo: Path, folder: Path) -> list[Path]:
    """Write both pictures, and return their paths.

    Raises:
        ValueError: a picture is larger than a README should have.
    """
    spoken = speak(demo)
    scale = {}
    for name in (reading.name for reading in spoken[0].message.readings or ()):
        values = [line["labels"][name] for line in Run.open(demo / "run").messages()]
        scale[name] = (min(values), max(values))
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "message.png", folder / "demo.webp"
    still = draw_message(spoken[len(spoken) // 2], scale)
    with replacing(paths[0]) as file:
        still.quantize(128).save(file, format="PNG", optimize=True)
    pictures, milliseconds = zip(*draw_demo(spoken, scale), strict=True)
    with replacing(paths[1]) as file:
        pictures[0].save(
            file, format="WEBP", save_all=True, append_images=pictures[1:], loop=0,
            duration=list(milliseconds), quality=70, method=4,
        )  # fmt: skip
    for path in paths:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"{path} has {path.stat().st_size} bytes, more than {MOST_BYTES}")
    return list(paths)


if __name__ == "__main__":
    for written in save(Path(sys.argv[1]), FOLDER):
        print(f"{written}: {written.stat().st_size / 1000:.0f} kB")
