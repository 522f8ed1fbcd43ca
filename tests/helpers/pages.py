"""HTML pages as a browser would find them."""

import re
from html.parser import HTMLParser
from pathlib import Path

EVIL = "<script>alert('x')</script>"
TURNING = "\u202egpj.exe\x1b[2J\x9b\u2066"
EVIL_REASON = '"><img src=x onerror=alert(2)>'


class HtmlPage(HTMLParser):
    """Tags with their attributes, and the text outside of them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self._inside = ""
        self._goes_on = False  # a name in the middle of a text does not end it
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self._goes_on &= tag == "bdi"
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._inside = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag):
        self._goes_on &= tag == "bdi"
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts.append(data)
        elif not self._inside:
            if self._goes_on:
                self.text[-1] += data
            else:
                self.text.append(data)
            self._goes_on = True

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


def read_page(path: Path) -> HtmlPage:
    return HtmlPage(path.read_text())
