"""The folder of shards to which several processes write at once, on one machine or on many.

While they extract clips for `spring.h5`, these are next to it:

    spring.h5.joined/store.json          as in a folder of shards
    spring.h5.joined/features.json       the shape of the features, the versions of packages, and
                                         how clips are cut into windows
    spring.h5.joined/clips/<hash>.jsonl  the clips that are extracted, in their order
    spring.h5.joined/shards/3f/<hash>.h5 a batch of clips, under the hash of its content
    spring.h5.joined/writers/<writer>.jsonl
                                         the ledger of one process: what became of each clip, in
                                         which row of which shard its features are, and into which
                                         windows a clip was cut
    spring.h5.joined/claims/<hash>       held by the process that is at some clips

No process waits for another, and nothing needs a lock: a shard appears by rename, under a name that
only its content has, and a ledger has one writer. A claim (`data.cache.joined.claims`) only saves
work that would be done twice.

Every process reads the ledgers of all, so that the last one to finish knows it, and writes
`spring.h5`; `data.cache.joined.consolidation` does that where the processes died. What is in
`spring.h5` then leaves the folder; a process that is still at work reads it there. A clip that
failed is tried again by those that begin afterwards.

Of a cache at an address all that is in an object store (`data.cache.joined.shared_folder`).
"""

import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from data.cache.errors import CacheError, DamagedCacheError, joined_of, shards_of
from data.cache.hdf5_reader import screen_all
from data.cache.joined.claims import Claims
from data.cache.joined.clip_lists import name_of_claim, publish_list
from data.cache.joined.shared_folder import shared_folder
from data.cache.joined.states import ClipStates, Cut, State, stretch_of_clip
from data.cache.joined.writer_ledgers import WriterLedgers
from data.cache.ledger import ledger_entries, ledger_path, now, warn_of_damage
from data.cache.parts import PartFiles, finish_staging
from data.cache.rows import NewCache
from data.cache.shard_store import NOTE, ShardStore, read_note
from data.cache.stored_clips import version_of_cache
from data.clips import Clip, window_of
from data.digests import DigestTable, digest_of
from data.files import (
    Version,
    path_of,
    process_name,
    remove_own_file,
    sweep_temporaries,
    version_of,
)
from data.lock import MOST_ATTEMPTS, Lock
from data.remote import RemoteError
from data.windows import Windows, video_of

CLAIMS = 256  # of a list of clips at least, so that its processes end at about one time
MOST_CLAIMED = 64  # clips of one claim
FEATURES = "features.json"  # shape, type, versions and windows of the first process
_CONSOLIDATION = "consolidation"
_SHARD = re.compile(r"[0-9a-f]{64}")


class JoinedStore(ShardStore):
    """Collector of the features of clips that several processes share; use it in a `with` block.

    `offer` gives the clips that nobody is at, and `add` and `fail` take what became of them: the
    others know it once its batch is written, or `flush` was called. `finish` says which clips are
    left.

    Args:
        target: The cache to write, which may be at an address; what it holds already is kept.
        fingerprint: What all features of the cache share, with `sampler` and `decoder`.
        sampler: How frames are chosen.
        decoder: What decodes them.
        versions: Versions of packages to record, with those of the packages that write.
        retry_failed: Whether clips that failed before now are done again.
        windows: How every clip that is offered is cut into clips; None: it is not.
        part_bytes: As for `ShardStore`, where this process writes `target`.

    Attributes:
        shared: The folder, and what the other processes see of it.
        claims: Those of this process.

    Raises:
        CacheError: As for `ShardStore`, and where other processes write features made otherwise.
        InvalidValueError: Several processes cannot write to the address.
        RemoteError: What is at the address cannot be had.
        UnsafeFileError, WriteError: As for `ShardStore`.
    """

    _reads_target = True

    def __init__(
        self,
        target: Path | str,
        *,
        fingerprint: Mapping[str, Any],
        sampler: Mapping[str, Any],
        decoder: Mapping[str, Any],
        versions: Mapping[str, str] | None = None,
        retry_failed: bool = False,
        windows: Windows | None = None,
        part_bytes: int | None = None,
    ) -> None:
        self._windows = windows
        self._cuts: dict[str, Cut] = {}  # by the id of a clip that is cut
        self.writer = process_name()
        self._retries, self._began = retry_failed, now()
        self._states = ClipStates()
        self._ledger_version: Version | None = None  # of the cache's, as it was read
        # Digests of the ids of clips that were offered, or are known to the caller.
        self._told = DigestTable([("told", "?")])
        self.shared = shared_folder(path_of(target))
        self.claims = Claims(self.shared, self.writer)
        self._ledgers = WriterLedgers(self.shared, self.writer)
        made = {"fingerprint": fingerprint, "sampler": sampler, "decoder": decoder}
        try:
            if self._reads_target:
                self.shared.fetch_target()
            super().__init__(self.shared.target, **made, versions=versions, part_bytes=part_bytes)
        except BaseException:
            self.shared.close()
            raise
        self.claims.start()

    @property
    def output(self) -> Path:
        """The cache, as the user names it."""
        return self.shared.output

    def _folder(self) -> Path:
        return self.shared.path

    @property
    def _files_of_parts(self) -> PartFiles:
        return self.shared

    def _acquire(self) -> None:
        pass  # nobody holds it alone

    def _open_parts(self) -> None:
        sweep_temporaries(self.target.parent, of=self.target.name)
        self._refuse_other(joined_of(self.output), self._agreed(NOTE, self._identity))
        if damage := self._read_ledger_of_cache():
            warn_of_damage(damage)
        self.refresh()

    def _agreed(self, name: str, proposed: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the first process has written to a file of the folder: this, if it is us."""
        for _ in range(MOST_ATTEMPTS):
            self.shared.write_once(
                self.parts / name, json.dumps(proposed, indent=1, sort_keys=True)
            )
            with suppress(FileNotFoundError):  # another one has just removed the folder
                return read_note(self.parts / name)
        raise CacheError(f"{joined_of(self.output) / name} vanishes again and again")

    def check_shape(self, shape: tuple[int, int], dtype: DTypeLike) -> None:
        """Raise `CacheError` if features (T, D) do not fit the cache, or what the others write."""
        super().check_shape(shape, dtype)
        windows = asdict(self._windows) if self._windows else None
        made = {"shape": list(shape), "dtype": str(np.dtype(dtype)), "versions": self._versions}
        said = self._agreed(FEATURES, {**made, "windows": windows})
        if said.get("windows") != windows:
            raise CacheError(
                f"{self.output}: the processes that it is joined by cut {_rule(said['windows'])}, "
                f"and this one {_rule(windows)}; choose another output"
            )
        try:
            self._shape = tuple(said["shape"]), np.dtype(said["dtype"])
        except (KeyError, TypeError) as error:
            damaged = self.shared.named(self.parts / FEATURES)
            raise CacheError(f"{damaged} is damaged; remove it") from error
        super().check_shape(shape, dtype)

    def refresh(self) -> None:
        """Read what the other processes have written since; what they have done is not claimed.

        That is in the cache and its ledger once one of them has consolidated it.
        """
        with self._guard:
            self._read_ledgers()
            if self._reads_target and self._read_consolidated():
                self._ledgers.read_again()
                self._read_ledgers()
            self.claims.release_done()

    def _read_ledgers(self) -> None:
        for entry in self._ledgers.news():
            self._note_entry(entry)

    def _read_consolidated(self) -> bool:
        """Read the cache and its ledger if they have changed; return whether they have.

        Its ledger has what is in the other ones before these are removed: they are read first.
        """
        self.shared.update_target()
        ledger = version_of(ledger_path(self.target))
        changed = ledger != self._ledger_version
        while (version := version_of_cache(self.target)) != self._stored.version:
            changed = True
            try:
                self._read_target()
            except CacheError:
                if version == version_of_cache(self.target):
                    raise
        if ledger != self._ledger_version:
            self._read_ledger_of_cache()
        return changed

    def _read_ledger_of_cache(self) -> str:
        """Read the ledger of the cache up to damage in it; return that in a sentence, or ""."""
        self._ledger_version = version_of(ledger_path(self.target))
        try:
            for entry in ledger_entries(self.target):
                self._read_earlier(entry)
                if str(entry.get("time", "")) >= self._began and entry["outcome"] != "removed":
                    self._note_entry(entry)
        except CacheError as error:
            return str(error)
        return ""

    def _note_entry(self, entry: Mapping[str, Any]) -> None:
        self._read_entry(entry)
        if entry["outcome"] != "cut":
            self.claims.note_done(entry["clip"])

    def _read_entry(self, entry: Mapping[str, Any]) -> None:
        self.sources.read(entry)
        if entry["outcome"] == "cut":
            with suppress(KeyError, TypeError, ValueError):
                self._cuts[entry["clip"]] = Cut.of(entry)
            return
        match entry:
            case {"key": str(key), "shard": str(shard), "row": int(row)}:
                if not _SHARD.fullmatch(shard):
                    return
                if shard in self._shards or self.shared.has(self._shard(shard)):
                    self._shards.add_row(shard, row, digest_of(key))
                elif digest_of(key) not in self._stored.keys:
                    return
        self._states.note(entry["clip"], State.of(entry))

    def parts_of(self, clip: Clip) -> list[Clip]:
        """Return the windows of a clip as any process has cut it; the clip where none has."""
        cut = self._cuts.get(clip.id) if self._windows else None
        if cut is None or cut.stretch != stretch_of_clip(clip):
            return [clip]
        source = self.sources.find(clip.path)
        if source.sha256 != cut.source_sha256 if source else version_of(clip.path) is not None:
            return [clip]  # the file is another one since
        return [window_of(clip, window, object=cut.object) for window in cut.windows]

    def cut(self, clip: Clip, source_sha256: str, parts: Sequence[Clip], **details: Any) -> None:
        """Note, for all processes, the windows into which a clip is cut."""
        with self._guard:
            super().cut(clip, source_sha256, parts)
            self._note_told(parts)
            self.claims.extend(clip.id, [part.id for part in parts])
            windows = [[part.start, part.end] for part in parts]
            said = {**details, "source_sha256": source_sha256, "windows": windows}
            self._record(clip, "cut", object=parts[0].object if parts else clip.object, **said)

    def state_of(self, clip: Clip) -> State | None:
        """Return what became of a clip; None if it is still to be done.

        What a process has done stays done for it, whatever becomes of the clip's file. A clip that
        is cut is done with its last window; where it failed later on, so have the windows left.
        """
        parts = self.parts_of(clip)
        if parts != [clip]:
            states = [self.state_of(part) for part in parts]
            done = State(stretch_of_clip(clip), 0)
            return next((state for state in states if state is None), done)
        state = self._state_of(clip)
        cut = self._cuts.get(video_of(clip.id)) if state is None and self._windows else None
        whole = self._states.failure(video_of(clip.id)) if cut else None
        if cut and whole and whole.time >= cut.time:
            again = self._retries and whole.time < self._began
            return None if again else replace(whole, stretch=stretch_of_clip(clip))
        return state

    def _state_of(self, clip: Clip) -> State | None:
        stretch, source = stretch_of_clip(clip), self.sources.find(clip.path)
        keys = [self._keys.get(digest_of(clip.id))]
        if source:
            keys.append(digest_of(self.key(clip, source.sha256)))
        elif version_of(clip.path) is None:
            keys.append(self._states.key(clip.id, stretch))  # the file is gone since
        for key in keys:
            if key is not None and (key in self._stored.keys or self._shards.has(key)):
                return State(stretch, key)
        failed = self._states.failure(clip.id)
        if failed is not None and failed.stretch != stretch:
            failed = None
        if clip.id in self._failures:
            return failed or State(stretch, None, self._failures[clip.id])
        if failed is None or (self._retries and failed.time < self._began):
            return None
        return failed if source is not None or failed.mtime_ns is None else None

    def offer(
        self, clips: Sequence[Clip], known: Callable[[Clip, str | None], None]
    ) -> Iterator[Clip]:
        """Yield clips that are to be done here, while no other process is at them.

        Args:
            clips: All of them, in their order.
            known: Called for each clip that is done or failed already, with the reason why.
        """
        publish_list(self.shared, clips)
        size = max(1, min(MOST_CLAIMED, len(clips) // CLAIMS))
        starts = list(range(0, len(clips), size))
        first = random.randrange(len(starts)) if starts else 0
        todo, taken = starts[first:] + starts[:first], []
        for again in (False, True):
            for start in todo:
                group = clips[start : start + size]
                left = self._left(group, again)
                claim = self.parts / "claims" / name_of_claim(group)
                if left and not self.claims.take(claim, {clip.id for clip in left}):
                    taken.append(start)
                    continue
                if left:
                    left = self._left(group, True)  # perhaps its last holder has just finished
                self.claims.keep(claim, {clip.id for clip in left})
                self._tell([clip for clip in group if clip not in left], known)
                self._note_told(left)
                yield from left
            todo, taken = taken, []

    def finish(
        self, clips: Sequence[Clip], known: Callable[[Clip, str | None], None]
    ) -> list[Clip]:
        """Return the clips that are neither done nor failed, as all processes know it now.

        What was added is flushed first; `known` is called as by `offer`.
        """
        self.flush()
        left = self._left(clips, True)
        unknown = {clip.id for clip in left}
        self._tell((clip for clip in clips if clip.id not in unknown), known)
        return left

    def _tell(self, clips: Iterable[Clip], known: Callable[[Clip, str | None], None]) -> None:
        for clip in (part for whole in clips for part in self.parts_of(whole)):
            if digest_of(clip.id) not in self._told and (state := self.state_of(clip)):
                self._note_told([clip])
                known(clip, state.reason if state.key is None else None)

    def _note_told(self, clips: Iterable[Clip]) -> None:
        with self._guard:
            for clip in clips:
                self._told[digest_of(clip.id)] = (True,)

    def _left(self, group: Sequence[Clip], fresh: bool) -> list[Clip]:
        with self._guard:
            if fresh:
                self.refresh()
            return [clip for clip in group if self.state_of(clip) is None]

    def _require_sound(self, name: str) -> bool:
        return True  # that a shard is damaged is found when it is consolidated

    def _append(self, entries: Sequence[dict[str, Any]]) -> None:
        if not (self.parts / NOTE).exists():  # another process took its last one for gone
            self._agreed(NOTE, self._identity)
        for name in dict.fromkeys(entry["shard"] for entry in entries if entry.get("shard")):
            self.shared.publish(self._shard(name))
        self._ledgers.append(entries)
        for entry in entries:
            self._read_entry(entry)
            self.claims.note_done(entry["clip"])
        self.claims.release_done()

    def _shard(self, name: str) -> Path:
        return self.parts / "shards" / name[:2] / f"{name}.h5"

    def _damaged(self, shard: Path) -> DamagedCacheError:
        """Remove a damaged shard, whose clips are then done again, and return what to say."""
        self.shared.remove(shard)
        return super()._damaged(self.shared.named(shard))

    def consolidate(self, clips: Sequence[Clip]) -> Path:
        """Write `target` as `ShardStore.consolidate` does, from the shards of all processes.

        Nothing is done where another process of these is at it.

        Raises:
            BusyError: A process that is none of these writes the same cache.
            CacheError, WriteError: As for `ShardStore.consolidate`.
        """
        claim = self.parts / "claims" / _CONSOLIDATION
        self.flush()
        if not self.claims.take(claim, {_CONSOLIDATION}):
            return self.target
        try:
            lock = Lock(shards_of(self.target) / "lock", self.target)
            try:
                self._consolidate(clips)
            finally:
                lock.release()
        finally:
            self.claims.keep(claim, ())
        return self.target

    def _consolidate(self, clips: Sequence[Clip]) -> None:
        finish_staging(self._staging, self.target)
        self.shared.fetch_target()
        self._read_target()
        self.refresh()
        if self._windows and self._cuts:
            clips = [part for clip in clips for part in self.parts_of(clip)]
        for video, cut in self._cuts.items():
            self._videos.setdefault(video, cut.source_sha256)
        for clip in clips:
            state = self.state_of(clip)
            if state is not None and state.key is not None:
                self._keys[digest_of(clip.id)] = state.key
                self._failures.pop(clip.id, None)
            elif state is not None:
                self._note_failure(clip.id, state.reason, state.source_sha256)
        stored = self._stored.keys
        names = self._shards.names_of(
            keys.take(stored.rows_of(keys) < 0) for keys in self._keys.values()
        )
        shards = [self._shard(name) for name in names]
        self.shared.fetch_shards(shards)
        screen_all(shards)
        existed = len(self._stored) > 0
        try:
            super().consolidate(clips)
        except DamagedCacheError as error:
            for name in names:
                if str(self._shard(name)) in str(error):
                    raise self._damaged(self._shard(name)) from error
            raise
        if not existed:
            remove_own_file(ledger_path(self.target))
        with self._guard:
            self._read_ledgers()  # what was done meanwhile is in no cache yet
        self._ledgers.merge(self.target, self._shards.has)

    def _write(self, new: NewCache, clips: Sequence[Clip]) -> bool:
        changed = super()._write(new, clips)
        self.shared.publish_target()
        return changed

    def _remove_shards(self, keys: DigestTable) -> None:
        for name in self._shards.forget_within(keys):
            self.shared.remove(self._shard(name))

    def close(self) -> None:
        """Release the claims; remove the folder if nothing is left in it that is not in `target`.

        What is not flushed is lost.
        """
        self.claims.stop()
        super().close()
        with self._guard:
            self.claims.release()
            with suppress(RemoteError):
                self.shared.remove_if_done(self.claims.holder)
        self.shared.close()


def _rule(windows: Mapping[str, float] | None) -> str:
    if windows is None:
        return "nothing into windows"
    return f"windows with --every {windows['every']:g} --span {windows['span']:g}"
