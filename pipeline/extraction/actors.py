"""Extraction by actors, on the nodes of a Ray cluster or for each device, as their driver sees it.

Each actor is an `Extractor`, with a backbone and decoders of its own, where it stays (`Hosts`). The
driver takes clips from the store, which it shares with its actors, and hands them out a few at a
time: what an actor had that is lost, and is in no shard, goes to another one. Frames and features
never pass through the driver. A node that joins gets actors, too, and so does one that lost them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

from data.cache import JoinedStore
from data.clips import Clip
from data.errors import HeliographError
from data.files import Address, absolute, path_of
from data.wording import counted
from pipeline.cluster import Room
from pipeline.console import log
from pipeline.extraction.extractor import ClipOutcome, ExtractorSettings, Report
from pipeline.extraction.hosts import ActorLostError, Hosts
from pipeline.extraction.stages import ExtractionJournal

GPU_BATCH = 32  # clips in one pass of a GPU, where that is not known
AHEAD_SECONDS = 2  # of work that an actor has waiting
POLL_SECONDS = 0.2
SCAN_SECONDS = 5  # from one look at the nodes to the next
REFRESH_SECONDS = 20  # from one look at the ledgers of the actors to the next
PATIENCE_SECONDS = 30  # after which it is said that the cluster has no room
STOP_SECONDS = 120  # for actors to finish what they are at
MOST_LOSSES = 5  # of actors that were at one clip, or one after the other before any clip was done


@dataclass
class _Actor:
    """An actor, and what it was handed that may be in no shard yet."""

    handle: Any
    room: Room
    call: Any  # what it is asked now; None: nothing, as it has ended
    stage: str = "load"  # then begin, work, last (it has the last clips), ended
    clips: dict[str, Clip] = field(default_factory=dict)
    counted: dict[str, ClipOutcome] = field(default_factory=dict)
    waiting: int = 0  # clips that it has not begun
    pace: float = 0.0  # clips a second
    asked: float = 0.0
    waited_seconds: float = 0.0
    blocked_seconds: float = 0.0

    @property
    def is_at_work(self) -> bool:
        return self.stage in ("begin", "work", "last")


class Actors:
    """The actors of one extraction; use it in a `with` block, which ends them."""

    def __init__(self, hosts: Hosts, settings: ExtractorSettings) -> None:
        """Start nothing yet."""
        self._hosts, self._settings = hosts, settings
        self._actors: list[_Actor] = []
        self._scanned = 0.0
        self._again: list[Clip] = []  # clips that were lost
        self._losses: Counter[str] = Counter()  # of actors, by the clips that they were at
        self._losses_in_a_row = 0
        self._seconds = [0.0, 0.0]  # waited and blocked, of actors that are gone

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the actors."""
        for actor in self._actors:
            self._hosts.end(actor.handle)

    def describe(self) -> tuple[dict[str, Any], tuple[int, int]]:
        """Start the actors; return what the first that is ready says of itself.

        Raises:
            HeliographError: there is no room for an actor, or the backbone cannot be had.
        """
        began, said = time.monotonic(), False
        while True:
            self._scan()
            for actor in self._ready():
                described = self._answer(actor)
                if described is not None:
                    actor.call = None  # `run` lets it begin
                    return described
            if not said and time.monotonic() - began > PATIENCE_SECONDS:
                said = True
                actors = counted(len(self._actors), "actor")
                log(f"waiting for {self._hosts.name} to start {actors}")

    def run(self, store: JoinedStore, clips: Sequence[Clip], journal: ExtractionJournal) -> None:
        """Extract clips, until all are done or failed; after Ctrl-C those that are begun.

        Raises:
            HeliographError: an actor had to end, or actors die again and again.
        """
        self._store, self._journal = store, journal
        self._offered = store.offer(clips, journal.note_known)
        self._next = next(self._offered, None)
        seen = [store.parts / "store.json"] * (not isinstance(store.output, Address))
        seen += [clip.path for clip in [*clips[:1], *clips[-1:]]]
        self._seen = [path.absolute() for path in seen if path.exists()]
        refreshed = time.monotonic()
        try:
            while self._is_work_left():
                self._scan()
                for actor in self._ready():
                    self._receive(actor)
                for actor in [actor for actor in self._actors if actor.call is None]:
                    self._ask(actor)
                if time.monotonic() - refreshed > REFRESH_SECONDS:
                    store.refresh()
                    refreshed = time.monotonic()
                self._report()
        except KeyboardInterrupt:
            journal.summary.interrupted = True
            self._stop()
        except Exception:
            self._stop()
            raise
        store.refresh()

    def _stop(self) -> None:
        """Let the actors finish what they are at, and write it."""
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            working = [actor for actor in self._actors if actor.is_at_work]
            if not working:
                return
            for actor in working:
                if actor.call is None:
                    actor.call = self._hosts.ask(actor.handle, "exchange", [], stop=True)
            for actor in self._ready():
                with suppress(HeliographError):
                    self._receive(actor)
            self._report()

    def _report(self) -> None:
        summary = self._journal.summary
        waited, blocked = self._seconds
        summary.waited_seconds = waited + sum(actor.waited_seconds for actor in self._actors)
        summary.blocked_seconds = blocked + sum(actor.blocked_seconds for actor in self._actors)
        self._journal.report()

    # Actors and nodes

    def _scan(self) -> None:
        """Start an actor in each room of a node that has none.

        Raises:
            HeliographError: there is no room at the start.
        """
        if self._scanned and time.monotonic() - self._scanned < SCAN_SECONDS:
            return
        self._scanned = time.monotonic()
        taken = Counter(actor.room for actor in self._actors)
        for room in self._hosts.rooms():
            if taken[room]:
                taken[room] -= 1
                continue
            handle = self._hosts.start(room)
            self._actors.append(_Actor(handle, room, self._hosts.ask(handle, "describe")))

    def _ready(self) -> Iterator[_Actor]:
        """Yield the actors that have answered, after a moment at most."""
        calls = {actor.call: actor for actor in self._actors if actor.call is not None}
        if not calls:  # no node has room now
            time.sleep(POLL_SECONDS)
            return
        yield from (calls[call] for call in self._hosts.answered(list(calls), POLL_SECONDS))

    def _answer(self, actor: _Actor) -> Any:
        """Return what an actor answers; None if it is lost."""
        try:
            return self._hosts.answer(actor.call)
        except ActorLostError as error:
            self._lose(actor, error)
            return None
        except Exception:
            actor.call, actor.stage = None, "ended"
            raise

    def _lose(self, actor: _Actor, error: Exception) -> None:
        """Let others do the clips of an actor that are in no shard.

        Raises:
            HeliographError: actors have died too often.
        """
        self._hosts.end(actor.handle)
        self._actors.remove(actor)
        self._seconds[0] += actor.waited_seconds
        self._seconds[1] += actor.blocked_seconds
        self._losses_in_a_row += 1
        reason = str(error).strip().partition("\n")[0]
        if self._losses_in_a_row > MOST_LOSSES * (1 + len(self._actors)):
            raise HeliographError(
                f"the actors on {actor.room.host} end before they have done a clip: {reason}; "
                f"{self._hosts.remedy}"
            )
        if not actor.clips:
            return
        self._store.refresh()
        lost = []
        for clip in actor.clips.values():
            state, outcome = self._store.state_of(clip), actor.counted.get(clip.id)
            if state is None:
                lost.append(clip)
                if outcome is not None:
                    self._journal.uncount(clip.id)
                    self._journal.summary.frames -= outcome.frames
            elif outcome is None:
                kind = "failed" if state.key is None else "done"
                self._count(ClipOutcome(clip.id, kind, state.reason, state.source_sha256 or ""))
        self._again += lost
        self._losses.update(clip.id for clip in lost)
        self._journal.summary.notes.append(
            f"an actor on {actor.room.host} was lost: {counted(len(lost), 'clip')} handed out again"
        )
        for clip_id, count in self._losses.most_common(1):
            if count >= MOST_LOSSES:
                raise HeliographError(f"{count} actors have died at {clip_id}: {reason}")

    # Clips

    def _is_work_left(self) -> bool:
        return self._is_more_to_hand_out or any(actor.is_at_work for actor in self._actors)

    @property
    def _is_more_to_hand_out(self) -> bool:
        return bool(self._again) or self._next is not None

    def _take(self, count: int) -> list[Clip]:
        """Return the next clips, so many at most."""
        taken: list[Clip] = []
        while len(taken) < count:
            if self._again:
                taken.append(self._again.pop())
            elif self._next is not None:
                taken.append(self._next)
                self._next = next(self._offered, None)
            else:
                break
        return taken

    def _ask(self, actor: _Actor) -> None:
        """Ask an actor for the next thing, unless it has ended and nothing is left to do."""
        actor.asked = time.monotonic()
        if actor.stage in ("load", "ended") and self._is_more_to_hand_out:
            actor.stage = "begin"
            target = path_of(absolute(self._store.output))
            actor.call = self._hosts.ask(actor.handle, "begin", target, self._seen)
        elif actor.stage in ("begin", "work"):
            clips = self._take(self._share(actor))
            actor.clips |= {clip.id: clip for clip in clips}
            sent = [replace(clip, path=path_of(absolute(clip.path))) for clip in clips]
            actor.stage = "work" if self._is_more_to_hand_out else "last"
            last = actor.stage == "last"
            actor.call = self._hosts.ask(actor.handle, "exchange", sent, last=last)
        elif actor.stage == "last":
            actor.call = self._hosts.ask(actor.handle, "exchange", [])

    def _share(self, actor: _Actor) -> int:
        """Return how many clips an actor is to get now: few at the end, so that all end at once."""
        summary = self._journal.summary
        ahead = 2 * actor.room.whole_cores + (self._settings.batch or GPU_BATCH) * bool(
            actor.room.gpus
        )
        wanted = max(ahead, round(actor.pace * AHEAD_SECONDS)) - actor.waiting
        at = sum(len(one.clips) - len(one.counted) for one in self._actors)
        share = (summary.clips - summary.finished - at) // (2 * len(self._actors))
        return max(0 if actor.waiting else 1, min(wanted, share))

    def _receive(self, actor: _Actor) -> None:
        answer = self._answer(actor)
        actor.call = None
        if not isinstance(answer, Report):  # it is loaded, or has begun, or is lost
            return
        seconds = time.monotonic() - actor.asked
        actor.pace += (len(answer.outcomes) / seconds - actor.pace) / 4
        actor.waiting = answer.waiting
        actor.waited_seconds, actor.blocked_seconds = answer.waited_seconds, answer.blocked_seconds
        for outcome in answer.outcomes:
            if outcome.clip in actor.clips and outcome.clip not in actor.counted:
                actor.counted[outcome.clip] = outcome
                self._count(outcome)
                self._losses_in_a_row = 0
        if answer.ended:
            actor.stage = "ended"
            actor.clips.clear()
            actor.counted.clear()

    def _count(self, outcome: ClipOutcome) -> None:
        match outcome.outcome:
            case "done":
                self._journal.note_done(
                    outcome.clip, outcome.source_sha256, outcome.frames, outcome.notes
                )
            case "kept":
                self._journal.note_kept(outcome.clip, outcome.source_sha256)
            case _:
                self._journal.summary.failed[outcome.clip] = outcome.reason
