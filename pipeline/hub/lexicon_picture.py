"""The lexicon of a run as one picture: for each position its symbols, each with its word."""

from __future__ import annotations

import base64
import io
import textwrap
import unicodedata

from PIL import Image, ImageDraw, ImageFont

from data.wording import counted
from pipeline.message import Lexicon, Meaning, Position
from pipeline.report import Thumbnails

WIDTH, MARGIN = 1000, 20  # pixels
CELL_WIDTH, CELL_HEIGHT, HEADING = 120, 92, 34
PICTURE = 84  # height of a clip, with the space above it
LETTERS = 17  # of a line below a symbol
INK, PAPER, FAINT, BOX = "#1b2430", "#ffffff", "#5b6878", "#e4ecf7"


def lexicon_picture(lexicon: Lexicon, pictures: Thumbnails | None = None) -> bytes:
    """Return a PNG with every position and symbol of a lexicon, and a clip of each where given."""
    across = (WIDTH - 2 * MARGIN) // CELL_WIDTH
    height = CELL_HEIGHT + (PICTURE if pictures else 0)
    lines = [-(-len(position.meanings) // across) for position in lexicon.positions]
    whole = 2 * MARGIN + sum(HEADING + height * count for count in lines)
    sheet = Image.new("RGB", (WIDTH, whole), PAPER)
    draw, top = ImageDraw.Draw(sheet), MARGIN
    for position, count in zip(lexicon.positions, lines, strict=True):
        about = position.about or "nothing above chance"
        text = f"{position.name}: {_drawable(about.replace('_', ' '))}"
        draw.text((MARGIN, top), text, fill=INK, font=ImageFont.load_default(18))
        for number, meaning in enumerate(in_order(position)):
            row, column = divmod(number, across)
            left, above = MARGIN + column * CELL_WIDTH, top + HEADING + row * height
            _draw_symbol(draw, (left, above), position, meaning)
            if pictures is not None:
                place = left, above + CELL_HEIGHT - 8
                _paste_clip(sheet, place, pictures, position, meaning)
        top += HEADING + height * count
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def in_order(position: Position) -> list[Meaning]:
    """Return the meanings of a position from low to high, of one about nothing by symbol."""
    if position.about is None:
        return list(position.meanings)
    return sorted(position.meanings, key=lambda one: (one.median, one.symbol))


def _draw_symbol(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], position: Position, meaning: Meaning
) -> None:
    left, top = place
    draw.rounded_rectangle((left, top, left + 44, top + 30), 6, fill=BOX)
    symbol = ImageFont.load_default(18)
    draw.text((left + 22, top + 15), str(meaning.symbol), fill=INK, font=symbol, anchor="mm")
    small = ImageFont.load_default(13)
    clips = counted(meaning.clips, "clip")
    draw.text((left + 50, top + 15), clips, fill=FAINT, font=small, anchor="lm")
    words = textwrap.wrap(_drawable(position.gloss(meaning.symbol)), LETTERS)[:2]
    draw.multiline_text((left, top + 36), "\n".join(words), fill=INK, font=small)


def _drawable(text: str) -> str:
    """Return text in the letters that the font of Pillow has, ASCII; else it draws boxes.

    >>> _drawable("größer"), _drawable("–"), _drawable("élasticité 3")
    ('gro?er', '-', 'elasticite 3')
    """
    plain = unicodedata.normalize("NFKD", text.replace("–", "-"))
    bare = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return bare.encode("ascii", "replace").decode()


def _paste_clip(
    sheet: Image.Image,
    place: tuple[int, int],
    pictures: Thumbnails,
    position: Position,
    meaning: Meaning,
) -> None:
    shown = pictures.of_symbol(position.agent, position.head, meaning.symbol)
    if shown:
        content = base64.b64decode(shown[0][1].partition(",")[2])
        with Image.open(io.BytesIO(content)) as picture:
            picture.thumbnail((CELL_WIDTH - 12, PICTURE - 12))
            sheet.paste(picture, place)
