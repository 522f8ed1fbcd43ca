"""The seal of a cache: hashes of its bytes in the first 512 bytes of the file.

From version 2 on the seal covers all but the features and the thumbnails, which have hashes of
their own among the bytes that it covers. It stands there twice, and each copy ends with a hash of
itself, so that a damaged copy is noticed and the other one serves.
"""

import hashlib
import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import xxhash

from data.cache.errors import NO_HDF5, CacheError, DamagedCacheError
from data.files import missing

USER_BLOCK = 512
COPY = USER_BLOCK // 2
_FIRST, _SECOND = slice(COPY), slice(COPY, USER_BLOCK)
_NUMBER = rb"([0-9]{1,18})"
_SEAL = re.compile(
    rb"(heliograph cache 2 bytes=%b features=%b-%b thumbnails=%b-%b rest_sha256=([0-9a-f]{64}) )"
    rb"xxh3=([0-9a-f]{32})\n\0*" % ((_NUMBER,) * 5)
)
_VERSION_1 = re.compile(
    rb"heliograph cache sha256=([0-9a-f]{64}) bytes=%b features=%b-%b "
    rb"rest_sha256=([0-9a-f]{64})\n\0*" % ((_NUMBER,) * 3)
)
_WORDS = (b"heliograph cache", b"rest_sha256=", b"xxh3=")  # of a seal, whatever else is damaged
_MOST_DAMAGED = 8  # bytes of text that holds a hash: with so few of them wrong it is still proof
_HDF5 = b"\x89HDF\r\n\x1a\n"
_BLOCK = 1 << 22
_MOST_REST = 1 << 32  # bytes outside features and thumbnails: those of millions of clips


@dataclass(frozen=True)
class Seal:
    """What the user block of a cache says about the bytes after it.

    `rest_sha256` is the hash of all but the features and thumbnails, which lie at the offsets
    `features` and `thumbnails` (start, stop) of the file. Only version 1 has the hash `sha256` of
    all `byte_count` bytes.
    """

    byte_count: int
    features: tuple[int, int]
    rest_sha256: str
    thumbnails: tuple[int, int] = (USER_BLOCK, USER_BLOCK)
    sha256: str = ""

    def user_block(self) -> bytes:
        """Return the user block, 512 bytes."""
        if self.sha256:
            line = (
                f"heliograph cache sha256={self.sha256} bytes={self.byte_count} "
                f"features={_range(self.features)} rest_sha256={self.rest_sha256}\n"
            ).encode()
            return line.ljust(USER_BLOCK, b"\0")
        text = (
            f"heliograph cache 2 bytes={self.byte_count} features={_range(self.features)} "
            f"thumbnails={_range(self.thumbnails)} rest_sha256={self.rest_sha256} "
        ).encode()
        line = text + f"xxh3={xxhash.xxh3_128_hexdigest(text)}\n".encode()
        return line.ljust(COPY, b"\0") * 2

    @classmethod
    def read(cls, file: io.FileIO) -> "Seal | None":
        """Return the seal of an open file; None if it has none that can be read."""
        return cls.from_user_block(read_user_block(file))

    @classmethod
    def from_user_block(cls, block: bytes) -> "Seal | None":
        """Return the seal in a user block; None if it has none that can be read."""
        for copy in (block[:COPY], block[COPY:]):
            match = _SEAL.fullmatch(copy)
            if match and xxhash.xxh3_128_hexdigest(match[1]) == match[8].decode():
                count, *offsets = (int(match[number]) for number in range(2, 7))
                features, thumbnails = (offsets[0], offsets[1]), (offsets[2], offsets[3])
                return cls(count, features, match[7].decode(), thumbnails)
        if match := _VERSION_1.fullmatch(block):
            features = int(match[3]), int(match[4])
            return cls(int(match[2]), features, match[5].decode(), sha256=match[1].decode())
        return None

    def damage(self, block: bytes) -> str:
        """Return in words which copy of this seal a user block has damaged; empty if none."""
        sound = self.user_block()
        if block == sound:
            return ""
        if self.sha256:
            return "its seal is damaged"
        first, second = (block[part] != sound[part] for part in (_FIRST, _SECOND))
        if first and second:
            return "both copies of its seal are damaged"
        return f"the {'first' if first else 'second'} of the two copies of its seal is damaged"

    def is_meant_by(self, block: bytes) -> bool:
        """Return whether a user block holds this seal, but for a few damaged bytes."""
        sound = self.user_block()
        parts = (slice(None),) if self.sha256 else (_FIRST, _SECOND)
        return any(is_nearly(block[part], sound[part]) for part in parts)

    def rest(self, size: int) -> list[tuple[int, int]]:
        """Return the ranges of offsets in a file of `size` bytes that `rest_sha256` is of."""
        ranges, start = [], USER_BLOCK
        for first, stop in sorted((self.features, self.thumbnails)):
            ranges.append((start, first))
            start = max(start, stop)
        return [*ranges, (start, size)]


def _range(offsets: tuple[int, int]) -> str:
    return f"{offsets[0]}-{offsets[1]}"


@contextmanager
def open_cache_file(path: Path) -> Iterator[io.FileIO]:
    """Open a cache for reading its bytes.

    Raises:
        CacheError: There is no such regular file, or it cannot be read.
    """
    path = Path(path)
    try:
        with open(path, "rb", buffering=0, opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise CacheError(f"{path} is not a regular file")
            yield file
    except FileNotFoundError as error:
        raise CacheError(missing(path)) from error
    except IsADirectoryError as error:
        raise CacheError(f"{path} is not a regular file") from error
    except OSError as error:
        raise CacheError(f"{path} cannot be read: {error.strerror or error}") from error


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; a pipe would wait for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def read_user_block(file: io.FileIO) -> bytes:
    """Return the first 512 bytes of an open file."""
    file.seek(0)
    return file.read(USER_BLOCK)


def looks_sealed(block: bytes) -> bool:
    """Return whether a user block held a seal once, perhaps damaged since."""
    return any(word in block for word in _WORDS)


def is_nearly(found: bytes, expected: bytes) -> bool:
    """Return whether text that holds a hash is what is expected, but for a few damaged bytes."""
    different = sum(one != other for one, other in zip(found, expected, strict=False))
    return len(found) == len(expected) and different <= _MOST_DAMAGED


def require_hdf5(path: Path, file: io.FileIO) -> None:
    """Raise `CacheError` if an open file does not begin as an HDF5 file does."""
    start, size = 0, file_size(file)
    while start < size:
        file.seek(start)
        if file.read(len(_HDF5)) == _HDF5:
            return
        start = max(USER_BLOCK, 2 * start)
    hint = ""
    if path.suffix == ".pt":
        hint = "; heliograph cache import reads .pt files"
    elif path.suffix not in (".h5", ".hdf5"):
        hint = ", so no cache; heliograph extract makes one of clips"
    raise CacheError(f"{path} {NO_HDF5}{hint}")


def check_structure(path: Path, file: io.FileIO) -> Seal:
    """Return the seal of a file whose bytes outside the features and thumbnails match it.

    HDF5 could crash on a file with other bytes there.

    Raises:
        CacheError: There is no seal, the bytes do not match it, or the file has another length.
    """
    seal, size = Seal.read(file), file_size(file)
    if seal is None:
        if looks_sealed(read_user_block(file)):
            raise DamagedCacheError(path, f"{path} is damaged in its seal")
        require_hdf5(path, file)
        raise CacheError(
            f"{path} has no seal to check it by: it is damaged there, or another program wrote it "
            "(heliograph cache import reads such a file)"
        )
    if seal.byte_count + USER_BLOCK != size:
        expected = seal.byte_count + USER_BLOCK
        what = "truncated?" if size < expected else "something was added to it"
        raise DamagedCacheError(path, f"{path} has {size} bytes, not {expected}: {what}")
    for start, stop in (seal.features, seal.thumbnails):
        if not USER_BLOCK <= start <= stop <= size:
            raise CacheError(f"{path}: its seal places the features outside the file")
    rest = seal.rest(size)
    if sum(stop - start for start, stop in rest) > _MOST_REST:
        raise CacheError(f"{path}: its seal leaves too many bytes outside the features")
    if sha256_of_ranges(file, *rest) != seal.rest_sha256:
        raise DamagedCacheError(
            path, f"{path} is damaged outside its features: in names, labels or structure"
        )
    return seal


def file_size(file: io.FileIO) -> int:
    """Return the length of an open file in bytes."""
    return file.seek(0, io.SEEK_END)


def sha256_of_ranges(file: io.FileIO, *ranges: tuple[int, int]) -> str:
    """Return the SHA-256 of the bytes in these ranges of offsets, as 64 hex digits."""
    digest = hashlib.sha256()
    for start, stop in ranges:
        file.seek(start)
        while start < stop and (block := file.read(min(_BLOCK, stop - start))):
            digest.update(block)
            start += len(block)
    return digest.hexdigest()
