"""The lexicon as one picture."""

import base64
import io

from PIL import Image

from pipeline.hub.lexicon_picture import lexicon_picture
from pipeline.message import load_lexicon
from pipeline.report import Thumbnails
from pipeline.runs import Run


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_it_shows_symbols_and_clips_only_where_they_are_given(spoken_run: Run, monkeypatch):
    lexicon = load_lexicon(spoken_run)
    plain = opened(lexicon_picture(lexicon))
    assert plain.format == "PNG"
    assert plain.info == {}  # no text of its own
    assert plain.width == 1000
    assert len(plain.getcolors(1 << 20)) > 2

    file = io.BytesIO()
    Image.new("RGB", (64, 48), (0, 200, 0)).save(file, "PNG")
    uri = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    monkeypatch.setattr(Thumbnails, "of_symbol", lambda *_: [("clip", uri)])
    pictured = opened(lexicon_picture(lexicon, Thumbnails()))
    assert pictured.height > plain.height
    greens = [count for count, colour in pictured.getcolors(1 << 20) if colour == (0, 200, 0)]
    symbols = sum(len(position.meanings) for position in lexicon.positions)
    assert greens == [symbols * 64 * 48]
