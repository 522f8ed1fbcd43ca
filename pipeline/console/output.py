"""Lines on stdout and stderr, in which no character of a name or a file can act on the terminal."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Any, TextIO

import click

from data.copies import as_named
from data.errors import HeliographError

# Control characters (escape sequences begin with one), line separators, the marks and overrides of
# bidirectional text, and the halves of characters that stand for bytes of a file name.
_ACTIVE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


class Loudness(StrEnum):
    """How much is told on stderr."""

    QUIET = "quiet"
    NORMAL = "normal"
    VERBOSE = "verbose"


_loudness = Loudness.NORMAL
_began = time.monotonic()


def set_loudness(chosen: Loudness) -> None:
    """Choose how much is told on stderr from now on."""
    global _loudness, _began
    _loudness, _began = chosen, time.monotonic()


def loudness() -> Loudness:
    """Return how much is told on stderr."""
    return _loudness


class OutputError(HeliographError):
    """Standard output takes nothing more: its disk is full, or its reader has gone."""


def printable(text: object, *, keep: str = "") -> str:
    r"""Return text in which characters that act on a terminal are replaced by visible escapes.

    Copies of what is at addresses are called by these.

    Args:
        text: shown as `str` does.
        keep: characters to leave as they are.

    >>> print(printable("a\x1b[2Jb\nc \u202etxt.mp4"))
    a\x1b[2Jb\nc \u202etxt.mp4
    """
    return _ACTIVE.sub(
        lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], as_named(str(text))
    )


def echo(*cells: object, colour: str | None = None) -> None:
    """Print a line on stdout: its cells, made printable and parted by tabs.

    Args:
        cells: shown as text.
        colour: of the first word, on a terminal.

    Raises:
        OutputError: stdout takes nothing more.
    """
    line = "\t".join(map(printable, cells))
    if colour is not None and takes_colour(sys.stdout):
        word, space, rest = line.partition(" ")
        line = click.style(word, fg=colour) + space + rest
    write_out(f"{line}\n")


def takes_colour(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal with colours, and its user wants them (`NO_COLOR`)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and not is_dumb()


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether somebody sees what is written to a stream, line by line."""
    return stream is not None and stream.isatty()


def is_dumb() -> bool:
    """Return whether terminals of this kind (`TERM`) move no cursor and have no colours."""
    return os.environ.get("TERM", "").lower() in ("dumb", "unknown")


def echo_json(value: Any) -> None:
    r"""Print a value on stdout as a line of JSON, in ASCII.

    >>> echo_json({"clip": "\u202e\x7f"})
    {"clip": "\u202e\u007f"}

    Raises:
        OutputError: stdout takes nothing more.
    """
    write_out(json.dumps(value).replace("\x7f", "\\u007f") + "\n")


def log(text: object) -> None:
    """Print a line on stderr, made printable, unless it is to be quiet.

    Work does not end because nobody can read it.
    """
    if _loudness is not Loudness.QUIET:
        warn(text)


def warn(text: object) -> None:
    """Print a line on stderr as `log` does, quiet or not: what failed, or must not be missed."""
    passed = time.monotonic() - _began
    clock = f"[{passed:7.1f} s] " if _loudness is Loudness.VERBOSE else ""
    _write_err(sys.stderr, f"{clock}{printable(text)}\n")


def some_clips(ids: Sequence[str], most: int = 3) -> str:
    """Return how many clips there are, and the first ones.

    >>> some_clips(["a", "b", "c", "d"]), some_clips(["a"])
    ('4 clips (a, b, c, ...)', '1 clip (a)')
    """
    shown = ", ".join([*ids[:most], *(["..."] if len(ids) > most else [])])
    return f"{len(ids)} {'clip' if len(ids) == 1 else 'clips'} ({shown})"


def show_log_of(package: str) -> None:
    """Print on stderr, as `log` does, what a package tells through Python's logging."""
    import logging

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            (warn if record.levelno >= logging.WARNING else log)(record.getMessage())

    logger = logging.getLogger(package)
    logger.handlers = [Lines()]
    logger.setLevel(logging.INFO)


def write_out(text: str) -> None:
    """Write text to stdout as it is, at once.

    Raises:
        OutputError: stdout takes nothing more.
    """
    if sys.stdout is None:
        raise OutputError("standard output is closed")
    try:
        sys.stdout.write(_encodable(text, sys.stdout))
        sys.stdout.flush()
    except OSError as error:
        _discard(sys.stdout)
        raise OutputError(_sentence(error)) from error


def flush_out() -> None:
    """Write what the buffer of stdout still holds.

    Raises:
        OutputError: stdout takes nothing more.
    """
    if sys.stdout is not None:
        write_out("")


class Stdout(io.StringIO):
    """The standard output for rich: text is written as it is, or an `OutputError` raised."""

    def write(self, text: str) -> int:
        """Write text at once."""
        write_out(text)
        return len(text)

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return sys.stdout is not None and sys.stdout.isatty()


class Stderr(io.StringIO):
    """The standard error for rich: what it does not take is lost without an error."""

    def write(self, text: str) -> int:
        """Write text at once."""
        _write_err(self._stream(), text)
        return len(text)

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        stream = self._stream()
        return stream is not None and stream.isatty()

    @staticmethod
    def _stream() -> TextIO | None:
        # While it shows a bar, rich puts a stream of its own in place of the standard error.
        return getattr(sys.stderr, "rich_proxied_file", sys.stderr)


def _write_err(stream: TextIO | None, text: str) -> None:
    if stream is not None:
        try:
            stream.write(_encodable(text, stream))
            stream.flush()
        except OSError:
            _discard(stream)


def _encodable(text: str, stream: TextIO) -> str:
    """Return text with visible escapes for what the encoding of a stream lacks."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _discard(stream: TextIO) -> None:
    """Send what a stream still holds to nowhere: at the end of the process it would fail again."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _sentence(error: OSError) -> str:
    if isinstance(error, BrokenPipeError):
        return "standard output was closed before everything was written"
    return f"standard output cannot be written: {error.strerror or error}"
