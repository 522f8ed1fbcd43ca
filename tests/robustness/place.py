"""A folder in which a command runs again and again from the same start."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.cache import read_ledger
from tests.robustness.zygote import End, Zygote

USER_BLOCK = 512
TIMES = re.compile(
    rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(\+00:00| ?UTC|Z)?"
    rb"|\"(stages|seconds)\": ({[^}]*}|[^\n]*)|<h3>Time: [^<]*</h3>\s*<dl [^\n]*"
    rb"|\"id\": \"[0-9a-f]{40}\"|<meta name=\"heliograph-run\"[^>]*>|\"report\.html\": {[^}]*}"
)
"""What two equal runs differ in: times, the id of a run, and with it the hash of its page."""
HDF5_TIME = re.compile(rb"(\x12\x00\x08\x00\x00\x00\x00\x00\x01\x00\x00\x00)....", re.DOTALL)
"""The time at which HDF5 made a dataset, in the header of the dataset."""


class Place:
    """A folder, always of the same path, that can be put back to how it was.

    Args:
        zygote: What runs there.
        root: Holds the folder and the copy of its start.
    """

    def __init__(self, zygote: Zygote, root: Path) -> None:
        self.zygote, self.folder, self._start = zygote, root / "case", root / "start"
        for folder in (self.folder, self._start):
            shutil.rmtree(folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def run(self, *words: object) -> End:
        """Run a command that must succeed."""
        end = self.command(words)
        assert end.code == 0, (words, end.stderr)
        return end

    def command(self, words: Sequence[object], **options: Any) -> End:
        """Run a command; `options` are fields of `Case`."""
        return self.zygote.command(words, self.folder, **options)

    def call(self, function: str, *arguments: Any) -> Any:
        """Return what the function `module:name` returns, called in the folder."""
        return self.zygote.call(function, *arguments, folder=self.folder)

    def keep(self) -> None:
        """Remember the folder as it is now, as the start."""
        shutil.copytree(self.folder, self._start, symlinks=True)

    def reset(self) -> None:
        """Put the folder back to its start."""
        shutil.rmtree(self.folder)
        shutil.copytree(self._start, self.folder, symlinks=True)

    def files(self) -> dict[str, str]:
        """Return the content of every file and folder, see `content_of`, by its path."""
        return {
            path.relative_to(self.folder).as_posix(): content_of(path)
            for path in self.folder.rglob("*")
            if ".cache" not in path.relative_to(self.folder).parts
        }


def content_of(path: Path) -> str:
    """Return a hash of the bytes of a file without times of creation; `folder` for a folder."""
    if path.is_dir():
        return "folder"
    content = path.read_bytes()
    if path.name.endswith(".ledger.jsonl"):
        return "ledger"  # may have lines of each start; see `computed`
    if content.startswith(b"heliograph"):
        # The seal has hashes of what holds the time of creation.
        content = HDF5_TIME.sub(rb"\1", content[USER_BLOCK:])
    return hashlib.sha256(TIMES.sub(b"", content)).hexdigest()[:16]


def computed(folder: Path) -> Counter[str]:
    """Return how often each clip was computed, by the ledgers of a folder."""
    return Counter(
        entry["clip"]
        for ledger in folder.glob("*.ledger.jsonl")
        for entry in read_ledger(ledger.with_name(ledger.name.removesuffix(".ledger.jsonl")))
        if entry["outcome"] == "done"
    )
