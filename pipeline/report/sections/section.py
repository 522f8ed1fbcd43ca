"""A section of a run's page: a module of this package with a `Section`, and its template."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data.discovery import find_records
from pipeline.dataset import RunInputs, is_grid
from pipeline.message import Lexicon, wording_for
from pipeline.report.summary import Headline, headline
from pipeline.report.thumbnails import Thumbnails
from pipeline.runs import Run, RunMetrics

FOLDER = Path(__file__).parent
"""Where the templates of the sections are."""


@dataclass(frozen=True)
class ReportContext:
    """Everything that a section may show of a run.

    Attributes:
        run: The run.
        lexicon: Of its symbols; None without symbols or labels.
        inputs: Its caches; None where they are missing.
        thumbnails: Of training clips.
        notes: Sentences about what the page lacks.
    """

    run: Run
    lexicon: Lexicon | None
    inputs: RunInputs | None
    thumbnails: Thumbnails
    notes: Sequence[str] = ()

    @cached_property
    def metrics(self) -> RunMetrics:
        """The content of `metrics.json`."""
        return self.run.metrics()

    @cached_property
    def headline(self) -> Headline:
        """The accuracy to believe."""
        return headline(self.metrics)

    @cached_property
    def properties(self) -> list[str]:
        """The properties of the run, in words."""
        return [wording_for(name).name for name in self.run.config.properties]

    @cached_property
    def cells(self) -> bool:
        """Whether the held-out clips are cells of a grid of properties."""
        split = self.run.config.split
        if split != "auto":
            return split.startswith("cells")
        rows = [list(line["labels"].values()) for line in self.run.messages()]
        labels = np.array([row for row in rows if None not in row], float)
        return len(labels) > 0 and is_grid(labels)


@dataclass(frozen=True, kw_only=True)
class Section:
    """One section of the page.

    Its template is the file with the name of the section and the ending `.html` in this folder. It
    sees the attributes of `ReportContext` and the variables of `build`.

    Attributes:
        name: Of the template, and of the link to the section.
        title: In the list of sections.
        order: Sections are shown in ascending order.
        build: Makes the variables of the template.
        heading: Above the section; "": its title.
    """

    name: str
    title: str
    order: int
    build: Callable[[ReportContext], Mapping[str, Any]] = field(default=lambda _: {})
    heading: str = ""


@cache
def discover_sections() -> tuple[Section, ...]:
    """Return the section of every module of this package, in the order of the page."""
    sections = find_records(__package__, Section).values()
    return tuple(sorted(sections, key=lambda section: (section.order, section.name)))
