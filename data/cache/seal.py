"""The seal of a cache: hashes of its bytes in the first 512 bytes of the file."""

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from data.cache.features import CacheError

USER_BLOCK = 512
_SEAL = re.compile(
    rb"heliograph cache sha256=([0-9a-f]{64}) bytes=([0-9]{1,19}) "
    rb"features=([0-9]{1,19})-([0-9]{1,19}) rest_sha256=([0-9a-f]{64})\n\0*"
)
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Seal:
    """What the user block of a cache says about the bytes after it.

    `sha256` is that of all `byte_count` bytes; `rest_sha256` that of all but the features, which
    lie at offsets `features_start` to `features_stop` of the file.
    """

    sha256: str
    byte_count: int
    features_start: int
    features_stop: int
    rest_sha256: str

    def user_block(self) -> bytes:
        """Return the user block, 512 bytes."""
        text = (
            f"heliograph cache sha256={self.sha256} bytes={self.byte_count} "
            f"features={self.features_start}-{self.features_stop} rest_sha256={self.rest_sha256}\n"
        )
        return text.encode().ljust(USER_BLOCK, b"\0")

    @classmethod
    def read(cls, file: io.FileIO) -> "Seal | None":
        """Return the seal of an open file; None if it has none that can be read."""
        file.seek(0)
        match = _SEAL.fullmatch(file.read(USER_BLOCK))
        if not match:
            return None
        sha256, rest = match[1].decode(), match[5].decode()
        return cls(sha256, int(match[2]), int(match[3]), int(match[4]), rest)


@contextmanager
def open_cache_file(path: Path) -> Iterator[io.FileIO]:
    """Open a cache for reading its bytes.

    Raises:
        CacheError: There is no such regular file, or it cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise CacheError(f"{path} does not exist")
    if not path.is_file():
        raise CacheError(f"{path} is not a regular file")
    try:
        with open(path, "rb", buffering=0) as file:
            yield file
    except OSError as error:
        raise CacheError(f"{path} cannot be read: {error.strerror or error}") from error


def has_seal(path: Path) -> bool:
    """Return whether the file begins with a seal that can be read."""
    with open_cache_file(path) as file:
        return Seal.read(file) is not None


def is_seal_intact(path: Path) -> bool:
    """Return whether all bytes of the file match the hash in its seal."""
    with open_cache_file(path) as file:
        seal = Seal.read(file)
        return seal is not None and seal.sha256 == _sha256(file, (USER_BLOCK, file_size(file)))


def check_structure(path: Path, file: io.FileIO) -> Seal | None:
    """Return the seal of a file whose bytes outside the features match it; None without a seal.

    HDF5 could crash on a file with other bytes there.

    Raises:
        CacheError: The bytes do not match, or the file has another length.
    """
    seal, size = Seal.read(file), file_size(file)
    if seal is None:
        return None
    if seal.byte_count + USER_BLOCK != size:
        raise CacheError(f"{path} has {size} bytes, not {seal.byte_count + USER_BLOCK}: truncated?")
    outside = ((USER_BLOCK, seal.features_start), (seal.features_stop, size))
    if _sha256(file, *outside) != seal.rest_sha256:
        raise CacheError(f"{path} is damaged outside its features: in names, labels or structure")
    if not USER_BLOCK <= seal.features_start <= seal.features_stop <= size:
        raise CacheError(f"{path}: its seal places the features outside the file")
    return seal


def file_size(file: io.FileIO) -> int:
    """Return the length of an open file in bytes."""
    return file.seek(0, io.SEEK_END)


def _sha256(file: io.FileIO, *ranges: tuple[int, int]) -> str:
    """Return the SHA-256 of the bytes in these ranges of offsets, as 64 hex digits."""
    digest = hashlib.sha256()
    for start, stop in ranges:
        file.seek(start)
        while start < stop and (block := file.read(min(_BLOCK, stop - start))):
            digest.update(block)
            start += len(block)
    return digest.hexdigest()
