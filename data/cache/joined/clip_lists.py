"""Lists of the clips that several processes extract, and how claims on some of them are called."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from data.cache.errors import CacheError
from data.cache.joined.shared_folder import SharedFolder
from data.clips import Clip
from data.files import absolute, open_regular

_FIELDS = [field.name for field in fields(Clip)]
_NAME = 32  # letters of a name, which is a hash


def publish_list(shared: SharedFolder, clips: Sequence[Clip]) -> None:
    """Write down the clips, for whoever consolidates where every process has died."""
    name = hashlib.sha256(b'"')  # and so on: the hash of all lines as one text in JSON
    for line in _lines(clips):
        name.update(json.dumps(line)[1:-1].encode())
    name.update(b'"')
    path = shared.path / "clips" / f"{name.hexdigest()[:_NAME]}.jsonl"
    shared.write_lines_once(path, _lines(clips))


def read_list(path: Path) -> list[Clip]:
    """Return the clips of a list.

    Raises:
        CacheError: It is damaged.
    """
    try:
        with open_regular(path) as file:
            lines = [json.loads(line) for line in file]
        return [Clip(**{**line, "path": Path(line["path"])}) for line in lines]
    except (ValueError, TypeError, KeyError) as error:
        raise CacheError(f"{path} is damaged; remove it") from error


def name_of_claim(clips: Sequence[Clip]) -> str:
    """Return what a claim on some clips is called."""
    content = json.dumps([_plain(clip) for clip in clips])
    return hashlib.sha256(content.encode()).hexdigest()[:_NAME]


def _lines(clips: Iterable[Clip]) -> Iterator[str]:
    return (json.dumps(_plain(clip)) + "\n" for clip in clips)


def _plain(clip: Clip) -> dict[str, Any]:
    return {name: getattr(clip, name) for name in _FIELDS} | {"path": absolute(clip.path)}
