"""A page with the curves of a training, written anew while it trains."""

from __future__ import annotations

import math
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from markupsafe import Markup

from data.errors import HeliographError
from data.files import atomic_write
from pipeline.console import format_duration, warn
from pipeline.report.charts import Curves, curves
from pipeline.report.report import FOLDER, page_head, template
from pipeline.training import Progress

EVERY_SECONDS = 3.0
MAX_POINTS = 200  # of a curve
MARK = "<!-- heliograph: a live page -->"


class LivePage:
    """Writes a page every few seconds, to be used in a `with` statement, as a training's callback.

    A browser that shows it loads it again every few seconds until the training ends. Where it
    cannot be written the training goes on without it.
    """

    def __init__(self, path: Path, title: str) -> None:
        """Prepare the page.

        Args:
            path: Of the page.
            title: What is trained.
        """
        self.path = path
        self._title = title
        self._part = ""
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._began = time.monotonic()
        self._written = -math.inf
        self._where = ""
        self._is_broken = False

    def __enter__(self) -> LivePage:
        """Write the page of a training that has just begun."""
        self._write("it begins", is_live=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the page a last time, with the reason where the training failed."""
        passed = format_duration(time.monotonic() - self._began)
        state = f"{'finished' if kind is None else 'stopped'} after {passed}"
        reason = f": {error}" if isinstance(error, HeliographError) else ""
        self._write(state + reason, is_live=False)

    def begin(self, part: str) -> None:
        """Start a part of the training: its curves are in charts of their own."""
        self._part = part

    def __call__(self, now: Progress) -> None:
        """Take in one epoch of a chunk of seeds, and write the page where it is time."""
        rows = self._rows.setdefault(self._part, [])
        rows.append({"seed": f"mean of {now.seeds}", "epoch": now.epoch, "loss": now.loss})
        rows += [
            {"seed": seed, "epoch": now.epoch, "accuracy": 100 * accuracy}
            for seed, accuracy in zip(now.seeds, now.validation, strict=True)
            if not math.isnan(accuracy)
        ]
        self._where = now.where or f"epoch {now.epoch} of {now.epochs}"
        if time.monotonic() - self._written >= EVERY_SECONDS:
            seeds = f"seeds {now.seeds[0]} to {now.seeds[-1]}"
            if len(now.seeds) == 1:
                seeds = f"seed {now.seeds[0]}"
            self._write(f"{seeds}, {self._where}", is_live=True)

    def charts(self) -> list[Curves]:
        """Return loss and validation accuracy over the epochs, of each part of the training."""
        found = []
        for part, rows in self._rows.items():
            epochs = sorted({row["epoch"] for row in rows})
            kept = set(epochs[:: -(-len(epochs) // MAX_POINTS)] + epochs[-1:])
            some = [row for row in rows if row["epoch"] in kept]
            name = f", {part}" if part else ""
            found += [
                curves(f"accuracy on validation clips, in percent{name}", some, "accuracy"),
                curves(f"loss, in nats{name}", some, "loss"),
            ]
        return [chart for chart in found if chart is not None]

    def _write(self, state: str, *, is_live: bool) -> None:
        if self._is_broken:
            return
        page = template("live.html").render(
            title=self._title,
            mark=Markup(MARK),
            style=Markup((FOLDER / "report.css").read_text()),
            state=state,
            seconds=math.ceil(EVERY_SECONDS) if is_live else None,
            charts=self.charts(),
        )
        try:
            atomic_write(self.path, page)
        except (HeliographError, OSError) as error:
            self._is_broken = True
            warn(f"the training goes on without its live page: {error}")
        self._written = time.monotonic()


def is_live_page(path: Path) -> bool:
    """Return whether a file is a page that a `LivePage` wrote."""
    return MARK.encode() in page_head(path)
