"""The record of a re-test: what is done to a finished run to see whether a claim holds for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from data.cache import Features
from pipeline.dataset import build_examples
from pipeline.evaluation.context import MessageContext
from pipeline.runs import Run, load_inputs

Table = tuple[list[str], list[list[str]]]
"""Names of columns, and rows of cells."""


@dataclass(frozen=True, kw_only=True)
class RetestInputs:
    """What a re-test reads.

    Attributes:
        run: A finished run.
        others: Caches of the same clips that its agents do not see, by name.
        moved: Where the caches of the run are now, by name, as for `pipeline.runs.load_inputs`.
        options: Of the re-test.
    """

    run: Run
    others: Mapping[str, Path] = field(default_factory=dict)
    moved: Mapping[str, Path] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def caches(self) -> tuple[Features, ...]:
        """The clips of the run's caches, with every label."""
        return load_inputs(self.run, self.moved or None).caches

    @property
    def clips(self) -> Features:
        """The clips of its first cache."""
        return self.caches[0]

    @cached_property
    def messages(self) -> MessageContext:
        """Its messages and receivers."""
        return MessageContext.of(self.run, build_examples(self.caches, self.run.config.properties))


@dataclass(frozen=True, kw_only=True)
class Retest:
    """One way to re-test a claim. A module of `pipeline.evaluation.claims` that has one adds it.

    Attributes:
        name: As recipes call it.
        compute: Returns what was measured, as JSON values.
        sentence: Says of that in a sentence what the claim is about.
        table: Shows all of it.
        options: Those that a recipe may give, whole numbers, and the least of each.
        has_newcomer: Whether it needs a cache that the run's agents do not see.
        has_other_run: Whether it may be given another run.
    """

    name: str
    compute: Callable[[RetestInputs], dict[str, Any]]
    sentence: Callable[[dict[str, Any]], str]
    table: Callable[[dict[str, Any]], Table]
    options: Mapping[str, int] = field(default_factory=dict)
    has_newcomer: bool = False
    has_other_run: bool = False

    def mistakes(
        self, options: Mapping[str, Any], *, newcomer: bool, other_run: bool
    ) -> Iterator[str]:
        """Yield sentences about what it is given and does not take, or needs and is not given.

        Args:
            options: Of a recipe.
            newcomer: Whether a recipe says what a newcomer sees.
            other_run: Whether it names another run.
        """
        if self.has_newcomer != newcomer:
            yield f"the re-test {self.name} {'needs' if self.has_newcomer else 'has no'} sees"
        if other_run and not self.has_other_run:
            yield f"the re-test {self.name} has no other"
        for name, value in options.items():
            least = self.options.get(name)
            if least is None:
                known = ", ".join(self.options) or "none"
                yield f"the re-test {self.name} has no option {name!r}: there are {known}"
            elif type(value) is not int or value < least:
                yield f"{name} is a whole number of at least {least}, not {value!r}"


def share_text(entry: Mapping[str, Any]) -> str:
    """Return a share and its interval in percent.

    >>> share_text({"mean": 0.721, "interval": [0.70, 0.743]})
    '72.1 % [70.0, 74.3]'
    """
    return f"{100 * entry['mean']:z.1f} %{_interval(entry)}"


def points_text(entry: Mapping[str, Any]) -> str:
    """Return a difference of shares and its interval in points.

    >>> points_text({"mean": -0.051, "interval": [-0.07, -0.032]})
    '-5.1 points [-7.0, -3.2]'
    >>> points_text({"mean": -1e-17})
    '+0.0 points'
    """
    return f"{100 * entry['mean']:+z.1f} points{_interval(entry)}"


def cell(entry: Mapping[str, Any]) -> str:
    """Return a share and its interval as a cell of a table, in percent.

    >>> cell({"mean": 0.721, "interval": [None, None]})
    '72.1'
    >>> cell({"mean": -1e-17, "interval": [-0.0001, 0.2]})
    '0.0 [0.0, 20.0]'
    """
    return f"{100 * entry['mean']:z.1f}{_interval(entry)}"


def _interval(entry: Mapping[str, Any]) -> str:
    low, high = entry.get("interval") or (None, None)
    if low is None or high is None or low != low or high != high:
        return ""
    return f" [{100 * low:z.1f}, {100 * high:z.1f}]"
