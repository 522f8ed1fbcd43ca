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
only its content has, and a ledger has one writer. A claim only saves work that would be done twice.
That of a dead process of this host is void at once, that of another host once it was not renewed
for `CLAIM_SECONDS`.

Every process reads the ledgers of all, so that the last one to finish knows it, and writes
`spring.h5`; `consolidate_joined` does that where the processes died. What is in `spring.h5` then
leaves the folder. A clip that failed is not tried again until then.

Of a cache at an address all that is in an object store (`data.cache.shared_folder`).
"""

import hashlib
import json
import random
import re
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from data.cache.errors import CacheError, DamagedCacheError, joined_of, shards_of
from data.cache.features import IDENTITY_FIELDS
from data.cache.hdf5_reader import screen_all
from data.cache.ledger import (
    add_to_ledger,
    append_entries,
    ledger_entries,
    ledger_path,
    now,
    read_new_entries,
)
from data.cache.parts import PartFiles, finish_staging
from data.cache.rows import NewCache
from data.cache.shard_store import NOTE, ShardStore, read_note
from data.cache.shared_folder import shared_folder
from data.clips import Clip, window_of
from data.digests import DigestTable, digest_of
from data.files import (
    absolute,
    is_abandoned,
    make_folder,
    open_regular,
    path_of,
    process_name,
    remove_own_file,
    sweep_temporaries,
    version_of,
)
from data.lock import MOST_ATTEMPTS, BusyError, Lock
from data.remote import RemoteError
from data.windows import Window, Windows, video_of

CLAIM_SECONDS = 3600
"""After which a claim of another host that nobody renewed is void."""
RENEWAL_SECONDS = 60  # from one renewal of this process's claims to the next
CLAIMS = 256  # of a list of clips at least, so that its processes end at about one time
MOST_CLAIMED = 64  # clips of one claim
FEATURES = "features.json"  # shape, type, versions and windows of the first process
_CONSOLIDATION = "consolidation"
_SHARD = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class _Cut:
    """Into which windows a clip was cut, as some ledger says."""

    path: str
    times: tuple[float | None, float | None]
    source_sha256: str
    object: str
    windows: Sequence[Window]
    time: str

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "_Cut":
        return cls(
            path=str(entry["path"]),
            times=(entry.get("start"), entry.get("end")),
            source_sha256=str(entry["source_sha256"]),
            object=str(entry["object"]),
            windows=[Window(float(start), float(end)) for start, end in entry["windows"]],
            time=str(entry["time"]),
        )


@dataclass(frozen=True)
class _State:
    """What became of a clip, as some ledger says."""

    path: str
    times: tuple[float | None, float | None]
    key: int | None  # its digest; None: it failed
    reason: str = ""
    source_sha256: str | None = None
    mtime_ns: int | None = None
    time: str = ""

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "_State":
        is_done = entry["outcome"] != "failed" and "key" in entry
        return cls(
            path=str(entry.get("path")),
            times=(entry.get("start"), entry.get("end")),
            key=digest_of(str(entry["key"])) if is_done else None,
            reason=str(entry.get("reason", "")),
            source_sha256=entry.get("source_sha256"),
            mtime_ns=entry.get("mtime_ns"),
            time=str(entry.get("time", "")),
        )


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
    ) -> None:
        self._windows = windows
        self._cuts: dict[str, _Cut] = {}  # by the id of a clip that is cut
        self.writer = process_name()
        self._retries, self._began = retry_failed, now()
        self._states: dict[str, _State] = {}  # by clip id
        self._positions: dict[Path, int] = {}  # how far each ledger is read
        self._ledgers = 0  # that this process has filled
        self._told: set[str] = set()  # ids of clips that were offered, or are known to the caller
        self._claims: dict[Path, set[str]] = {}  # claim -> ids of its clips that are not done
        self._ended = threading.Event()
        self._shared = shared_folder(path_of(target))
        made = {"fingerprint": fingerprint, "sampler": sampler, "decoder": decoder}
        try:
            if self._reads_target:
                self._shared.fetch_target()
            super().__init__(self._shared.target, **made, versions=versions)
        except BaseException:
            self._shared.close()
            raise
        threading.Thread(target=self._renew_claims, name="claims", daemon=True).start()

    @property
    def output(self) -> Path:
        """The cache, as the user names it."""
        return self._shared.output

    def _folder(self) -> Path:
        return self._shared.path

    @property
    def _files_of_parts(self) -> PartFiles:
        return self._shared

    def _acquire(self) -> None:
        pass  # nobody holds it alone

    def _open_parts(self) -> None:
        sweep_temporaries(self.target.parent, of=self.target.name)
        self._refuse_other(joined_of(self.output), self._agreed(NOTE, self._identity))
        with suppress(CacheError):
            for entry in ledger_entries(self.target):
                self._read_earlier(entry)
        self.refresh()

    def _agreed(self, name: str, proposed: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the first process has written to a file of the folder: this, if it is us."""
        for _ in range(MOST_ATTEMPTS):
            self._shared.write_once(
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
            damaged = self._shared.named(self.parts / FEATURES)
            raise CacheError(f"{damaged} is damaged; remove it") from error
        super().check_shape(shape, dtype)

    def refresh(self) -> None:
        """Read what the other processes have written since; what they have done is not claimed."""
        with self._guard:
            read: set[str] = set()
            self._shared.update()
            for path in sorted((self.parts / "writers").glob("*.jsonl")):
                if path.name.startswith(self.writer):
                    continue
                with suppress(OSError):
                    known = self._positions.get(path, 0)
                    entries, self._positions[path] = read_new_entries(path, known)
                    for entry in entries:
                        self._read_entry(entry)
                    read.update(one["clip"] for one in entries if one["outcome"] != "cut")
            for clips in self._claims.values() if read else ():
                clips -= read
            self._release_done()

    def _read_entry(self, entry: Mapping[str, Any]) -> None:
        self.sources.read(entry)
        if entry["outcome"] == "cut":
            with suppress(KeyError, TypeError, ValueError):
                self._cuts[entry["clip"]] = _Cut.of(entry)
            return
        match entry:
            case {"key": str(key), "shard": str(shard), "row": int(row)}:
                if not _SHARD.fullmatch(shard):
                    return
                if shard in self._shards or self._shared.has(self._shard(shard)):
                    self._shards.add_row(shard, row, digest_of(key))
                elif digest_of(key) not in self._stored.keys:
                    return
        state = _State.of(entry)
        if entry["clip"] not in self._states or state.time >= self._states[entry["clip"]].time:
            self._states[entry["clip"]] = state

    def parts_of(self, clip: Clip) -> list[Clip]:
        """Return the windows of a clip as any process has cut it; the clip where none has."""
        cut = self._cuts.get(clip.id) if self._windows else None
        if cut is None or (cut.path, cut.times) != _where(clip):
            return [clip]
        source = self.sources.find(clip.path)
        if source.sha256 != cut.source_sha256 if source else version_of(clip.path) is not None:
            return [clip]  # the file is another one since
        return [window_of(clip, window, object=cut.object) for window in cut.windows]

    def cut(self, clip: Clip, source_sha256: str, parts: Sequence[Clip], **details: Any) -> None:
        """Note, for all processes, the windows into which a clip is cut."""
        with self._guard:
            super().cut(clip, source_sha256, parts)
            ids = {part.id for part in parts}
            self._told |= ids
            for clips in self._claims.values():
                if clip.id in clips:
                    clips |= ids
            windows = [[part.start, part.end] for part in parts]
            said = {**details, "source_sha256": source_sha256, "windows": windows}
            self._record(clip, "cut", object=parts[0].object if parts else clip.object, **said)

    def state_of(self, clip: Clip) -> _State | None:
        """Return what became of a clip; None if it is still to be done.

        What a process has done stays done for it, whatever becomes of the clip's file. A clip that
        is cut is done with its last window; where it failed later on, so have the windows left.
        """
        parts = self.parts_of(clip)
        if parts != [clip]:
            states = [self.state_of(part) for part in parts]
            return next((state for state in states if state is None), _State(*_where(clip), 0))
        state = self._state_of(clip)
        cut = self._cuts.get(video_of(clip.id)) if state is None and self._windows else None
        whole = self._states.get(video_of(clip.id)) if cut else None
        if cut and whole and whole.key is None and whole.time >= cut.time:
            again = self._retries and whole.time < self._began
            return None if again else replace(whole, times=(clip.start, clip.end))
        return state

    def _state_of(self, clip: Clip) -> _State | None:
        path, times = _where(clip)
        source, state = self.sources.find(clip.path), self._states.get(clip.id)
        keys = [self._keys.get(digest_of(clip.id))]
        if source:
            keys.append(digest_of(self.key(clip, source.sha256)))
        if state is not None and (state.path, state.times) == (path, times):
            if source is None and version_of(clip.path) is None:
                keys.append(state.key)  # the file is gone since
        else:
            state = None
        for key in keys:
            if key is not None and (key in self._stored.keys or self._shards.has(key)):
                return _State(path, times, key)
        if clip.id in self._failures:
            return state or _State(path, times, None, self._failures[clip.id])
        if state is None or state.key is not None or (self._retries and state.time < self._began):
            return None
        return state if source is not None or state.mtime_ns is None else None

    def offer(
        self, clips: Sequence[Clip], known: Callable[[Clip, str | None], None]
    ) -> Iterator[Clip]:
        """Yield clips that are to be done here, while no other process is at them.

        Args:
            clips: All of them, in their order.
            known: Called for each clip that is done or failed already, with the reason why.
        """
        self._publish_list(clips)
        size = max(1, min(MOST_CLAIMED, len(clips) // CLAIMS))
        groups = [clips[start : start + size] for start in range(0, len(clips), size)]
        first = random.randrange(len(groups)) if groups else 0
        todo, taken = groups[first:] + groups[:first], []
        for again in (False, True):
            for group in todo:
                left = self._left(group, again)
                claim = self.parts / "claims" / _hash([_plain(clip) for clip in group])
                if left and not self._claim(claim, {clip.id for clip in left}):
                    taken.append(group)
                    continue
                if left:
                    left = self._left(group, True)  # perhaps its last holder has just finished
                with self._guard:
                    if claim in self._claims:
                        self._claims[claim] &= {clip.id for clip in left}
                        self._release_done()
                self._tell([clip for clip in group if clip not in left], known)
                self._told.update(clip.id for clip in left)
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
        self._tell([clip for clip in clips if clip.id not in unknown], known)
        return left

    def _tell(self, clips: Iterable[Clip], known: Callable[[Clip, str | None], None]) -> None:
        for clip in [part for whole in clips for part in self.parts_of(whole)]:
            if clip.id not in self._told and (state := self.state_of(clip)):
                self._told.add(clip.id)
                known(clip, state.reason if state.key is None else None)

    def _left(self, group: Sequence[Clip], fresh: bool) -> list[Clip]:
        with self._guard:
            if fresh:
                self.refresh()
            return [clip for clip in group if self.state_of(clip) is None]

    def _claim(self, path: Path, clips: Collection[str]) -> bool:
        """Return whether these clips are ours now."""
        for _ in range(2):
            if self._shared.write_once(path, self.writer):
                with self._guard:
                    self._claims[path] = set(clips)
                return True
            if self._holder(path) is not None:
                return False
            self._shared.take_away(path)
        return False

    def _holder(self, path: Path) -> str | None:
        """Return who holds a claim; None if nobody does, or a process that is dead."""
        try:
            with open_regular(path) as file:
                holder = file.read(200).decode(errors="replace")
        except OSError:
            return None
        return None if is_abandoned(holder, path, CLAIM_SECONDS) else holder

    def _renew_claims(self) -> None:
        while not self._ended.wait(RENEWAL_SECONDS):
            for path in list(self._claims):
                self._shared.renew(path)

    def _release_done(self) -> None:
        """Release the claims whose clips are all in a ledger."""
        for path in [path for path, clips in self._claims.items() if not clips]:
            del self._claims[path]
            self._shared.remove(path)

    def _require_sound(self, name: str) -> bool:
        return True  # that a shard is damaged is found when it is consolidated

    def _append(self, entries: Sequence[dict[str, Any]]) -> None:
        if not (self.parts / NOTE).exists():  # another process took its last one for gone
            self._agreed(NOTE, self._identity)
        for name in dict.fromkeys(entry["shard"] for entry in entries if entry.get("shard")):
            self._shared.publish(self._shard(name))
        make_folder(self._ledger.parent)
        append_entries(self._ledger, entries, sync=True)
        self._shared.publish(self._ledger)
        most = self._shared.ledger_bytes
        if most is not None and self._ledger.stat().st_size > most:
            self._ledgers += 1
        for entry in entries:
            self._read_entry(entry)
            for clips in self._claims.values():
                clips.discard(entry["clip"])
        self._release_done()

    @property
    def _ledger(self) -> Path:
        number = f".{self._ledgers}" if self._ledgers else ""
        return self.parts / "writers" / f"{self.writer}{number}.jsonl"

    def _shard(self, name: str) -> Path:
        return self.parts / "shards" / name[:2] / f"{name}.h5"

    def _damaged(self, shard: Path) -> DamagedCacheError:
        """Remove a damaged shard, whose clips are then done again, and return what to say."""
        self._shared.remove(shard)
        return super()._damaged(self._shared.named(shard))

    def consolidate(self, clips: Sequence[Clip]) -> Path:
        """Write `target` as `ShardStore.consolidate` does, from the shards of all processes.

        Nothing is done where another process of these is at it.

        Raises:
            BusyError: A process that is none of these writes the same cache.
            CacheError, WriteError: As for `ShardStore.consolidate`.
        """
        claim = self.parts / "claims" / _CONSOLIDATION
        self.flush()
        if not self._claim(claim, {_CONSOLIDATION}):
            return self.target
        try:
            lock = Lock(shards_of(self.target) / "lock", self.target)
            try:
                self._consolidate(clips)
            finally:
                lock.release()
        finally:
            with self._guard:
                if claim in self._claims:
                    self._claims[claim].clear()
                self._release_done()
        return self.target

    def _consolidate(self, clips: Sequence[Clip]) -> None:
        finish_staging(self._staging, self.target)
        self._shared.fetch_target()
        self._read_target()
        self.refresh()
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
        keys = self._keys.values()
        keys = keys.take(np.flatnonzero(self._stored.keys.rows_of(keys) < 0))
        names = self._shards.names_of(keys)
        shards = [self._shard(name) for name in names]
        self._shared.fetch_shards(shards)
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
        self._merge_ledgers()

    def _write(self, new: NewCache) -> bool:
        changed = super()._write(new)
        self._shared.publish_target()
        return changed

    def _remove_shards(self, keys: DigestTable) -> None:
        for name in self._shards.forget_within(keys):
            self._shared.remove(self._shard(name))

    def _merge_ledgers(self) -> None:
        """Bring the ledgers of the processes into that of the cache, and remove them.

        One with clips that are in shards still stays: it says in which.
        """
        place, merged = ("shard", "row"), []

        def lines() -> Iterator[dict[str, Any]]:
            for path in sorted((self.parts / "writers").glob("*.jsonl")):
                entries: list[dict[str, Any]] = []
                with suppress(OSError):
                    entries, _ = read_new_entries(path, 0)
                keys = (digest_of(str(entry["key"])) for entry in entries if entry.get("key"))
                if not any(map(self._shards.has, keys)):
                    merged.append(path)
                    yield from ({k: v for k, v in one.items() if k not in place} for one in entries)

        add_to_ledger(self.target, lines())
        self._shared.publish_ledger()
        for path in merged:
            self._shared.remove(path)

    def close(self) -> None:
        """Release the claims; remove the folder if nothing is left in it that is not in `target`.

        What is not flushed is lost.
        """
        self._ended.set()
        super().close()
        with self._guard:
            for clips in self._claims.values():
                clips.clear()
            self._release_done()
            with suppress(RemoteError):
                if not self._shared.glob("writers/*.jsonl"):
                    self._remove_folder()
        self._shared.close()

    def _remove_folder(self) -> None:
        orphans = self._shared.glob("shards/*/*.h5")  # that no ledger names
        claims = self._shared.glob("claims/[0-9a-z]*")
        self._shared.fetch(claims)
        if any(map(self._holder, claims)) or self._shared.glob("writers/*.jsonl"):
            return
        lists = self._shared.glob("clips/*.jsonl")
        notes = self._shared.glob("*.json")  # the last one is the note
        for path in (*orphans, *claims, *lists, *notes):
            self._shared.remove(path)
        _remove_empty(self.parts)

    def _publish_list(self, clips: Sequence[Clip]) -> None:
        """Write down the clips, for whoever consolidates where every process has died."""
        text = "".join(json.dumps(_plain(clip)) + "\n" for clip in clips)
        self._shared.write_once(self.parts / "clips" / f"{_hash(text)}.jsonl", text)


@dataclass(frozen=True)
class Consolidation:
    """What `consolidate_joined` found of the clips that were to be extracted."""

    clips: int
    failed: int
    unfinished: int


def consolidate_joined(target: Path) -> Consolidation:
    """Write a cache, perhaps at an address, from what processes that died have extracted for it.

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
    versions = features.get("versions")
    with JoinedStore(target, **made, versions=versions, windows=windows) as store:
        shared = store._shared
        claims, lists = shared.glob("claims/[0-9a-z]*"), shared.glob("clips/*.jsonl")
        shared.fetch([*claims, *lists])
        for claim in claims:
            if holder := store._holder(claim):
                host, process, *_ = holder.split("-")
                raise BusyError(
                    f"{target} is being extracted by process {process} of host {host}; if that is "
                    f"dead, remove {shared.named(claim)}"
                )
        clips: dict[str, Clip] = {}
        lists.sort(key=lambda path: path.stat().st_mtime)
        for path in lists:
            own = [part for clip in _read_list(path) for part in store.parts_of(clip)]
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
        _remove_empty(shared.path)  # as a process leaves it that is killed after all else
        if shards_of(shared.target).is_dir():
            Lock(shards_of(shared.target) / "lock", target).release()
        shared.fetch_target()
        written = f", and {target} is already written" if shared.target.exists() else ""
    finally:
        shared.close()
    raise CacheError(f"{target}: nothing to consolidate: there is no {joined_of(target)}{written}")


def _remove_empty(folder: Path) -> None:
    """Remove the folder to which processes have written, where nothing is left in it."""
    own = [folder / name for name in ("shards", "writers", "claims", "clips")]
    for each in (*folder.glob("shards/*"), *own, folder):
        sweep_temporaries(each)
        with suppress(OSError):
            each.rmdir()


def _read_list(path: Path) -> list[Clip]:
    try:
        with open_regular(path) as file:
            lines = [json.loads(line) for line in file]
        return [Clip(**{**line, "path": Path(line["path"])}) for line in lines]
    except (ValueError, TypeError, KeyError) as error:
        raise CacheError(f"{path} is damaged; remove it") from error


def _where(clip: Clip) -> tuple[str, tuple[float | None, float | None]]:
    return absolute(clip.path), (clip.start, clip.end)


def _rule(windows: Mapping[str, float] | None) -> str:
    if windows is None:
        return "nothing into windows"
    return f"windows with --every {windows['every']:g} --span {windows['span']:g}"


def _plain(clip: Clip) -> dict[str, Any]:
    return asdict(clip) | {"path": absolute(clip.path)}


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]
