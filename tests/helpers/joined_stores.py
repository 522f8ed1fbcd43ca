"""Clips whose features are made of the bytes of their files, and processes that share them."""

from pathlib import Path
from typing import Any

import numpy as np

from data.cache import Features, JoinedStore, ShardStore, load
from data.cache.ledger import source_details
from data.clips import Clip
from data.files import hash_file
from tests.helpers.caches import MADE_WITH


def made_clips(folder: Path) -> list[Clip]:
    """Return ten clips, two of equal content, one of which no features can be had."""
    folder.mkdir()
    made = []
    for number in range(10):
        path = folder / f"{number}.mp4"
        path.write_bytes(b"bad" if number == 6 else b"film %d" % (number % 9))
        made.append(
            Clip(id=f"c{number}", path=path, labels={"mass": number}, units={"mass": "g"},
                 table_sha256="2" * 64)
        )  # fmt: skip
    return made


def treat(store: ShardStore, clip: Clip) -> str:
    """Do one clip as an extraction does."""
    source = hash_file(clip.path)
    store.sources.add(clip.path, source)
    details = source_details(source)
    if store.is_done(clip, **details):
        return "kept"
    content = clip.path.read_bytes()
    if content == b"bad":
        store.fail(clip, "it is bad", **details)
        return "failed"
    features = np.frombuffer(content.ljust(12), np.uint8).reshape(3, 4).astype(np.float32)
    index = np.arange(3, dtype=np.int64)
    pictures = np.full((3, 2, 2), content[-1], np.uint8)
    store.add(clip, features, index, index / 10, thumbnails=pictures, **details)
    return "done"


def opened(target: Path, **changes: Any) -> JoinedStore:
    store = JoinedStore(target, **{**MADE_WITH, **changes})
    store.check_shape((3, 4), np.float32)
    return store


def write(
    target: Path, clips: list[Clip], most: int | None = None, **changes: Any
) -> tuple[dict[str, str], dict[str, str | None]]:
    """Do the clips, or only so many of them, as one process; return what became of each."""
    ends: dict[str, str] = {}
    known: dict[str, str | None] = {}
    with opened(target, **changes) as store:
        for clip in store.offer(clips, lambda clip, reason: known.update({clip.id: reason})):
            ends[clip.id] = treat(store, clip)
            if len(ends) == most:
                store.flush()
                return ends, known
        if not store.finish(clips, lambda clip, reason: known.update({clip.id: reason})):
            store.consolidate(clips)
    return ends, known


def write_side_by_side(target: Path, clips: list[Clip]) -> list[str]:
    """Do the clips in three stores that take turns; return the ids of those that were done."""
    done: list[str] = []

    def ignore(clip: Clip, reason: str | None) -> None:
        pass

    stores = [opened(target) for _ in range(3)]
    offers = [store.offer(clips, ignore) for store in stores]
    while offers:
        for store, offer in list(zip(stores, offers, strict=False)):
            if (clip := next(offer, None)) is None:
                offers.remove(offer)
                stores.remove(store)
                if not store.finish(clips, ignore):
                    store.consolidate(clips)
                store.close()
            else:
                done.append(clip.id)
                treat(store, clip)
    return done


def write_beside_a_late_one(target: Path, clips: list[Clip]) -> dict[str, str | None]:
    """Do the clips in two stores while a third is at the first of them, and then look for more.

    The third has read no ledger of the others before one of them consolidates and removes it.

    Returns:
        The clips that the third then knows to be done, or why they failed.

    Raises:
        AssertionError: It would do one again.
    """
    known: dict[str, str | None] = {}

    def note(clip: Clip, reason: str | None) -> None:
        known[clip.id] = reason

    late = opened(target)
    offer = late.offer(clips, note)
    first = next(offer)
    for most in (4, None):
        write(target, clips, most=most)
    treat(late, first)
    late.flush()
    write(target, clips)
    again = [clip.id for clip in offer]
    assert not again, f"done twice: {again}"
    assert not late.finish(clips, note)
    late.consolidate(clips)
    late.close()
    return known


def whole_of(target: Path, clips: list[Clip]) -> Features:
    """Return the cache that one process makes."""
    with ShardStore(target, **MADE_WITH) as store:
        store.check_shape((3, 4), np.float32)
        for clip in clips:
            treat(store, clip)
        store.consolidate(clips)
    return load(target)
