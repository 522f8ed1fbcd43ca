"""What became of the clips that several processes extract, as their ledgers say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data.clips import Clip
from data.digests import DigestTable, digest_of
from data.files import absolute
from data.windows import Window

Stretch = tuple[str, tuple[float | None, float | None]]
"""Which seconds of which file a clip is."""
# Of a clip that is done: a digest of its stretch, that of its key in two halves, and the time.
_DONE = [("stretch", "u8"), ("high", "u8"), ("low", "u8"), ("time", "S32")]


def stretch_of_clip(clip: Clip) -> Stretch:
    """Return which seconds of which file a clip is."""
    return absolute(clip.path), (clip.start, clip.end)


@dataclass(frozen=True)
class Cut:
    """Into which windows a clip was cut, as some ledger says."""

    stretch: Stretch
    source_sha256: str
    object: str
    windows: Sequence[Window]
    time: str

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Cut":
        """Return what an entry of a ledger says.

        Raises:
            KeyError, TypeError, ValueError: It is damaged.
        """
        return cls(
            stretch=(str(entry["path"]), (entry.get("start"), entry.get("end"))),
            source_sha256=str(entry["source_sha256"]),
            object=str(entry["object"]),
            windows=[Window(float(start), float(end)) for start, end in entry["windows"]],
            time=str(entry["time"]),
        )


@dataclass(frozen=True)
class State:
    """What became of a clip, as some ledger says."""

    stretch: Stretch
    key: int | None  # its digest; None: it failed
    reason: str = ""
    source_sha256: str | None = None
    mtime_ns: int | None = None
    time: str = ""

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "State":
        """Return what an entry of a ledger says."""
        is_done = entry["outcome"] != "failed" and "key" in entry
        return cls(
            stretch=(str(entry.get("path")), (entry.get("start"), entry.get("end"))),
            key=digest_of(str(entry["key"])) if is_done else None,
            reason=str(entry.get("reason", "")),
            source_sha256=entry.get("source_sha256"),
            mtime_ns=entry.get("mtime_ns"),
            time=str(entry.get("time", "")),
        )


class ClipStates:
    """The last that became of each clip; one that is done takes 72 bytes of a file.

    One thread at a time may change it, while others look clips up.
    """

    def __init__(self) -> None:
        self._failed: dict[str, State] = {}  # by clip id
        self._done = DigestTable(_DONE)  # by the digest of the id; older than a failure of the clip

    def note(self, clip_id: str, state: State) -> None:
        """Note what became of a clip, unless something later is known."""
        failed, own = self._failed.get(clip_id), digest_of(clip_id)
        done = None if failed else self._done.get(own)
        known = failed.time if failed else done[3].decode() if done else ""
        if state.time < known:
            return
        if state.key is None:
            self._failed[clip_id] = state
        else:
            key = divmod(state.key, 1 << 64)
            self._done[own] = _digest_of_stretch(state.stretch), *key, state.time.encode()
            self._failed.pop(clip_id, None)

    def failure(self, clip_id: str) -> State | None:
        """Return how a clip failed that was not done since."""
        return self._failed.get(clip_id)

    def key(self, clip_id: str, stretch: Stretch) -> int | None:
        """Return the digest of the key of a clip that is done, and was this stretch then."""
        done = None if clip_id in self._failed else self._done.get(digest_of(clip_id))
        if done is None or done[0] != _digest_of_stretch(stretch):
            return None
        return done[1] << 64 | done[2]


def _digest_of_stretch(stretch: Stretch) -> int:
    return digest_of(repr(stretch)) >> 64
