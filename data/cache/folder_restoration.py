"""Mending a cache, which may be a folder of parts: its files, its ledger, and the index.

The index of a folder is written again from the parts. Which of them it named, and in which order,
is proved by the identity of the content of them all, where the index still says it; otherwise what
is most likely is taken, and said.
"""

import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations, islice, permutations
from pathlib import Path

from data.cache.errors import INDEX, CacheError, DamagedCacheError, how_to_replace, shards_of
from data.cache.hdf5_reader import read_metadata
from data.cache.ledger import ledger_entries, restore_ledger
from data.cache.part_reader import read_together
from data.cache.parts import (
    Index,
    Part,
    is_own_name,
    new_part,
    read_index,
    remove_parts,
    write_index,
)
from data.cache.restoration import find_content, restore_file, restore_seal
from data.cache.rows import write_rows
from data.cache.seal import check_structure, is_nearly, open_cache_file
from data.files import open_regular
from data.windows import video_of
from data.wording import counted

_HEAD = 256  # bytes at the start of an index, in which the identity of its content is
_FEW = 5  # parts that are tried in every order
_MOST_TRIED = 200  # orders of parts
_MOST_CLIPS = 2_000_000  # that are hashed to try them


def restore(path: Path | str, order: Sequence[str] = ()) -> list[str]:
    """Mend what is damaged outside the features of a cache; return what was done, in sentences.

    Damaged features stay as they are. Of a folder the parts are mended of which
    something shows what was there, and the index is written again from the parts.

    Args:
        path: The cache.
        order: Ids of its clips in their order, for an index that does not say it any more.

    Raises:
        CacheError: Nothing shows what was there; the message says what to type next.
        WriteError: The file cannot be written; it stays as it was.
    """
    path = Path(path)
    done = restore_ledger(path)
    if path.is_dir():
        return [*done, *_restore_folder(path, order)]
    if not path.exists() and shards_of(path).is_dir():
        return done
    return [*done, *restore_file(path)]


def _restore_folder(folder: Path, order: Sequence[str]) -> list[str]:
    """Mend parts of a folder, and then its index; the files that it names stay until then."""
    try:
        index = read_index(folder)
    except DamagedCacheError as error:
        return _restore_index(folder, error.reason, order)
    done, parts = [], []
    for part in index.parts:
        mended, told = _restore_part(folder, part, index)
        parts.append(mended)
        done += told
    content = index.content_sha256
    with suppress(DamagedCacheError):  # a part is lost
        content = read_together(folder, parts).content_sha256
        changed = [one.content_sha256 for one in parts] != [
            one.content_sha256 for one in index.parts
        ]
        if not changed and not is_nearly(content.encode(), index.content_sha256.encode()):
            reason = f"{folder / INDEX} is damaged: its parts together are something else"
            return [*done, *_restore_index(folder, reason, order)]
    if content != index.content_sha256 and not done:
        done.append(f"{folder / INDEX} was damaged: it was written again")
    write_index(folder, Index(parts, content))
    remove_parts({part.path for part in index.parts} - {part.path for part in parts})
    return done


def _restore_part(folder: Path, part: Part, index: Index) -> tuple[Part, list[str]]:
    """Mend a part, or what the index says of it; return what it is now, and what was done."""
    said = f"{folder / INDEX} was damaged where it names {{}}: it was written again"
    if not part.path.is_file():
        one = _renamed(folder, part)
        return (one, [said.format(one.path.name)]) if one else (part, [])
    done = restore_seal(part.path)
    try:
        with open_cache_file(part.path) as file:
            check_structure(part.path, file)
        found = _part_of(part.path)
    except DamagedCacheError as error:
        try:
            content = find_content(
                part.path, error.reason, cache=folder, identities=[part.content_sha256]
            )
        except CacheError:
            return part, done  # lost
        identity = content.content_sha256
        path = new_part(folder, identity, [one.path for one in index.parts])
        seal = write_rows(path, content.clips, content.rows, sound=content.sound)
        mended = Part(path, len(content.rows), seal.rest_sha256, identity)
        return mended, [*done, content.told]
    except CacheError:
        found = None
    if found is None or found == part:
        return part, done
    is_same = is_nearly(found.content_sha256.encode(), part.content_sha256.encode())
    if not is_same and found.rest_sha256 != part.rest_sha256:
        one = _renamed(folder, part)  # another one is in its place
        return (one, [*done, said.format(one.path.name)]) if one else (part, done)
    return found, [*done, said.format(part.path.name)]


def _renamed(folder: Path, part: Part) -> Part | None:
    """Return a part that is in its folder under another name than the index says."""
    found = map(_part_of, sorted(folder.glob("*.h5")))
    return next((one for one in found if one and one.rest_sha256 == part.rest_sha256), None)


def _part_of(file: Path) -> Part | None:
    """Return a file as an index names it; None if it is damaged outside its features."""
    with suppress(CacheError):
        metadata = read_metadata(file)
        return Part(file, len(metadata.clips), metadata.rest_sha256, metadata.content_sha256)
    return None


@dataclass(frozen=True)
class _Found:
    """What a folder has whose index is damaged or gone.

    Attributes:
        named: Parts of which the index still says something, in its order.
        lone: Other parts that were written here.
        stated: The beginning of the index, with the identity of the content of all parts.
    """

    folder: Path
    named: list[Part]
    lone: list[Part]
    stated: bytes

    def is_proved(self, parts: Sequence[Part]) -> bool:
        """Return whether these parts together are what the index says."""
        with suppress(CacheError):
            content = read_together(self.folder, parts).content_sha256.encode()
            places = range(len(self.stated) - len(content) + 1)
            return any(is_nearly(self.stated[at : at + len(content)], content) for at in places)
        return False

    def arrangements(self, likely: Sequence[Part]) -> Iterator[Sequence[Part]]:
        """Yield what the index may have named, the likeliest first."""
        parts = [*self.named, *self.lone]
        yield from (some for some in (self.named, likely) if some)
        if len(self.lone) == 1:
            for place in range(len(self.named)):
                yield [*self.named[:place], *self.lone, *self.named[place:]]
        for one, other in combinations(range(len(self.named)), 2):
            swapped = list(self.named)
            swapped[one], swapped[other] = swapped[other], swapped[one]
            yield swapped
        for left_out in self.named if len(self.named) > 1 else ():
            yield [part for part in self.named if part != left_out]
        if len(parts) <= _FEW:
            yield from permutations(parts)


def _restore_index(folder: Path, reason: str, order: Sequence[str]) -> list[str]:
    """Write an index again from the parts; `reason` says what is wrong with it."""
    found, done = _look_for_parts(folder)
    if not found.named and not found.lone:
        raise CacheError(f"{reason}, and so is every part; {how_to_replace(folder)}")
    likely, told = _likeliest(found, reason, order)
    tried = min(_MOST_TRIED, _MOST_CLIPS // max(1, sum(part.clips for part in likely)))
    for parts in islice(found.arrangements(likely), max(2, tried)):
        if found.stated and found.is_proved(parts):
            told = [f"{reason}: it was written again from its parts"]
            break
    else:
        parts = likely
    try:
        content = read_together(folder, parts).content_sha256
    except CacheError as error:
        raise CacheError(f"{reason}, and {error}; {_how_to_merge(folder)}") from error
    write_index(folder, Index(parts, content))
    return [*done, *told]


def _look_for_parts(folder: Path) -> tuple[_Found, list[str]]:
    """Return what a folder has, with seals mended, and what was done to them."""
    text = b""
    with suppress(FileNotFoundError), open_regular(folder / INDEX) as file:
        text = file.read()
    done, lone = [], []
    places: dict[int, Part] = {}
    for path in sorted(folder.glob("*.h5")):
        if not path.is_file():
            continue
        if path.name.encode() in text or is_own_name(path.name):
            with suppress(CacheError):
                done += restore_seal(path)
        if part := _part_of(path):
            names = (path.name, part.rest_sha256, part.content_sha256)
            if found := [place for name in names if (place := text.find(name.encode())) >= 0]:
                places[max(found)] = part
            elif is_own_name(path.name):
                lone.append(part)
    return _Found(folder, [places[place] for place in sorted(places)], lone, text[:_HEAD]), done


def _likeliest(found: _Found, reason: str, order: Sequence[str]) -> tuple[list[Part], list[str]]:
    """Return which parts there are to name in which order, and what to say of it.

    Raises:
        CacheError: Some have the same clips, and nothing shows which of them are to be named.
    """
    clips = {
        part.path: read_metadata(part.path).clips.clip_id for part in (*found.named, *found.lone)
    }
    outcomes: dict[str, str] = {}  # in the order in which the ledger first names clips
    with suppress(CacheError):
        for entry in ledger_entries(found.folder):
            outcomes[entry["clip"]] = entry["outcome"]
    parts, left_out = list(found.named), []
    taken = {clip: part for part in parts for clip in clips[part.path]}
    for part in found.lone:
        own = clips[part.path]
        twin = next((taken[clip] for clip in own if clip in taken), None)
        if twin is not None and not found.named:
            raise CacheError(
                f"{reason}, and {twin.path} and {part.path} have the same clips: move the older "
                "one away, and type the same again"
            )
        gone = outcomes and any(outcomes.get(clip) not in ("done", "kept") for clip in own)
        if twin is not None or gone:
            why = f"{twin.path} has its clips" if twin else "the ledger does not have its clips"
            left_out.append(f"{part.path} is no part of it: {why}")
            continue
        taken |= dict.fromkeys(own, part)
        parts.append(part)
    parts, how = _ordered(parts, found, clips, order, list(outcomes))
    told = f"{reason}: it was written again from {counted(len(parts), 'part')}, {how}"
    return parts, [told, *left_out]


def _ordered(
    parts: Sequence[Part],
    found: _Found,
    clips: Mapping[Path, Sequence[str]],
    order: Sequence[str],
    of_ledger: Sequence[str],
) -> tuple[list[Part], str]:
    """Return parts in the likeliest order, and in words which one that is."""
    if order:
        return sorted(parts, key=_place_in(order, clips)), "in the order of --clips"
    advice = ", which nothing proves: to have that of a table, remove it and repair with --clips"
    by_ledger = sorted(parts, key=_place_in(of_ledger, clips))
    if found.named:
        others = [part for part in by_ledger if part in found.lone]
        how = "in the order that it said" + (", and then the others" if others else "")
        return [*found.named, *others], how + advice
    by_name = sorted(parts, key=lambda part: min(clips[part.path], default=""))
    names = [clip for part in by_name for clip in clips[part.path]]
    if names == sorted(names):
        return by_name, f"in the order of the names of clips{advice}"
    return by_ledger, f"in the order of the ledger{advice}"


def _place_in(order: Sequence[str], clips: Mapping[Path, Sequence[str]]) -> Callable[[Part], float]:
    """Return a function that says where a list of clips first names one of a part."""
    places: dict[str, int] = {}
    for number, clip in enumerate(order):
        places.setdefault(clip, number)

    def place(part: Part) -> float:
        found = (places.get(clip, places.get(video_of(clip))) for clip in clips[part.path])
        return min((one for one in found if one is not None), default=math.inf)

    return place


def _how_to_merge(folder: Path) -> str:
    """Return what to do about the parts of a folder whose index is lost."""
    return (
        f"join those in {shlex.quote(str(folder))} that are sound (heliograph cache merge PART ... "
        "-o NEW), and the same heliograph extract command makes what is missing in NEW"
    )
