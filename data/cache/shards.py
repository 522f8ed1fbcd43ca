"""Which shards there are, and in which row of which one the features of a clip are."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from data.cache.errors import CacheError, DamagedCacheError
from data.cache.hdf5_reader import CacheMetadata, read_metadata
from data.cache.verification import is_shard
from data.digests import Digests, DigestTable, digest_of


class Shards:
    """The shards of a folder by name, and the places of the features in them by key.

    A key is given by its digest; it takes 24 bytes of a file.

    Args:
        path: Returns where the shard of a name is.
        damaged: Returns the error for a shard at a path that is damaged or gone.
        check: Raises CacheError where features are not as the cache's, its message after a prefix.
    """

    def __init__(
        self,
        path: Callable[[str], Path],
        damaged: Callable[[Path], DamagedCacheError],
        check: Callable[[str, NDArray[Any]], None],
    ) -> None:
        self.path, self._damaged, self._check = path, damaged, check
        self._names: list[str] = []  # by number; also of those that are gone
        self._numbers: dict[str, int] = {}
        self._places = DigestTable([("shard", "i4"), ("row", "i4")])

    def __contains__(self, name: str) -> bool:
        return name in self._numbers

    def add(self, name: str, keys: Iterable[str]) -> None:
        """Note a shard with the keys of its rows."""
        for row, key in enumerate(keys):
            self.add_row(name, row, digest_of(key))

    def add_row(self, name: str, row: int, key: int) -> None:
        """Note that a row of a shard has the features of a key."""
        if name not in self._numbers:
            self._numbers[name] = len(self._names)
            self._names.append(name)
        self._places[key] = self._numbers[name], row

    def has(self, key: int) -> bool:
        """Return whether the features of a key are in a shard."""
        return key in self._places

    def place(self, key: int) -> tuple[int, int] | None:
        """Return number of the shard, and row, of the features of a key; None if there are none."""
        place = self._places.get(key)
        return None if place is None else (place[0], place[1])

    def name_of(self, key: int) -> str | None:
        """Return the name of the shard of a key."""
        place = self._places.get(key)
        return None if place is None else self._names[place[0]]

    def names_of(self, keys: Iterable[Digests]) -> list[str]:
        """Return the names of the shards in which features of some keys are, sorted."""
        numbers: set[int] = set()
        for some in keys:
            rows = self._places.rows_of(some)
            numbers.update(np.unique(self._places.records["shard"][rows[rows >= 0]]).tolist())
        return sorted(self._names[number] for number in numbers)

    def forget(self, name: str) -> list[int]:
        """Leave a shard out of account; return the keys that are in no other one."""
        number = self._numbers.pop(name, None)
        return [] if number is None else self._places.pop_where("shard", number)

    def forget_within(self, keys: DigestTable) -> list[str]:
        """Leave out of account the shards all of whose keys are among these; return their names."""
        staying: set[int] = set()
        for own, places in self._places.pieces():
            staying.update(np.unique(places["shard"][keys.rows_of(own) < 0]).tolist())
        names = [name for name, number in self._numbers.items() if number not in staying]
        kept = sorted(staying)
        self._places.keep_where(lambda own, places: np.isin(places["shard"], kept))
        for name in names:
            del self._numbers[name]
        return names

    def path_of_number(self, number: int) -> Path:
        """Return where the shard of a number is."""
        return self.path(self._names[number])

    def read(self, number: int) -> CacheMetadata:
        """Read a shard but its features.

        Raises:
            DamagedCacheError: It is damaged or gone.
        """
        path = self.path_of_number(number)
        metadata = read_shard(path)
        if metadata is None:
            raise self._damaged(path)
        return metadata

    def require(
        self, number: int, metadata: CacheMetadata, row: int, key: int | None, clip_id: str
    ) -> Path:
        """Return the path of a shard that was read, if a row of it has the features of a key.

        Raises:
            DamagedCacheError: It has not.
            CacheError: They are not of the shape that the cache has.
        """
        path = self.path_of_number(number)
        if row >= len(metadata.clips) or digest_of(metadata.clips.key[row]) != key:
            raise self._damaged(path)
        self._check(f"{clip_id}: ", metadata.clips.features)
        return path

    def refuse(self, clip_id: str) -> NoReturn:
        """Raise DamagedCacheError: the features of a clip that is done are in no shard."""
        path = self.path("shard")
        raise DamagedCacheError(path, f"the shard of {clip_id} is damaged or gone")


def read_shard(path: Path) -> CacheMetadata | None:
    """Read a shard but its features; None if it is damaged, or named as another one."""
    try:
        metadata = read_metadata(path)
    except CacheError:
        return None
    return metadata if is_shard(path, metadata) else None
