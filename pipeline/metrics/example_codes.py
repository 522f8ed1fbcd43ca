"""Small codes that show what a metric likes and what fools it, and their pictures for the docs.

Each code gives a message to each of 25 clips: every pair of the levels 0 .. 4 of two properties.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from string import ascii_lowercase

import numpy as np

from pipeline.metrics.information import Integers

LEVELS = 5
MEANINGS: Integers = np.stack(np.divmod(np.arange(LEVELS**2), LEVELS), axis=1)
"""The two properties of each clip, (25, 2)."""
_FIRST, _SECOND = MEANINGS.T


@dataclass(frozen=True)
class ExampleCode:
    """A code and what it does.

    Attributes:
        description: What a message says.
        tokens: The message of each clip of `MEANINGS`, (25, P).
    """

    description: str
    tokens: Integers


def _code(description: str, positions: Iterable[Integers]) -> ExampleCode:
    return ExampleCode(description, np.stack(list(positions), axis=1))


def _in_any_order() -> list[Integers]:
    swapped = np.random.default_rng(1).integers(0, 2, LEVELS**2)
    first, second = _FIRST, _SECOND + LEVELS
    return [np.where(swapped, second, first), np.where(swapped, first, second)]


def _names() -> list[Integers]:
    order = np.random.default_rng(1).permutation(LEVELS**2)
    names = list(np.divmod(order, LEVELS))
    order = np.random.default_rng(2).permutation(LEVELS**2)
    return names + list(np.divmod(order, LEVELS))


EXAMPLE_CODES = {
    "positional": _code("one position for each property", [_FIRST, _SECOND]),
    "any order": _code("a symbol for each level, in any order", _in_any_order()),
    "one property": _code(
        "the first property alone, and a position that never changes", [_FIRST, _FIRST * 0]
    ),
    "first levels": _code(
        "only whether each property has its first level",
        [(_FIRST == 0).astype(np.int64), (_SECOND == 0).astype(np.int64)],
    ),
    "first levels, by letters": _code(
        "only whether each property has its first level, by letters of its own",
        [(_FIRST == 0).astype(np.int64), 2 + (_SECOND == 0).astype(np.int64)],
    ),
    "names": _code("a name for each clip, drawn at random", _names()),
    "quarters": _code(
        "in which quarter both lie, by one symbol", [2 * (_FIRST >= 2) + (_SECOND >= 2)]
    ),
}
"""The codes of `docs/metrics.md`, by name."""

CELL, SQUARE, GAP = 44, 20, 40


def picture(codes: Iterable[tuple[ExampleCode, str]]) -> str:
    """Return an SVG of codes side by side, each with a caption.

    A field of a grid is a clip: the first property grows downwards, the second to the right. In it
    are the symbols of the message, as letters in colours.
    """
    shown = list(codes)
    side = LEVELS * CELL
    width, height = len(shown) * (side + GAP), side + 2 * GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="13" text-anchor="middle">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, (code, caption) in enumerate(shown):
        left = number * (side + GAP) + GAP // 2
        lines.append(f'<text x="{left + side // 2}" y="{GAP // 2 + 6}">{caption}</text>')
        lines.append(f'<path d="{_grid(left, GAP, side)}" stroke="#999"/>')
        lines += _symbols(code.tokens, left, GAP)
        label = f"first property {chr(0x2193)}, second property {chr(0x2192)}"
        lines.append(f'<text x="{left + side // 2}" y="{height - 14}" fill="#555">{label}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _grid(left: int, top: int, side: int) -> str:
    places = range(0, side + 1, CELL)
    return "".join(f"M{left + place} {top}v{side}M{left} {top + place}h{side}" for place in places)


def _symbols(tokens: Integers, left: int, top: int) -> list[str]:
    """Return a path of squares and their letters for each symbol that occurs."""
    positions = tokens.shape[1]
    rows = (positions + 1) // 2
    lines = []
    for symbol in np.unique(tokens).tolist():
        corners = []
        for clip, position in np.argwhere(tokens == symbol).tolist():
            down, right = MEANINGS[clip].tolist()
            line, column = divmod(position, 2)
            in_line = min(positions - 2 * line, 2)
            x = left + right * CELL + CELL // 2 + round((column - in_line / 2) * SQUARE)
            y = top + down * CELL + CELL // 2 + round((line - rows / 2) * SQUARE)
            corners.append((x, y))
        squares = "".join(f"M{x} {y}h{SQUARE}v{SQUARE}h-{SQUARE}z" for x, y in corners)
        hue = round(symbol * 360 / max(LEVELS, int(tokens.max()) + 1))
        lines.append(f'<path d="{squares}" fill="hsl({hue} 70% 82%)"/>')
        xs = " ".join(str(x + SQUARE // 2) for x, _ in corners)
        ys = " ".join(str(y + 15) for _, y in corners)
        letters = ascii_lowercase[symbol] * len(corners)
        lines.append(f'<text x="{xs}" y="{ys}">{letters}</text>')
    return lines
