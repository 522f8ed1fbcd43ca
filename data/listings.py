"""Folders at addresses that are listed in place of a question for each file in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from data.files import Address
from data.remote import RemoteError, list_some, listed_version

LEAST_FILES = 20  # for which a folder is listed
MOST_OTHERS = 50  # that are listed for each file that is looked for; a list is of 1,000 a request
_AT_ONCE = 8


def list_folders_of(paths: Iterable[Path]) -> None:
    """List folders with many of these files, for `data.remote.listed_version`.

    That is a folder that has `LEAST_FILES` of them in it or below, and no folder in it that has.
    Files that are not at an address with lists, or that are listed, are left out; so is what cannot
    be listed, or comes late in the list of a folder with many other files.
    """
    files = {
        str(path)
        for path in paths
        if isinstance(path, Address)
        and path.scheme in ("s3", "gs", "hf")
        and listed_version(path) is None
    }
    folders = _folders_of(files)
    if folders:
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            list(threads.map(_list, folders, folders.values()))


def _list(folder: str, count: int) -> None:
    scheme, _, rest = folder.partition("://")
    with suppress(RemoteError):  # each of the files says what is wrong
        list_some(Address(f"{scheme}:/{rest}"), MOST_OTHERS * count)


def _folders_of(files: Iterable[str]) -> dict[str, int]:
    """Return the folders to list, and how many of the files each has.

    >>> _folders_of(f"s3://b/{n % 2}/{n}.mp4" for n in range(41))
    {'s3://b/0': 21, 's3://b/1': 20}
    >>> _folders_of(f"s3://b/{n}/a.mp4" for n in range(20))
    {'s3://b': 20}
    """
    counts = Counter(file.rpartition("/")[0] for file in files)
    chosen: dict[str, int] = {}
    while counts:
        depth = max(folder.count("/") for folder in counts)
        for folder in sorted(folder for folder in counts if folder.count("/") == depth):
            count = counts.pop(folder)
            if count >= LEAST_FILES:
                chosen[folder] = count
            elif depth > 2:  # below a bucket
                counts[folder.rpartition("/")[0]] += count
    return chosen
