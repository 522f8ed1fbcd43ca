"""What an extraction did, and what people read about it: progress, failures, totals."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.errors import HeliographError, StoppedError
from data.wording import counted
from pipeline.console import ProgressBar, format_duration, log, some_clips, warn

# A number that stands alone, as `4,000` or `5.5`, and not in a name such as `BT.601`.
_NUMBER = re.compile(r"(?<![\w.])\d[\d,.]*\d|(?<![\w.])\d\b")
HOW_DECODED = "decoded whole, without random access"


@dataclass
class ExtractionSummary:
    """What an extraction has done so far.

    Attributes:
        target: the cache.
        clips: how many were asked for.
        done: clips whose features were computed.
        kept: clips whose features the cache had already.
        failed: id of a clip -> why it failed.
        frames: frames that passed through the backbone.
        seconds: since the start.
        waited_seconds: how long the backbone waited for frames.
        blocked_seconds: how long a decoder, on average, waited for the backbone.
        interrupted: whether Ctrl-C ended it.
        left_to_others: clips that other processes have to finish before the cache is written.
        label_changes: what the tables of the clips changed for clips that the cache had.
        unnamed: clips of the cache that the tables do not name, if there are tables.
        notes: sentences about what was changed in the table of the clips.
        conditions: what was noted about clips that were extracted -> their ids. A sentence in
            which only numbers differ from clip to clip is said once, with N in their place.
    """

    target: Path
    clips: int
    done: int = 0
    kept: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    frames: int = 0
    seconds: float = 0.0
    waited_seconds: float = 0.0
    blocked_seconds: float = 0.0
    interrupted: bool = False
    left_to_others: int = 0
    label_changes: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    conditions: dict[str, list[str]] = field(default_factory=dict)

    def add_note(self, clip: str, note: str) -> None:
        """Add what was noted about a clip, unless it only says how it was decoded."""
        if not note.startswith(HOW_DECODED):
            shape = _NUMBER.sub("N", note)
            said = next((one for one in self.conditions if _NUMBER.sub("N", one) == shape), note)
            if said != note:
                note = shape
                self.conditions = {
                    shape if one == said else one: ids for one, ids in self.conditions.items()
                }
            ids = self.conditions.setdefault(note, [])
            if clip not in ids[-1:]:
                ids.append(clip)

    @property
    def finished(self) -> int:
        """Clips that need no more work."""
        return self.done + self.kept + len(self.failed)

    @property
    def frames_per_second(self) -> float:
        """Frames through the backbone per second; 0 at the start."""
        return self.frames / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the pace of the clips that were worked on; None before the first."""
        worked_on = self.done + len(self.failed)
        if not worked_on:
            return None
        return self.seconds / worked_on * (self.clips - self.finished)

    @property
    def bottleneck(self) -> str | None:
        """The slower side, `decode` or `backbone`; None before the first clip."""
        if not self.done:
            return None
        return "decode" if self.waited_seconds > self.blocked_seconds else "backbone"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, with `frames_per_second` and `bottleneck`."""
        return {
            **vars(self),
            "target": str(self.target),
            "frames_per_second": self.frames_per_second,
            "bottleneck": self.bottleneck,
        }


def progress_callback(bar: ProgressBar) -> Callable[[ExtractionSummary], None]:
    """Return a function that shows the progress of an extraction on a bar."""

    def show(summary: ExtractionSummary) -> None:
        counts = {"done": summary.done, "failed": len(summary.failed), "kept": summary.kept}
        parts = [f"{count} {name}" for name, count in counts.items() if count or name != "kept"]
        parts.append(f"{summary.frames_per_second:.0f} frames/s")
        if summary.bottleneck:
            parts.append(f"bottleneck: {summary.bottleneck}")
        bar.update(
            summary.finished, summary.clips, ", ".join(parts), seconds_left=summary.seconds_left
        )

    return show


def print_failures(summary: ExtractionSummary) -> None:
    """Print the clips that failed, each with its reason, on stderr."""
    for clip, reason in summary.failed.items():
        warn(f"failed: {clip}: {reason}")


def print_summary(summary: ExtractionSummary) -> None:
    """Print the failures and the totals of an extraction on stderr."""
    print_failures(summary)
    for sentence in summary.label_changes:
        log(f"{summary.target}: {sentence}")
    if summary.unnamed:
        log(
            f"{summary.target}: {some_clips(summary.unnamed)} of before are not in the table and "
            "stay as they were; `heliograph cache label CACHE TABLE --prune` removes them"
        )
    for note in summary.notes:
        log(f"note: {note}")
    for condition, ids in summary.conditions.items():
        log(f"note: {some_clips(ids)}: {condition}")
    bottleneck = f", bottleneck: {summary.bottleneck}" if summary.bottleneck else ""
    log(
        f"{summary.target}: {counted(summary.done, 'clip')} extracted, {summary.kept} kept, "
        f"{len(summary.failed)} failed in {format_duration(summary.seconds)} "
        f"({summary.frames_per_second:.0f} frames/s{bottleneck})"
    )
    if summary.left_to_others and not summary.interrupted:
        left = counted(summary.left_to_others, "clip")
        log(
            f"{summary.target} is not written yet: {left} left to other processes, the last of "
            "which writes it; if they have ended, run the same command again"
        )


def require_clips(summary: ExtractionSummary) -> None:
    """Check that an extraction ended by itself, with at least one clip.

    Raises:
        StoppedError: it was interrupted.
        HeliographError: every clip failed.
    """
    if summary.interrupted:
        raise StoppedError(
            f"interrupted with {summary.finished} of {counted(summary.clips, 'clip')} finished: "
            "run the same command again to go on"
        )
    if summary.failed and not (summary.done or summary.kept or summary.left_to_others):
        raise HeliographError("no clip could be extracted")
