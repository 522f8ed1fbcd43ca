"""The record of a metric. Records are found in the modules of this package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from data.discovery import find_records


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric of messages and properties, and what its readers must know about it.

    A module of `pipeline.metrics` that has a record as a global variable adds the metric to
    `METRICS`. `heliograph evaluate`, `metrics.json`, the tables, the report and `docs/metrics.md`
    show whatever is in `METRICS`.

    Attributes:
        name: The key in `METRICS` and in `metrics.json`.
        title: The name in tables and in the report.
        function: `function(tokens, attributes)` for tokens (N, P) and attributes (N, A), a float.
            A vectorised one takes leading axes and the keyword `weights` too, as
            `pipeline.metrics.information` describes.
        definition: The formula in plain text.
        chance: What messages give that have nothing to do with the properties.
        source: Paper, equation, code.
        undefined: When the value is NaN, null in `metrics.json`.
        range: The smallest and the largest possible value.
        better: Whether a "larger" or a "smaller" value speaks for the code. P-values ask how often
            chance is at least as good.
        lies: What misleads it, in a sentence or two; "" where nothing is known.
        liked: The code of `pipeline.metrics.example_codes` that shows what it is for; "": none.
        fooled: The code there that it should not like, and does; "": none.
        properties: The number of properties that the metric needs.
        structural: Whether it asks how messages are built. Only such a metric gets a codebook null
            and a verdict.
        per_position: Whether it is a table, one value for each position and property. Tables are
            for other code to use; `evaluate` reports the metrics that are one number.
        vectorised: Whether `function` takes leading axes and weights.
        bootstrap: A faster way to get the values of bootstrap draws:
            `bootstrap(tokens, attributes, objects=..., draws=...)`.
        recode: A faster way to get the values of codebook draws:
            `recode(words, word_of_clip, attributes, draws=...)`.
    """

    name: str
    title: str
    function: Callable[..., Any]
    definition: str
    chance: str
    source: str
    undefined: str = "never"
    range: tuple[float, float] = (0.0, 1.0)
    better: Literal["larger", "smaller"] = "larger"
    lies: str = ""
    liked: str = ""
    fooled: str = ""
    properties: int = 1
    structural: bool = False
    per_position: bool = False
    vectorised: bool = False
    bootstrap: Callable[..., Any] | None = None
    recode: Callable[..., Any] | None = None

    def __repr__(self) -> str:
        """Return the name."""
        return f"Metric({self.name})"

    @property
    def sign(self) -> int:
        """1 where larger is better, -1 where smaller is."""
        return 1 if self.better == "larger" else -1

    def __call__(self, tokens: ArrayLike, attributes: ArrayLike, **weights: ArrayLike) -> Any:
        """Return the value for tokens (N, P), or the values (...) for leading axes (...)."""
        if self.vectorised:
            return self.function(tokens, attributes, **weights)
        messages, bins = np.asarray(tokens), np.asarray(attributes)
        if bins.ndim == 1:
            bins = bins[:, None]
        axes = np.broadcast_shapes(messages.shape[:-2], bins.shape[:-2])
        if not axes:
            return self.function(messages, bins)
        messages = np.broadcast_to(messages, (*axes, *messages.shape[-2:]))
        bins = np.broadcast_to(bins, (*axes, *bins.shape[-2:]))
        values = [self.function(messages[index], bins[index]) for index in np.ndindex(axes)]
        return np.reshape(values, axes)


def discover_metrics() -> dict[str, Metric]:
    """Return the records in the modules of this package, by name.

    Raises:
        ValueError: Two records have the same name.
    """
    return find_records(__package__, Metric)


@cache
def known_metrics() -> dict[str, Metric]:
    """Return `METRICS`: the records of this package, found once."""
    return discover_metrics()


def record_of(metric: Metric | Callable[..., Any]) -> Metric | None:
    """Return the record of a metric or of its function, None for any other function."""
    if isinstance(metric, Metric):
        return metric
    return next((own for own in known_metrics().values() if own.function is metric), None)
