"""What a cache is made of when it is written: rows of shards and of what was there, in order."""

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from data.digests import DigestMap, Digests, digest_of
from data.duplicates import ChangedObjects, share_objects_of_many
from data.windows import video_of

_AS_IT_IS, _KNOWN, _DONE, _RELABELLED = range(4)  # what is said of a row, and by whom


@dataclass(frozen=True)
class Choice:
    """Where rows (N,) are, 25 bytes each.

    Attributes:
        file: Number of a file of the cache; of a shard -1 - its number.
        row: In that file.
        given: Which of the clips that are given says what it is; -1: none.
        before: Number of the clip of this id that the cache has; -1: none.
        how: `_AS_IT_IS`; `_KNOWN`: nothing is known of it but what the cache has; `_DONE`: its
            features were asked for, or made; `_RELABELLED`: only its labels are new.
    """

    file: NDArray[np.int32]
    row: NDArray[np.int32]
    given: NDArray[np.int32]
    before: NDArray[np.int64]
    how: NDArray[np.int8]

    def take(self, rows: NDArray[Any]) -> "Choice":
        """Return some rows."""
        return Choice(*(column[rows] for column in self._columns()))

    def then(self, other: "Choice") -> "Choice":
        """Return these rows and others after them."""
        both = zip(self._columns(), other._columns(), strict=True)
        return Choice(*map(np.concatenate, both))

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self.file, self.row, self.given, self.before, self.how


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
        return len(self.choice.row)

    def _make(self, start: int, stop: int) -> list[CacheRow]:
        some = self.choice.take(np.arange(start, stop))
        before_files, before_rows = self._stored.places(np.maximum(some.before, 0))
        before_files[some.before < 0] = -1
        of_cache = np.union1d(some.file[some.file >= 0], before_files[before_files >= 0])
        cache = {file: self._stored.file(file) for file in of_cache.tolist()}
        numbers = np.unique(-1 - some.file[some.file < 0]).tolist()
        shards = {number: self._shards.read(number) for number in numbers}
        made = []
        for file, row, given, before_file, before_row, how in zip(
            some.file.tolist(),
            some.row.tolist(),
            some.given.tolist(),
            before_files.tolist(),
            before_rows.tolist(),
            some.how.tolist(),
            strict=True,
        ):
            before = None
            if before_file >= 0:
                before = self._stored.row(*cache[before_file], before_row)
            if given < 0:
                made.append(self._stored.row(*cache[file], row))
            elif how == _RELABELLED:
                made.append(_required(before).relabelled(self._clips[given]))
            elif how == _KNOWN:
                made.append(_as_far_as_known(self._clips[given], _required(before)))
            elif file >= 0:
                clip, tables = with_known_labels(self._clips[given], before)
                made.append(CacheRow.from_metadata(clip, *cache[file], row, tables))
            else:
                made.append(
                    self._of_shard(self._clips[given], -1 - file, shards[-1 - file], row, before)
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
        kept = np.array([row.clip.id not in clip_ids for row in self], bool)
        return ChosenRows(
            self.choice.take(np.flatnonzero(kept)),
            self._clips,
            self._stored,
            self._shards,
            self._keys,
            in_place=self._in_place,
        )

    def left_out(self) -> NDArray[np.int64]:
        """Return the numbers of the clips of the cache of which there is no row here."""
        left, own = np.ones(len(self._stored), bool), self.choice
        left[own.before[own.before >= 0]] = False
        as_it_is = own.take(np.flatnonzero(own.given < 0))
        left[self._stored.numbers(as_it_is.file, as_it_is.row)] = False
        return np.flatnonzero(left)

    def are_where_they_were(self) -> bool:
        """Return whether these are the rows of the cache, all of them in their order."""
        files, rows = self._stored.places(np.arange(len(self._stored)))
        return np.array_equal(self.choice.file, files) and np.array_equal(self.choice.row, rows)


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
    ids = Digests(digest_of(clip.id) for clip in clips)
    is_given = np.zeros(len(stored), bool)
    given, how, before = array("i"), array("b"), array("q")
    number, shard, row = array("q"), array("i"), array("i")  # in the cache, or in which shard
    new, rank = 0, array("q")  # how many new clips there are before a clip
    for which, clip in enumerate(clips):
        own, before_it = ids[which], new
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
        place = (0, 0)
        if found is None and key is not None:
            place = shards.place(key) or shards.refuse(clip.id)
        given.append(which)
        how.append(_KNOWN if key is None else _DONE)
        before.append(-1 if known is None else known)
        number.append(-1 if found is None else found)
        rank.append(before_it)
        shard.append(place[0])
        row.append(place[1])
    _refuse_twice(clips, ids, np.array(given, np.int32))
    of_cache = np.array(number, np.int64)
    files, rows = stored.places(np.maximum(of_cache, 0))
    is_new = of_cache < 0
    chosen = Choice(
        file=np.where(is_new, -1 - np.array(shard, np.int32), files).astype(np.int32),
        row=np.where(is_new, np.array(row, np.int32), rows).astype(np.int32),
        given=np.array(given, np.int32),
        before=np.array(before, np.int64),
        how=np.array(how, np.int8),
    )
    others = _others(stored, np.flatnonzero(~is_given), videos)
    chosen = _as_they_are(stored, others).then(chosen)
    if in_place:
        there = np.array(before, np.int64)
        free = _free_places(stored, new)[np.array(rank, np.int64)]
        where = np.concatenate([others, np.where(there < 0, free, there)])
        chosen = chosen.take(np.argsort(where, kind="stable"))
    return ChosenRows(chosen, clips, stored, shards, keys, in_place=in_place)


def _free_places(stored: StoredClips, count: int) -> NDArray[np.float64]:
    """Return where each of so many new clips belongs among the numbers of those that are there.

    They are in place of parts that are lost, and then at the end.
    """
    gaps = [number for number, clips in stored.gaps for _ in range(clips)]
    return np.array([*gaps, *[len(stored)] * (count + 1)]) - 0.5


def _others(
    stored: StoredClips, numbers: NDArray[np.int64], videos: Mapping[str, str]
) -> NDArray[np.int64]:
    """Return those of clips of the cache that are no windows of another file than their video."""
    if not videos:
        return numbers
    stay = [
        videos.get(video_of(clip_id), source) == source
        for clip_id, source in stored.names(numbers.tolist())
    ]
    return numbers[np.array(stay, bool)]


def _as_they_are(stored: StoredClips, numbers: NDArray[np.int64]) -> Choice:
    files, rows = stored.places(numbers)
    nobody = np.full(len(numbers), -1)
    return Choice(
        file=files.astype(np.int32),
        row=rows.astype(np.int32),
        given=nobody.astype(np.int32),
        before=nobody,
        how=np.full(len(numbers), _AS_IT_IS, np.int8),
    )


def relabelled_rows(
    clips: Sequence[Clip], stored: StoredClips, shards: Shards, *, prune: bool
) -> ChosenRows:
    """Return what a cache has, with the labels that `clips` say; `prune` leaves out the others."""
    choice = _as_they_are(stored, np.arange(len(stored)))
    for which, clip in enumerate(clips):
        if (number := stored.number_of(digest_of(clip.id))) is not None:
            choice.given[number], choice.how[number] = which, _RELABELLED
            choice.before[number] = number
    if prune:
        choice = choice.take(np.flatnonzero(choice.given >= 0))
    return ChosenRows(choice, clips, stored, shards, DigestMap(), in_place=False)


def _refuse_twice(clips: Sequence[Clip], ids: Digests, given: NDArray[np.int32]) -> None:
    order, begins = ids.take(given).groups()
    if not begins.all():
        twice = clips[given[order[~begins].min()]]
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
