"""Rows of JSON: one object a line, or a list of objects in a document."""

import json
import re
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

from data.clips import ClipError

_BLANK = re.compile(r"[ \t\n\r]*")


class _RepeatedKeyError(ValueError):
    """An object has a key twice, of which the last value alone would count.

    `pos` is where the item of a document begins in which it is.
    """

    pos = 0


def in_lines(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number of each line, and the object in it.

    Raises:
        ClipError: A line is no JSON object, or has a key twice.
    """
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                entry = _DECODER.decode(line)
            except (ValueError, RecursionError) as error:
                raise _error(path, number, error) from error
            yield number, _object(path, number, entry)


def in_document(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a list, or of the list `clips` of an object, each with its first line.

    Raises:
        ClipError: It is not such JSON, or an object has a key twice.
    """
    position = line = 0
    try:
        for start, entry in _entries(text):
            line += text.count("\n", position, start)
            position = start
            yield line + 1, _object(path, line + 1, entry)
    except (ValueError, RecursionError) as error:
        at = getattr(error, "pos", position)
        raise _error(path, text.count("\n", 0, at) + 1, error) from error


def _entries(text: str) -> Iterator[tuple[int, Any]]:
    """Yield where each object of the list begins, and the object."""
    start = _after_blanks(text, 0)
    if text[start : start + 1] == "[":
        end = yield from _items(text, start)
    elif text[start : start + 1] == "{":
        end = yield from _clips_of(text, start)
    else:
        raise json.JSONDecodeError('neither a list of clips nor {"clips": [...]}', text, start)
    end = _after_blanks(text, end)
    if end < len(text):
        raise json.JSONDecodeError("more than one value; name JSON lines .jsonl", text, end)


def _clips_of(text: str, start: int) -> Generator[tuple[int, Any], None, int]:
    """Yield the items of the list `clips` of the object at `start`; return where that ends."""
    keys: set[str] = set()
    has_list = False
    at = _after_blanks(text, start + 1)
    while text[at : at + 1] != "}":
        if text[at : at + 1] != '"':
            raise json.JSONDecodeError("Expecting a key in quotes", text, at)
        key, end = _DECODER.raw_decode(text, at)
        if key in keys:
            raise json.JSONDecodeError(f"the key {key!r} is there twice", text, at)
        keys.add(key)
        at = _after_blanks(text, end)
        if text[at : at + 1] != ":":
            raise json.JSONDecodeError("Expecting ':'", text, at)
        at = _after_blanks(text, at + 1)
        if key == "clips" and text[at : at + 1] == "[":
            has_list = True
            at = yield from _items(text, at)
        else:
            _, at = _DECODER.raw_decode(text, at)
        at = _after_blanks(text, at)
        if text[at : at + 1] == ",":
            at = _after_blanks(text, at + 1)
        elif text[at : at + 1] != "}":
            raise json.JSONDecodeError("Expecting ',' or '}'", text, at)
    if not has_list:
        raise json.JSONDecodeError(
            "an object without a list 'clips': write a list with an object a clip", text, start
        )
    return at + 1


def _items(text: str, start: int) -> Generator[tuple[int, Any], None, int]:
    """Yield where each item of the list at `start` begins, and the item; return where it ends."""
    at = _after_blanks(text, start + 1)
    while text[at : at + 1] != "]":
        try:
            item, end = _DECODER.raw_decode(text, at)
        except _RepeatedKeyError as error:
            error.pos = at
            raise
        yield at, item
        at = _after_blanks(text, end)
        if text[at : at + 1] == ",":
            at = _after_blanks(text, at + 1)
        elif text[at : at + 1] != "]":
            raise json.JSONDecodeError("Expecting ',' or ']'", text, at)
    return at + 1


def _after_blanks(text: str, start: int) -> int:
    match = _BLANK.match(text, start)
    return match.end() if match else start


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    for key, value in pairs:
        if key in entry:
            raise _RepeatedKeyError(f"the key {key!r} is there twice")
        entry[key] = value
    return entry


def _object(path: Path, number: int, entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise ClipError(f"{path}, line {number}: not a JSON object")
    return entry


def _error(path: Path, number: int, error: Exception) -> ClipError:
    if isinstance(error, _RepeatedKeyError):
        return ClipError(f"{path}, line {number}: {error}")
    return ClipError(f"{path}, line {number}: not JSON: {getattr(error, 'msg', str(error))}")


_DECODER = json.JSONDecoder(object_pairs_hook=_without_repeats)
