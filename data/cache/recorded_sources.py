"""The hashes of files as a ledger has them: a file that is as it was is not read again."""

import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.digests import DigestTable, digest_of
from data.files import HashedFile, Version, absolute, version_of

_SHA256 = re.compile(r"[0-9a-f]{64}")


class RecordedSources:
    """The hashes of files as they were recorded, each with the size and the time of its file.

    A file at an address has its server's tag in place of the time. A file of which these are as
    recorded is not read again. Any thread may call; a file takes 64 bytes, in files
    without names where they are many.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        # By its path: a digest of size and time or tag, and the hash.
        self._known = DigestTable([("high", "u8"), ("low", "u8"), ("sha256", "S32")])

    def read(self, entry: Mapping[str, Any]) -> None:
        """Take the hash of a file from an entry of a ledger, if it has one."""
        match entry:
            case {
                "path": str(path),
                "bytes": int(size),
                "source_sha256": str(sha256),
                "mtime_ns": int(changed),
            } | {
                "path": str(path),
                "bytes": int(size),
                "source_sha256": str(sha256),
                "etag": str(changed),
            }:
                self._add(path, size, changed, sha256)

    def add(self, path: Path, source: HashedFile) -> None:
        """Take the hash of a file."""
        if source.version is not None:
            self._add(absolute(path), *source.version[1:], source.sha256)

    def _add(self, path: str, size: int, changed: int | str, sha256: str) -> None:
        if _SHA256.fullmatch(sha256):
            record = (*_halves(size, changed), bytes.fromhex(sha256))
            with self._guard:
                self._known[digest_of(path)] = record

    def has(self, path: Path) -> bool:
        """Return whether there is a hash of a file, as it is or as it was."""
        with self._guard:
            return digest_of(absolute(path)) in self._known

    def find(self, path: Path, version: Version | None = None) -> HashedFile | None:
        """Return the hash of a file that is as it was recorded; None if it is not.

        Args:
            path: The file.
            version: The one that it has; None: `version_of` it.
        """
        with self._guard:
            known = self._known.get(digest_of(absolute(path)))
        if known and version is None:
            version = version_of(path)
        if known and version and known[:2] == _halves(*version[1:]):
            return HashedFile(known[2].ljust(32, b"\0").hex(), version)  # numpy drops last zeros
        return None


def _halves(size: int, changed: int | str) -> tuple[int, int]:
    """Return the digest of what a change of a file changes, in two halves."""
    return divmod(digest_of(f"{size} {changed!r}"), 1 << 64)
