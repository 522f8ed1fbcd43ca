"""The errors of this package, and what to do about a damaged cache."""

import shlex
from pathlib import Path

from data.copies import address_of
from data.errors import HeliographError

INDEX = "index.json"  # of a folder of parts
NO_HDF5 = "is not an HDF5 file"  # how a sentence about a file ends
SHARDS = ".parts"  # what the folder of shards of a cache is called after its name

JOINED = ".joined"  # the same of the folder to which several processes write


class CacheError(HeliographError):
    """A feature cache that cannot be read, trusted or combined."""


class DamagedCacheError(CacheError):
    """A cache of ours that is damaged; the message says what to type next.

    Args:
        path: The file.
        reason: What is damaged, with the name of the file; the message without what to type.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{reason}; {way_out(path)}")
        self.reason = reason


def way_out(path: Path) -> str:
    """Return what to do about a damaged cache, shard, part or folder of parts."""
    folder = path if path.is_dir() else path.parent
    in_joined = any(parent.name.endswith(JOINED) for parent in path.parents)
    if (
        in_joined
        or folder.name.endswith(SHARDS)
        or (not path.exists() and shards_of(path).is_dir())
    ):
        return "the same heliograph extract command goes on, and makes damaged shards again"
    command = "heliograph cache verify --repair"
    if path.name == INDEX or (path.parent / INDEX).exists():
        path = path.parent  # a folder of parts
    name = address_of(path) or str(path)
    return f"{command} {shlex.quote(name)} saves what can be saved"


def how_to_replace(path: Path) -> str:
    """Return what to do about a damaged cache of which nothing more can be saved."""
    there, away = (shlex.quote(str(name)) for name in (path, f"{path}.damaged"))
    move = f"move it away (mv {there} {away})"
    if address := address_of(path):
        move = f"remove {address} or give it another name"
    return (
        f"{move}, and make it again with the command that made it (heliograph extract, cache "
        "import or cache merge)"
    )


def joined_of(target: Path) -> Path:
    """Return the folder of what several processes have extracted for a cache."""
    return target.with_name(target.name + JOINED)


def shards_of(target: Path) -> Path:
    """Return the folder of shards of a cache that is being extracted."""
    return target.with_name(target.name + SHARDS)
