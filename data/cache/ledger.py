"""The ledger of a cache: one line per clip and run, kept next to the file.

`spring.h5.ledger.jsonl` has lines such as

    {"time": "2026-01-31T12:00:00.000+00:00", "clip": "a/1.mp4", "outcome": "done",
     "path": "/videos/a/1.mp4", "key": "3f...", ...}

with the outcomes `done`, `kept` (done by an earlier run), `failed` and `damaged`.
"""

import errno
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data.cache.features import CacheError
from data.clips import Clip
from data.files import WriteError


def ledger_path(target: Path) -> Path:
    """Return the path of the ledger of a cache."""
    return target.with_name(target.name + ".ledger.jsonl")


def read_ledger(target: Path) -> list[dict[str, Any]]:
    """Return the entries of a cache's ledger, oldest first; empty if there is none.

    Raises:
        CacheError: A line is damaged. What a killed process left of a last line is no line.
    """
    path = ledger_path(target)
    if not path.exists():
        return []
    entries = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            entry = json.loads(line)
            if not isinstance(entry["clip"], str) or not isinstance(entry["outcome"], str):
                raise TypeError
        except (ValueError, KeyError, TypeError) as error:
            raise CacheError(f"{path} is damaged in line {number}") from error
        entries.append(entry)
    return entries


def append_to_ledger(target: Path, clip: Clip, outcome: str, **details: Any) -> None:
    """Append one entry to the ledger of a cache, whole or not at all.

    Raises:
        WriteError: The disk is full or not writable.
    """
    path = ledger_path(target)
    entry: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "clip": clip.id,
        "outcome": outcome,
        "path": os.path.abspath(clip.path),
    }
    times = {"start": clip.start, "end": clip.end}
    entry |= {name: seconds for name, seconds in times.items() if seconds is not None}
    content = (json.dumps({**entry, **details}) + "\n").encode()
    size_before = None
    try:
        with open(path, "ab", buffering=0) as file:
            size_before = file.tell()
            if file.write(content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        if size_before is not None:
            os.truncate(path, size_before)
        raise WriteError(f"{path} cannot be written: {error.strerror}") from error


def drop_torn_line(target: Path) -> None:
    """Cut off the part of a line that a killed process left at the end of a ledger."""
    path = ledger_path(target)
    if not path.exists():
        return
    content = path.read_bytes()
    whole_lines = content.rfind(b"\n") + 1
    if whole_lines != len(content):
        os.truncate(path, whole_lines)
