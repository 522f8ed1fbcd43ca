"""What opening a long or doubtful file has shown, kept for the next time that it is opened.

    ${XDG_CACHE_HOME:-~/.cache}/heliograph/openings/<key>

The key is a hash of what the system says of the file (device, inode, size, times), of samples of
its bytes, of this code, FFmpeg's version and the limits: a file that is written to, replaced or
copied is opened anew. An entry holds a hash of its content and its name; one that does not fit is
made again. Only what was found sound is kept. The folder holds 4,096 entries and 256 MB at most;
those that were not used for longest go first. Where it cannot be written, files are opened anew
each time.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.errors import HeliographError
from data.files import open_regular, replacing
from data.screening import own_record
from data.video.frames import Limits
from data.video.pyav.frame_buffer import FullDecode, StreamFacts
from data.video.pyav.packet_index import PacketIndex
from data.video.pyav.sample_tables import TABLES

MOST_ENTRIES = 4096
MOST_BYTES = 256 << 20
MOST_ENTRY_BYTES = 64 << 20

# A file that changed this lately may change again without a sign in its times.
SETTLED_SECONDS = 2.0

_HASH_BYTES = 32
_SAMPLES, _SAMPLE_BYTES = 18, 4096
_FLAGS = ("key", "hidden", "droppable", "second")
_FACTS = ("doubt", "whole", "countable", "notes", "timeless", "fields", "packed")


@dataclass
class KeptIndex:
    """What opening a file has shown.

    Attributes:
        index: The index of its packets.
        most_packets: How many packets are read at most; None for all.
        decodes: Decodes of the whole file: the strict one, and the one that is not, if any.
    """

    index: PacketIndex
    most_packets: int | None
    decodes: dict[bool, FullDecode] = field(default_factory=dict)

    @property
    def worth_keeping(self) -> bool:
        """Whether it took long to find out, and is no accident of this opening."""
        sound = not self.index.damage and not len(self.index.corrupt)
        return sound and (self.index.samples is not None or bool(self.decodes))


def entry_for(path: Path, stream: int, limits: Limits) -> Path | None:
    """Return where what is known about a file is kept; None where nothing can be kept.

    Args:
        path: The file.
        stream: The number of its stream.
        limits: Limits on reading it.
    """
    record = own_record()
    if record is None:
        return None
    try:
        status = os.stat(path)
        ages = (abs(time.time() - changed) for changed in (status.st_mtime, status.st_ctime))
        if min(ages) < SETTLED_SECONDS:
            return None
        with open(path, "rb", buffering=0) as file:
            starts = np.linspace(0, max(status.st_size - _SAMPLE_BYTES, 0), _SAMPLES)
            parts = [os.pread(file.fileno(), _SAMPLE_BYTES, int(start)) for start in starts]
    except OSError:
        return None
    key = [
        *(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns),
        *(stream, limits.pixels, limits.memory_bytes, _code()),
        hashlib.sha256(b"".join(parts)).hexdigest(),
    ]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    return record.with_name("openings") / name


@cache
def _code() -> str:
    """Return a hash of what the content of an entry depends on, apart from the file."""
    import av

    text = json.dumps([av.__version__, sorted(av.library_versions.items())]).encode()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        text += path.read_bytes()
    return hashlib.sha256(text).hexdigest()


def read_entry(entry: Path, path: Path) -> KeptIndex | None:
    """Return what is kept about a file; None where there is nothing, or it is not what was written.

    Args:
        entry: Where it is kept.
        path: The file that it is about.
    """
    try:
        with open_regular(entry) as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                return None
            content = file.read(MOST_ENTRY_BYTES)
        body = content[_HASH_BYTES:]
        if _digest(entry, body) != content[:_HASH_BYTES]:
            return None
        kept = _unpacked(zlib.decompress(body), path)
        os.utime(entry)
    except (OSError, HeliographError, zlib.error, ValueError, KeyError, TypeError, MemoryError):
        return None
    return kept


def write_entry(entry: Path, kept: KeptIndex) -> None:
    """Keep what is known about a file; where that fails, nothing happens."""
    body = zlib.compress(_packed(kept), 1)
    if len(body) + _HASH_BYTES > MOST_ENTRY_BYTES:
        return
    with suppress(OSError, HeliographError):
        os.makedirs(entry.parent, mode=0o700, exist_ok=True)
        with replacing(entry) as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(_digest(entry, body) + body)
        _make_room(entry.parent)


def _digest(entry: Path, body: bytes) -> bytes:
    """Return the hash of an entry, its name included: under another name it fits no more."""
    return hashlib.sha256(entry.name.encode() + body).digest()


def _make_room(folder: Path) -> None:
    """Remove the entries that were not used for longest, until the folder is small enough."""
    found = [(item.stat(), item.path) for item in os.scandir(folder) if item.is_file()]
    found.sort(key=lambda item: item[0].st_mtime)
    count, size = len(found), sum(status.st_size for status, _ in found)
    for status, path in found:
        if count <= MOST_ENTRIES and size <= MOST_BYTES:
            break
        with suppress(OSError):
            os.unlink(path)
        count, size = count - 1, size - status.st_size


def _packed(kept: KeptIndex) -> bytes:
    index, samples = kept.index, kept.index.samples
    count = len(index.pts)
    arrays: list[npt.NDArray[Any]] = [index.pts]
    table = None
    if samples is not None:
        table = type(samples).__name__, samples.values
        arrays += [getattr(samples, name)[:count] for name in samples.ARRAYS]
    flags = index.entry.astype(np.uint8) << len(_FLAGS)
    for bit, name in enumerate(_FLAGS):
        flags |= getattr(index, name).astype(np.uint8) << bit
    head = {
        "count": count,
        "most_packets": kept.most_packets,
        "facts": {name: getattr(index, name) for name in _FACTS},
        "joints": index.joints.tolist(),
        "rank": None if index.rank is None else index.rank.tolist(),
        "table": table,
        "decodes": [[strict, _decode_values(full)] for strict, full in kept.decodes.items()],
    }
    # The differences from one packet to the next are small and often equal.
    steps = [np.diff(array, prepend=array[:1] * 0).astype(np.int64) for array in arrays]
    parts = [json.dumps(head).encode(), b"\n", flags.tobytes(), *(step.tobytes() for step in steps)]
    return b"".join(parts)


def _decode_values(full: FullDecode) -> dict[str, Any]:
    values = asdict(full)
    values["facts"]["sizes"] = sorted(full.facts.sizes)
    return values


def _unpacked(content: bytes, path: Path) -> KeptIndex:
    line = content.index(b"\n")
    head = json.loads(content[:line])
    count, table = head["count"], head["table"]
    flags = np.frombuffer(content, np.uint8, count, line + 1)
    of_table = TABLES[table[0]].ARRAYS if table else ()
    arrays = dict(_arrays(content, line + 1 + count, count, ("pts", *of_table)))
    bits = {name: flags >> bit & 1 == 1 for bit, name in enumerate(_FLAGS)}
    samples = None
    if table:
        samples = TABLES[table[0]].restored(path, arrays | {"key": bits["key"]}, **table[1])
    facts: Mapping[str, Any] = head["facts"] | {"notes": tuple(head["facts"]["notes"])}
    index = PacketIndex(
        pts=arrays["pts"],
        entry=(flags >> len(_FLAGS)).astype(np.int8),
        packets=None,
        damage=(),
        corrupt=np.zeros(0, np.int64),
        joints=np.array(head["joints"], np.int64),
        samples=samples,
        rank=None if head["rank"] is None else np.array(head["rank"], np.int64),
        **bits,
        **facts,
    )
    decodes = {}
    for strict, values in head["decodes"]:
        of_stream = values.pop("facts")
        sizes = {(width, height) for width, height in of_stream.pop("sizes")}
        decodes[strict] = FullDecode(**values, facts=StreamFacts(**of_stream, sizes=sizes))
    return KeptIndex(index, head["most_packets"], decodes)


def _arrays(
    content: bytes, at: int, count: int, names: tuple[str, ...]
) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    for name in names:
        yield name, np.cumsum(np.frombuffer(content, np.int64, count, at))
        at += 8 * count
