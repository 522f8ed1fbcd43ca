"""Positions on an axis, in percent of its length, for the plots of the report.

The page lays the plots out, so that their words keep their size on every screen; only positions are
computed here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.wording import counted

LOG_FROM = 20.0  # positive values that span such a ratio get a logarithmic axis

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, linear or logarithmic."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"no axis from {self.low} to {self.high}")

    @classmethod
    def of(cls, values: Sequence[float] | Floats) -> Axis:
        """Return an axis with room around all values; logarithmic where they span a wide range."""
        numbers = np.asarray(values, dtype=np.float64)
        low, high = float(numbers.min()), float(numbers.max())
        if low > 0 and high / low >= LOG_FROM:
            room = (high / low) ** 0.03
            return cls(low / room, high * room, True)
        room = 0.03 * (high - low) or max(abs(high), 1.0) * 0.1
        return cls(low - room, high + room)

    def at(self, value: float) -> float:
        """Return a position in percent of the axis; values beyond its ends are at the ends.

        >>> Axis(0, 200).at(50), Axis(1, 100, log=True).at(10), Axis(0, 1).at(7)
        (25.0, 50.0, 100.0)
        """
        here, low, high = (
            (math.log(max(one, self.low)) for one in (value, self.low, self.high))
            if self.log
            else (value, self.low, self.high)
        )
        return round(min(100.0, max(0.0, 100 * (here - low) / (high - low))), 2)

    def ticks(self, number: int = 5) -> list[tuple[float, str]]:
        """Return about `number` round values as (percent, text).

        >>> Axis(0, 1).ticks(3)
        [(0.0, '0'), (50.0, '0.5'), (100.0, '1')]
        >>> [text for _, text in Axis(7.7, 270, log=True).ticks()]
        ['10', '20', '50', '100', '200']
        """
        values = self._log_ticks(number) if self.log else self._linear_ticks(number)
        return [(self.at(value), f"{value:g}") for value in values]

    def _linear_ticks(self, number: int) -> list[float]:
        size = 10.0 ** math.floor(math.log10(self.high - self.low))
        choices = []
        for step in (size * share for share in (0.1, 0.2, 0.25, 0.5, 1, 2, 5)):
            first = math.ceil(self.low / step - 1e-9)
            last = math.floor(self.high / step + 1e-9)
            choices.append([place * step for place in range(first, last + 1)])
        enough = [values for values in choices if len(values) > 1]
        return min(enough, key=lambda values: abs(len(values) - number))

    def _log_ticks(self, number: int) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for steps in ((1, 2, 5), (1, 3), (1,)):
            values = [s * 10.0**decade for decade in decades for s in steps]
            inside = [value for value in values if self.low <= value <= self.high]
            if len(inside) <= number + 1:
                break
        return inside


@dataclass(frozen=True, kw_only=True)
class IntervalRow:
    """A mean with its interval, and other numbers as marks, on an axis.

    Attributes:
        label: What it is of.
        text: The number in words.
        mean: Its place, in percent of the axis.
        low: Lower end of the interval.
        high: Upper end.
        over: What the interval is over: "objects", "seeds", or "" where there is none.
        marks: Kind and place of other numbers.
        link: Where the label leads; "": nowhere.
        kind: "own", or "baseline" for what is in the background.
    """

    label: str
    text: str
    mean: float
    low: float
    high: float
    over: str
    marks: tuple[tuple[str, float], ...] = ()
    link: str = ""
    kind: str = "own"


@dataclass(frozen=True)
class IntervalPanel:
    """Means with intervals on one axis.

    Attributes:
        title: Of the panel.
        axis: Of all rows.
        rows: One below the other.
        kinds: The kinds of marks, and what each is.
    """

    title: str
    axis: Axis
    rows: tuple[IntervalRow, ...]
    kinds: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Curves:
    """Lines over epochs for every seed: SVG points in a box of 100 x 100, y downwards.

    Attributes:
        title: Of the chart.
        what: Is counted on the x axis.
        x: Its axis.
        y: The axis of the values.
        seeds: The line of each seed.
        mean: The line of their mean.
        summary: The last values in words, for readers who do not see the chart.
    """

    title: str
    what: str
    x: Axis
    y: Axis
    seeds: tuple[str, ...]
    mean: str
    summary: str


def curves(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    column: str,
    *,
    y: Axis | None = None,
    what: str = "epochs",
) -> Curves | None:
    """Return the values of one column over the column `epoch`; None for fewer than two epochs.

    Args:
        title: Of the chart.
        rows: With the columns `seed`, `epoch` and `column`.
        column: Its values are drawn; NaN is left out.
        y: Axis of the values; None: one that holds them all.
        what: Is counted in the column `epoch`.

    >>> rows = [{"seed": 0, "epoch": e, "loss": 1 / e} for e in (1, 2, 4)]
    >>> curves("loss", rows, "loss", y=Axis(0, 1)).mean
    '0,0 33.33,50 100,75'
    """
    known = [row for row in rows if not math.isnan(row.get(column, math.nan))]
    epochs = sorted({row["epoch"] for row in known})
    if len(epochs) < 2:
        return None
    x = Axis(epochs[0], epochs[-1])
    y = y or Axis.of([row[column] for row in known])
    lines: dict[Any, list[tuple[float, float]]] = {}
    for row in known:
        lines.setdefault(row["seed"], []).append((row["epoch"], row[column]))
    at_epoch = {e: np.mean([row[column] for row in known if row["epoch"] == e]) for e in epochs}
    ends = [points[-1][1] for points in lines.values()]
    summary = (
        f"{title} over {what} {epochs[0]:g} to {epochs[-1]:g}, {counted(len(lines), 'seed')}; at "
        f"the end {np.mean(ends):.3g} on average, from {min(ends):.3g} to {max(ends):.3g}."
    )
    drawn = tuple(_points(points, x, y) for points in lines.values())
    return Curves(title, what, x, y, drawn, _points(list(at_epoch.items()), x, y), summary)


def dots(x: Floats, y: Floats) -> str:
    """Return an SVG path that draws dots in a box of 100 x 100, y downwards given upwards.

    >>> dots(np.array([0.0, 12.345]), np.array([100.0, 50.0]))
    'M0 0h0M12.3 50h0'
    """
    return "".join(f"M{round(a, 1):g} {round(100 - b, 1):g}h0" for a, b in zip(x, y, strict=True))


def _points(points: Sequence[tuple[float, float]], x: Axis, y: Axis) -> str:
    return " ".join(f"{x.at(a):g},{round(100 - y.at(b), 2):g}" for a, b in points)
