"""The ledger of a cache: what became of each clip, kept next to the file.

`spring.h5.ledger.jsonl` has lines such as

    {"time": "2026-01-31T12:00:00.000+00:00", "clip": "a/1.mp4", "outcome": "done",
     "path": "/videos/a/1.mp4", "key": "3f...", ..., "xxh3": "..."}

with the outcomes `done`, `kept` (done by an earlier run), `failed`, `damaged` and `removed` (from
the cache); `xxh3` is the XXH3-64 of the line without it. A run adds a line a clip, and the next run
begins by leaving one or two lines of each clip.
"""

import errno
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from data.cache.errors import CacheError, way_out
from data.clips import Clip
from data.columns import BLOCK, Columns, ranges
from data.digests import DigestTable, digest_of
from data.files import HashedFile, absolute, open_regular, replacing, write_error
from data.wording import counted

_LOG = logging.getLogger(__name__)
_SUFFIX = ".ledger.jsonl"
_CHECK = "xxh3"
_PIECE = 1 << 16
_CLIPS_AT_ONCE = 100_000
_MOST_BYTES = 1 << 32  # of a ledger that is read: that of millions of clips


def ledger_path(target: Path) -> Path:
    """Return the path of the ledger of a cache."""
    return target.with_name(target.name + _SUFFIX)


def read_ledger(target: Path) -> list[dict[str, Any]]:
    """Return the entries of a cache's ledger, as `ledger_entries` yields them."""
    return list(ledger_entries(target))


def ledger_entries(target: Path, damaged: list[int] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the entries of a cache's ledger, oldest first, one in memory; none without a ledger.

    What a killed process left of a last line is no line.

    Args:
        target: The cache.
        damaged: The numbers of damaged lines are added to it, and these are left out.

    Raises:
        CacheError: There is no file, or a line is damaged and `damaged` is None.
    """
    path = ledger_path(target)
    for number, line in enumerate(_lines(path) if os.path.lexists(path) else (), start=1):
        try:
            entry = _entry(path, number, line)
        except CacheError:
            if damaged is None:
                raise
            damaged.append(number)
        else:
            yield entry


def damage_of_ledger(target: Path, damaged: Sequence[int]) -> str:
    """Return in words which lines of a ledger are damaged, by their numbers; "" if none is."""
    if not damaged:
        return ""
    others = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
    return f"{ledger_path(target)} is damaged in line {damaged[0]}{others}"


def restore_ledger(target: Path) -> list[str]:
    """Write a ledger again without its damaged lines; return what was done, in sentences.

    Raises:
        WriteError: The disk is full or not writable; the ledger stays as it was.
        CacheError: There is no file, or it cannot be read.
    """
    damaged: list[int] = []
    for _ in ledger_entries(target, damaged):
        pass
    if not damaged:
        return []
    with replacing(ledger_path(target)) as new:
        for entry in ledger_entries(target, []):
            new.write(_line_of(entry).encode())
    lines = counted(len(damaged), "line")
    return [
        f"{damage_of_ledger(target, damaged)}: {lines} left it, and with them where the videos of "
        "their clips are (a repair of these takes --clips)"
    ]


def new_entries(path: Path, position: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the entries of a ledger at `path` from a position on, and where each ends.

    A line that is damaged is left out, and one that is being written is left for the next time.

    Raises:
        OSError: It cannot be read.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size < position:  # it was made anew
            position = 0
        file.seek(position)
        for line in file:
            if not line.endswith(b"\n"):
                return  # what comes next may be the rest of it
            position += len(line)
            with suppress(CacheError):
                yield _entry(path, 0, line[:-1]), position


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with open_regular(path, follow_links=True) as file:
            if os.fstat(file.fileno()).st_size > _MOST_BYTES:
                raise CacheError(f"{path} has more than {_MOST_BYTES:,} bytes")
            for line in file:
                if line.endswith(b"\n"):
                    yield line[:-1]
    except OSError as error:
        raise CacheError(f"{path} cannot be read: {error.strerror or error}") from error


def _entry(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
        check = entry.pop(_CHECK, None)  # older lines have none
        if check is not None and check != _hash_of(entry):
            raise ValueError
        if not isinstance(entry["clip"], str) or not isinstance(entry["outcome"], str):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        cache = path.with_name(path.name.removesuffix(_SUFFIX))
        raise CacheError(f"{path} is damaged in line {number}; {way_out(cache)}") from error
    return entry


def _hash_of(entry: Mapping[str, Any]) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(entry).encode())


def _line_of(entry: Mapping[str, Any]) -> str:
    return json.dumps({**entry, _CHECK: _hash_of(entry)}) + "\n"


def append_to_ledger(target: Path, clip: Clip, outcome: str, **details: Any) -> None:
    """Append one entry to the ledger of a cache, whole or not at all.

    Raises:
        WriteError: The disk is full or not writable.
        UnsafeFileError: Something else than a file is there, or a file with several names.
    """
    append_entries(ledger_path(target), [entry_of(clip, outcome, **details)])


def now() -> str:
    """Return the time as entries have it; later times come later in the order of texts, too."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def entry_of(clip: Clip, outcome: str, **details: Any) -> dict[str, Any]:
    """Return what a ledger says of a clip now."""
    entry: dict[str, Any] = {
        "time": now(),
        "clip": clip.id,
        "outcome": outcome,
        "path": absolute(clip.path),
    }
    times = {"start": clip.start, "end": clip.end}
    entry |= {name: seconds for name, seconds in times.items() if seconds is not None}
    return {**entry, **details}


def append_entries(path: Path, entries: Iterable[Mapping[str, Any]], *, sync: bool = False) -> None:
    """Append entries to the ledger at `path`, whole or not at all, and perhaps force them to disk.

    Raises:
        WriteError: The disk is full or not writable.
        UnsafeFileError: Something else than a file is there, or a file with several names.
    """
    content = "".join(map(_line_of, entries)).encode()
    try:
        with open_regular(path, "ab") as file:
            size_before = os.fstat(file.fileno()).st_size
            try:
                if file.write(content) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if sync:
                    os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), size_before)
                raise
    except OSError as error:
        raise write_error(path, error) from error


def add_to_ledger(target: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Write the ledger of a cache anew, with entries added that it does not have.

    Raises:
        WriteError: The disk is full or not writable; the ledger stays as it was.
        UnsafeFileError: Something else than a file is there, or a file with several names.
    """
    path, known = ledger_path(target), DigestTable([("here", "?")])
    with replacing(path) as new:
        if os.path.lexists(path):
            with open_regular(path) as old:
                for line in old:
                    if line.endswith(b"\n"):  # and not torn
                        new.write(line)
                        known[xxhash.xxh3_128_intdigest(line)] = (True,)
        for entry in entries:
            line = _line_of(entry).encode()
            if xxhash.xxh3_128_intdigest(line) not in known:
                new.write(line)


def read_deaths(entry: Mapping[str, Any], found: dict[tuple[str, str], int]) -> None:
    """Note how often the decoder's process has died of a clip, by its id and its file's hash."""
    match entry:
        case {"clip": str(clip), "source_sha256": str(sha256), "deaths": int(deaths)}:
            found[clip, sha256] = deaths
        case {"clip": str(clip), "source_sha256": str(sha256), "outcome": "done" | "kept"}:
            found.pop((clip, sha256), None)


def source_details(source: HashedFile) -> dict[str, Any]:
    """Return what a ledger has about the file of a clip."""
    details: dict[str, Any] = {"source_sha256": source.sha256}
    if source.version is not None:
        _, size, changed = source.version
        details |= {"bytes": size, "etag" if isinstance(changed, str) else "mtime_ns": changed}
    return details


def compact_ledger(
    target: Path, read: Callable[[Mapping[str, Any]], None] = lambda entry: None
) -> str:
    """Leave at most two lines of each clip, and nothing of a line that a killed process left.

    They are all that is known of it as it was done, later lines over earlier ones, and its last
    failure if that came later. A damaged ledger stays as it is. Memory holds the entries of
    `_CLIPS_AT_ONCE` clips at a time.

    Args:
        target: The cache.
        read: Called with each entry, oldest first; of a damaged ledger with those before the
            damage.

    Returns:
        What is damaged, and what to do, in a sentence; "" if nothing is.

    Raises:
        WriteError: The disk is full or not writable.
        UnsafeFileError: Something else than a file is there, or a file with several names.
    """
    path = ledger_path(target)
    if not os.path.lexists(path):
        return ""
    _drop_torn_line(path)
    lines = _Lines()
    try:
        for entry in ledger_entries(target):
            read(entry)
            lines.add(entry)
    except CacheError as error:
        return str(error)
    if lines.left < len(lines):
        numbers = lines.numbers()
        with replacing(path) as file:
            for first in range(0, lines.clips, _CLIPS_AT_ONCE):
                some = range(first, first + _CLIPS_AT_ONCE)
                own = (
                    number for piece in ranges(len(numbers)) for number in numbers[piece].tolist()
                )
                both = zip(own, _lines(path), strict=True)
                for entry in _compacted(_entry(path, 0, line) for n, line in both if n in some):
                    file.write(_line_of(entry).encode())
    return ""


def warn_of_damage(damage: str) -> None:
    """Say of a damaged ledger, by its sentence, what follows for a run that goes on without it."""
    _LOG.warning("warning: %s; until then files that it names are read again", damage)


class _Lines:
    """The lines of a ledger, by the numbers of their clips, as they first come.

    Attributes:
        clips: How many there are.
        left: How many lines `_compacted` leaves.
    """

    def __init__(self) -> None:
        self.clips = self.left = self._count = 0
        self._known = DigestTable([("number", "i8"), ("done", "?"), ("failed", "?")])
        self._numbers = Columns("i8")
        self._recent: list[int] = []

    def __len__(self) -> int:
        return self._count

    def add(self, entry: Mapping[str, Any]) -> None:
        """Add a line."""
        own = digest_of(entry["clip"])
        number, was_done, had_failed = self._known.get(own) or (self.clips, False, False)
        self.clips += number == self.clips
        is_done = entry["outcome"] in ("done", "kept")
        done, failed = is_done or was_done, not is_done  # the last one, after it was done
        self.left += done + failed - was_done - had_failed
        if (done, failed) != (was_done, had_failed):
            self._known[own] = number, done, failed
        self._count += 1
        self._recent.append(number)
        if len(self._recent) == BLOCK:
            self._keep()

    def _keep(self) -> None:
        self._numbers.add(np.array(self._recent, np.int64))
        self._recent = []

    def numbers(self) -> NDArray[np.int64]:
        """Return the number of the clip of each line (N,); no line is added any more."""
        self._keep()
        (numbers,) = self._numbers.finish()
        return numbers


def _compacted(entries: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what is left of the entries of some clips."""
    done: dict[str, dict[str, Any]] = {}
    failed: dict[str, dict[str, Any]] = {}
    clips: dict[str, None] = {}
    for entry in entries:
        clip = entry["clip"]
        clips[clip] = None
        if entry["outcome"] in ("done", "kept"):
            done[clip] = done.get(clip, {}) | entry
            failed.pop(clip, None)
        else:
            failed[clip] = entry
    for clip in clips:
        for kind in (done, failed):
            if clip in kind:
                yield kind[clip]


def _drop_torn_line(path: Path) -> None:
    """Cut off the part of a line that a killed process left at the end of a ledger."""
    try:
        with open_regular(path, "r+b") as file:
            position = size = os.fstat(file.fileno()).st_size
            while position:
                start = max(0, position - _PIECE)
                newline = os.pread(file.fileno(), position - start, start).rfind(b"\n")
                if newline >= 0:
                    position = start + newline + 1
                    break
                position = start
            if position != size:
                os.ftruncate(file.fileno(), position)
    except OSError as error:
        raise write_error(path, error) from error
