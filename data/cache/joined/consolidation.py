"""The consolidation of a cache that several processes have extracted, where they died."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.cache.errors import CacheError, joined_of, shards_of
from data.cache.features import IDENTITY_FIELDS
from data.cache.joined.clip_lists import read_list
from data.cache.joined.shared_folder import shared_folder
from data.cache.joined.store import FEATURES, JoinedStore
from data.cache.parts import exists
from data.cache.shard_store import NOTE, read_note
from data.clips import Clip
from data.lock import BusyError, Lock
from data.windows import Windows


@dataclass(frozen=True)
class Consolidation:
    """What `consolidate_joined` found of the clips that were to be extracted."""

    clips: int
    failed: int
    unfinished: int


def consolidate_joined(target: Path, part_bytes: int | None = None) -> Consolidation:
    """Write a cache, perhaps at an address, from what processes that died have extracted for it.

    Args:
        target: The cache.
        part_bytes: Features and thumbnails of a file of it at most, as for `extract`.

    Raises:
        CacheError: There is nothing of that kind, or it is damaged.
        BusyError: A process is still at it.
        InvalidValueError, RemoteError: As for `JoinedStore`.
    """
    features, note = _read_notes(target)
    folder = joined_of(target)
    try:
        made = {name: note[name] for name in IDENTITY_FIELDS}
    except KeyError as error:
        raise CacheError(f"{folder / NOTE} is damaged: extract with --join once more") from error
    windows = Windows(**features["windows"]) if features.get("windows") else None
    made |= {"versions": features.get("versions"), "part_bytes": part_bytes}
    with JoinedStore(target, **made, windows=windows) as store:
        shared = store.shared
        claims, lists = shared.glob("claims/[0-9a-z]*"), shared.glob("clips/*.jsonl")
        shared.fetch([*claims, *lists])
        for claim in claims:
            if holder := store.claims.holder(claim):
                host, process, *_ = holder.split("-")
                raise BusyError(
                    f"{target} is being extracted by process {process} of host {host}; if that is "
                    f"dead, remove {shared.named(claim)}"
                )
        clips: dict[str, Clip] = {}
        lists.sort(key=lambda path: path.stat().st_mtime)
        for path in lists:
            own = [part for clip in read_list(path) for part in store.parts_of(clip)]
            store.consolidate(own)
            clips |= {clip.id: clip for clip in own}
        done = set(store.clip_ids)
        if not lists and not done:
            raise CacheError(f"{folder} names no clips: extract them with --join once more")
        failed = {clip for clip in clips if clip in store.failures and clip not in done}
        return Consolidation(
            clips=len(done), failed=len(failed), unfinished=len(set(clips) - done - failed)
        )


def _read_notes(target: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the folder says of features, perhaps nothing, and how its shards were made."""
    shared = shared_folder(target)
    features, note = (shared.path / name for name in (FEATURES, NOTE))
    try:
        shared.fetch([features, note])
        if note.is_file():
            return read_note(features) if features.is_file() else {}, read_note(note)
        shared.remove_empty()  # as a process leaves it that is killed after all else
        if shards_of(shared.target).is_dir():
            Lock(shards_of(shared.target) / "lock", target).release()
        shared.fetch_target()
        if not shared.target.exists():
            written = ""
        elif exists(shared.target):
            written = f", and {target} is already written"
        else:
            written = f", and {target} is no output of `heliograph extract --join`"
    finally:
        shared.close()
    raise CacheError(f"{target}: nothing to consolidate: there is no {joined_of(target)}{written}")
