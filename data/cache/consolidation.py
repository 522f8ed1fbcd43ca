"""What a cache is made of when it is written: rows of shards and of what was there, in order."""

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.cache.errors import CacheError
from data.cache.hdf5_reader import CacheMetadata
from data.cache.row_batches import RowBatches
from data.cache.rows import CacheRow, CommonColumns, RowSurvey, with_known_labels
from data.cache.shards import Shards
from data.cache.stored_clips import StoredClips
from data.clips import Clip
from data.columns import column_of, ranges
from data.digests import DigestMap, Digests, digest_of
from data.duplicates import ChangedObjects, share_objects_of_many
from data.windows import video_of

_AS_IT_IS, _KNOWN, _DONE, _RELABELLED = range(4)  # what is said of a row, and by whom
_AT_ONCE = 1 << 13  # clips whose rows are looked for together


Choice = NDArray[Any]
"""Where rows (N,) are: records of `CHOICE`."""
CHOICE = np.dtype(
    [
        ("file", "i4"),  # number of a file of the cache; of a shard -1 - its number
        ("row", "i4"),  # in that file
        ("given", "i4"),  # which of the clips that are given says what it is; -1: none
        ("before", "i8"),  # number of the clip of this id that the cache has; -1: none
        # `_AS_IT_IS`; `_KNOWN`: nothing is known of it but what the cache has; `_DONE`: its
        # features were asked for, or made; `_RELABELLED`: only its labels are new.
        ("how", "i1"),
    ]
)


class ChosenRows(RowBatches):
    """Rows of a cache that is to be written, which are made as they are used.

    Args:
        choice: Where they are.
        clips: What is said of them.
        stored: The clips that the cache has.
        shards: The shards.
        in_place: Whether a row that has no thumbnails gets none.
    """

    def __init__(
        self,
        choice: Choice,
        clips: Sequence[Clip],
        stored: StoredClips,
        shards: Shards,
        keys: DigestMap,
        *,
        in_place: bool,
    ) -> None:
        self.choice = choice
        self._clips, self._stored, self._shards, self._keys = clips, stored, shards, keys
        self._in_place = in_place

    def __len__(self) -> int:
        return len(self.choice)

    def _make(self, start: int, stop: int) -> list[CacheRow]:
        some = self.choice[start:stop]
        files, before = some["file"], some["before"]
        before_files, before_rows = self._stored.places(np.maximum(before, 0))
        before_files[before < 0] = -1
        of_cache = np.union1d(files[files >= 0], before_files[before_files >= 0])
        cache = {file: self._stored.file(file) for file in of_cache.tolist()}
        numbers = np.unique(-1 - files[files < 0]).tolist()
        shards = {number: self._shards.read(number) for number in numbers}
        made = []
        for (file, row, given, _, how), before_file, before_row in zip(
            some.tolist(), before_files.tolist(), before_rows.tolist(), strict=True
        ):
            known = None
            if before_file >= 0:
                known = self._stored.row(*cache[before_file], before_row)
            if given < 0:
                made.append(self._stored.row(*cache[file], row))
            elif how == _RELABELLED:
                made.append(_required(known).relabelled(self._clips[given]))
            elif how == _KNOWN:
                made.append(_as_far_as_known(self._clips[given], _required(known)))
            elif file >= 0:
                clip, tables = with_known_labels(self._clips[given], known)
                made.append(CacheRow.from_metadata(clip, *cache[file], row, tables))
            else:
                made.append(
                    self._of_shard(self._clips[given], -1 - file, shards[-1 - file], row, known)
                )
        return made

    def _of_shard(
        self, clip: Clip, number: int, metadata: CacheMetadata, row: int, before: CacheRow | None
    ) -> CacheRow:
        key = self._keys.get(digest_of(clip.id))
        path = self._shards.require(number, metadata, row, key, clip.id)
        clip, tables = with_known_labels(clip, before)
        found = CacheRow.from_metadata(clip, path, metadata, row, tables)
        if self._in_place and before and before.thumbnails is None:
            return replace(found, thumbnails=None)  # a repair adds nothing
        return found

    def but(self, clip_ids: Collection[str]) -> "ChosenRows":
        """Return the rows of all clips but some."""
        kept = np.fromiter((row.clip.id not in clip_ids for row in self), bool, len(self))
        pieces = (self.choice[some][kept[some]] for some in ranges(len(self)))
        return ChosenRows(
            column_of(CHOICE, pieces),
            self._clips,
            self._stored,
            self._shards,
            self._keys,
            in_place=self._in_place,
        )

    def left_out(self) -> NDArray[np.int64]:
        """Return the numbers of the clips of the cache of which there is no row here."""
        left = np.ones(len(self._stored), bool)
        for own in _pieces(self.choice):
            left[own["before"][own["before"] >= 0]] = False
            as_it_is = own[own["given"] < 0]
            left[self._stored.numbers(as_it_is["file"], as_it_is["row"])] = False
        return np.flatnonzero(left)

    def origins(self) -> tuple[bool, bool]:
        """Return whether features of the cache are among the rows, and whether new ones are."""
        return (
            any((some["file"] >= 0).any() for some in _pieces(self.choice)),
            any((some["file"] < 0).any() for some in _pieces(self.choice)),
        )

    def are_where_they_were(self) -> bool:
        """Return whether these are the rows of the cache, all of them in their order."""
        if len(self) != len(self._stored):
            return False
        for some in ranges(len(self)):
            own = self.choice[some]
            files, rows = self._stored.places(np.arange(some.start, some.stop))
            if (own["file"] != files).any() or (own["row"] != rows).any():
                return False
        return True


def _as_far_as_known(clip: Clip, before: CacheRow) -> CacheRow:
    """Return the row that a cache has of a clip, with what is said of it if it is of its times."""
    clip, tables = with_known_labels(clip, before)
    same = (clip.start, clip.end) == (before.clip.start, before.clip.end)
    return before.relabelled(clip, tables) if same else before


def choose_rows(
    clips: Sequence[Clip],
    stored: StoredClips,
    shards: Shards,
    keys: DigestMap,
    *,
    outdated: Collection[str],
    videos: Mapping[str, str],
    in_place: bool,
) -> ChosenRows:
    """Return what a cache has of other clips, then what there is of `clips`.

    Args:
        clips: In the order that they shall have.
        stored: The clips that the cache has.
        shards: Where the features of others are.
        keys: The digest of the id of a clip that is done -> that of its key.
        outdated: Ids of clips whose features in the cache are not kept.
        videos: Clips that are cut, or failed -> hash of their file; windows of another go.
        in_place: Whether clips stay where they are in the cache; new ones are where parts are lost.

    Raises:
        CacheError: A clip is there twice, or the shard of one is gone.
    """
    is_given, new, rank = np.zeros(len(stored), bool), 0, array("q")

    def chosen() -> Iterator[tuple[int, ...]]:
        """Yield number in the cache, shard and row there, and the rest of `CHOICE`."""
        nonlocal new
        for which, clip in enumerate(clips):
            own, before_it = digest_of(clip.id), new  # new clips before this one
            key, known = keys.get(own), stored.number_of(own)
            new += known is None
            if known is not None:
                is_given[known] = True
            if key is None:
                if known is None or clip.id in outdated:
                    continue
                found: int | None = known
            else:
                found = stored.number_of_key(key)  # perhaps that of another clip of equal content
                if found is not None and known is not None and stored.key_of(known) == key:
                    found = known
            shard, row = 0, 0
            if found is None and key is not None:
                shard, row = shards.place(key) or shards.refuse(clip.id)
            how = _KNOWN if key is None else _DONE
            before = -1 if known is None else known
            if in_place:
                rank.append(before_it)
            yield -1 if found is None else found, shard, row, which, before, how

    of_clips = column_of(CHOICE, _with_places(stored, chosen()))
    _refuse_twice(clips, of_clips)
    others = _others(stored, ~is_given, videos)
    choice = column_of(CHOICE, chain(_as_they_are(stored, others), _pieces(of_clips)))
    if in_place:
        there = of_clips["before"]
        free = _free_places(stored, new)[np.array(rank, np.int64)]
        where = np.concatenate([np.flatnonzero(others), np.where(there < 0, free, there)])
        choice = choice[np.argsort(where, kind="stable")]
    return ChosenRows(choice, clips, stored, shards, keys, in_place=in_place)


def _with_places(stored: StoredClips, rows: Iterator[tuple[int, ...]]) -> Iterator[Choice]:
    """Yield where rows are, some at a time: of one of the cache, by its number, file and row."""
    while some := list(islice(rows, _AT_ONCE)):
        number, shard, row, given, before, how = np.array(some, np.int64).T
        is_new = number < 0
        files, rows_there = stored.places(np.maximum(number, 0))
        found = np.empty(len(some), CHOICE)
        found["file"] = np.where(is_new, -1 - shard, files)
        found["row"] = np.where(is_new, row, rows_there)
        found["given"], found["before"], found["how"] = given, before, how
        yield found


def _pieces(choice: Choice) -> Iterator[Choice]:
    return (choice[some] for some in ranges(len(choice)))


def _free_places(stored: StoredClips, count: int) -> NDArray[np.float64]:
    """Return where each of so many new clips belongs among the numbers of those that are there.

    They are in place of parts that are lost, and then at the end.
    """
    gaps = [number for number, clips in stored.gaps for _ in range(clips)]
    return np.array([*gaps, *[len(stored)] * (count + 1)]) - 0.5


def _others(
    stored: StoredClips, others: NDArray[np.bool_], videos: Mapping[str, str]
) -> NDArray[np.bool_]:
    """Return which of other clips (N,) are no windows of another file than their video."""
    if videos:
        numbers = np.flatnonzero(others)
        for number, (clip_id, source) in zip(numbers, stored.names(numbers.tolist()), strict=True):
            others[number] = videos.get(video_of(clip_id), source) == source
    return others


def _as_they_are(stored: StoredClips, chosen: NDArray[np.bool_]) -> Iterator[Choice]:
    """Yield where those clips of the cache (N,) are that are chosen, some at a time."""
    for some in ranges(len(chosen)):
        numbers = np.flatnonzero(chosen[some]) + some.start
        found = np.empty(len(numbers), CHOICE)
        found["file"], found["row"] = stored.places(numbers)
        found["given"] = found["before"] = -1
        found["how"] = _AS_IT_IS
        yield found


def relabelled_rows(
    clips: Sequence[Clip], stored: StoredClips, shards: Shards, *, prune: bool
) -> ChosenRows:
    """Return what a cache has, with the labels that `clips` say; `prune` leaves out the others."""
    given = np.full(len(stored), -1, np.int32)
    for which, clip in enumerate(clips):
        if (number := stored.number_of(digest_of(clip.id))) is not None:
            given[number] = which

    def chosen() -> Iterator[Choice]:
        start = 0
        for some in _as_they_are(stored, np.ones(len(stored), bool)):
            some["given"] = own = given[start : start + len(some)]
            numbers = np.arange(start, start + len(some))
            some["before"] = np.where(own < 0, -1, numbers)
            some["how"] = np.where(own < 0, _AS_IT_IS, _RELABELLED)
            start += len(some)
            yield some[own >= 0] if prune else some

    choice = column_of(CHOICE, chosen())
    return ChosenRows(choice, clips, stored, shards, DigestMap(), in_place=False)


def _refuse_twice(clips: Sequence[Clip], choice: Choice) -> None:
    ids = Digests(
        digest_of(clips[which].id) for some in _pieces(choice) for which in some["given"].tolist()
    )
    again = [rows[~begins].min() for rows, begins in ids.groups() if not begins.all()]
    if again:
        twice = clips[choice["given"][min(again)]]
        raise CacheError(f"clip id {twice.id!r} appears twice")


@dataclass(frozen=True)
class Surveyed:
    """What is found by looking at all rows once.

    Attributes:
        common: What they have in common.
        sources: The digests of the hashes of their files.
        extracted: Ids of clips that some run failed at, and that are among them.
    """

    common: CommonColumns
    sources: Digests
    extracted: set[str]

    @classmethod
    def of(cls, rows: Iterable[CacheRow], failed: Collection[str]) -> "Surveyed":
        """Look at rows; `failed` are ids of clips that some run failed at.

        Raises:
            CacheError: A label has two units, or a file cannot be read.
        """
        found, extracted = RowSurvey(), set[str]()

        def sources() -> Iterator[int]:
            for row in rows:
                found.add(row)
                if row.clip.id in failed:
                    extracted.add(row.clip.id)
                yield digest_of(row.source_sha256)

        of_rows = Digests(sources())
        return cls(found.common(), of_rows, extracted)

    def shared_objects(
        self, rows: Sequence[CacheRow], identity: Mapping[str, Any]
    ) -> ChangedObjects:
        """Return the objects of clips that share the content, and the object, of others."""
        return share_objects_of_many(
            self.sources, lambda row: rows[row].stretch(identity), none=digest_of("")
        )


def _required(row: CacheRow | None) -> CacheRow:
    assert row is not None
    return row
