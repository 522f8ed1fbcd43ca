"""What people are told of an extraction: its progress, its failures and sum, its exit code."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from data.errors import HeliographError
from pipeline.console import Bar, duration, log

if TYPE_CHECKING:
    from pipeline.extraction.stages import Summary


def on(bar: Bar) -> Callable[[Summary], None]:
    """What shows the progress of an extraction on a bar."""

    def progress(summary: Summary) -> None:
        counts = {"done": summary.done, "failed": len(summary.failed), "kept": summary.kept}
        parts = [f"{count} {name}" for name, count in counts.items() if count or name != "kept"]
        parts.append(f"{summary.frames_per_second:.0f} frames/s")
        if summary.bottleneck:
            parts.append(f"bottleneck: {summary.bottleneck}")
        bar.update(
            summary.finished, summary.clips, ", ".join(parts), seconds_left=summary.seconds_left
        )

    return progress


def say(summary: Summary) -> None:
    """The failures and the sum of an extraction, on stderr."""
    for clip, reason in summary.failed.items():
        log(f"failed: {clip}: {reason}")
    limited = f", bottleneck: {summary.bottleneck}" if summary.bottleneck else ""
    log(
        f"{summary.target}: {summary.done} clips extracted, {summary.kept} kept, "
        f"{len(summary.failed)} failed in {duration(summary.seconds)} "
        f"({summary.frames_per_second:.0f} frames/s{limited})"
    )


def require_clips(summary: Summary) -> None:
    """Raise HeliographError for an extraction that was interrupted or extracted no clip."""
    if summary.interrupted:
        raise HeliographError(
            f"interrupted with {summary.finished} of {summary.clips} clips finished: "
            "run the same command again to go on"
        )
    if summary.failed and not (summary.done or summary.kept):
        raise HeliographError("no clip could be extracted")
