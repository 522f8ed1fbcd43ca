"""Claims: which of several processes is at some clips.

A claim is a file with the name of its process in a folder that all of them see. It only saves work
that would be done twice. That of a dead process of this host is void at once, that of another host
once it was not renewed for `CLAIM_SECONDS`.
"""

import threading
from collections.abc import Collection, Iterable
from pathlib import Path

from data.cache.joined.shared_folder import SharedFolder
from data.files import is_abandoned, open_regular

CLAIM_SECONDS = 3600
"""After which a claim of another host that nobody renewed is void."""
RENEWAL_SECONDS = 60  # from one renewal of this process's claims to the next


class Claims:
    """The claims of one process, each with the ids of its clips that are not done; thread-safe.

    Args:
        shared: Where they are.
        writer: The name of the process.
    """

    def __init__(self, shared: SharedFolder, writer: str) -> None:
        self._shared, self._writer = shared, writer
        self._guard = threading.RLock()
        self._held: dict[Path, set[str]] = {}
        self._ended = threading.Event()

    def start(self) -> None:
        """Renew them from now on, until `stop`."""
        threading.Thread(target=self._renew, name="claims", daemon=True).start()

    def stop(self) -> None:
        """Renew them no more."""
        self._ended.set()

    def _renew(self) -> None:
        while not self._ended.wait(RENEWAL_SECONDS):
            for path in list(self._held):
                self._shared.renew(path)

    def take(self, path: Path, clip_ids: Collection[str]) -> bool:
        """Return whether these clips are ours now."""
        for _ in range(2):
            if self._shared.write_once(path, self._writer):
                with self._guard:
                    self._held[path] = set(clip_ids)
                return True
            if self.holder(path) is not None:
                return False
            self._shared.take_away(path)
        return False

    def holder(self, path: Path) -> str | None:
        """Return who holds a claim; None if nobody does, or a process that is dead."""
        try:
            with open_regular(path) as file:
                holder = file.read(200).decode(errors="replace")
        except OSError:
            return None
        return None if is_abandoned(holder, path, CLAIM_SECONDS) else holder

    def keep(self, path: Path, clip_ids: Collection[str]) -> None:
        """Have a claim, if it is held, for these of its clips alone."""
        with self._guard:
            if path in self._held:
                self._held[path] &= set(clip_ids)
                self.release_done()

    def extend(self, clip_id: str, clip_ids: Iterable[str]) -> None:
        """Have the claim of a clip for more clips."""
        with self._guard:
            for clips in self._held.values():
                if clip_id in clips:
                    clips.update(clip_ids)

    def note_done(self, clip_id: str) -> None:
        """Note that a clip is in a ledger."""
        with self._guard:
            for clips in self._held.values():
                clips.discard(clip_id)

    def release_done(self) -> None:
        """Release the claims whose clips are all in a ledger."""
        with self._guard:
            for path in [path for path, clips in self._held.items() if not clips]:
                del self._held[path]
                self._shared.remove(path)

    def release(self) -> None:
        """Release all of them."""
        with self._guard:
            for clips in self._held.values():
                clips.clear()
            self.release_done()
