"""Numbers as values of options: what is wrong with another value is said in plain words."""

from __future__ import annotations

import math
import re
from typing import Any

import click


class WholeNumber(click.IntRange):
    """A whole number between bounds, which count.

    >>> WholeNumber(2).wanted, WholeNumber(10, 99).wanted
    ('a whole number of at least 2', 'a whole number from 10 to 99')
    """

    @property
    def wanted(self) -> str:
        """What the option takes."""
        return f"a whole number{_bounds(self)}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{_shown(value)} is not {self.wanted}", param, ctx)


class Part(click.ParamType):
    """One of several parts, counted from 1: `2/8`.

    >>> Part.numbers("2/8")
    (2, 8)
    """

    name = "i/n"

    @staticmethod
    def numbers(text: str) -> tuple[int, int]:
        """Return which part, and of how many."""
        number, _, count = text.partition("/")
        return int(number), int(count)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text if it names a part; otherwise a usage error."""
        text = str(value)
        if not re.fullmatch(r"[0-9]{1,9}/[0-9]{1,9}", text):
            self.fail(f"{_shown(value)} is not a part such as 2/8, the second of eight", param, ctx)
        number, count = self.numbers(text)
        if not 1 <= number <= count:
            last = f", the last {count}/{count}" if count > 1 else ""
            self.fail(f"there is no part {text}: the first is 1/{count or 1}{last}", param, ctx)
        return text


class RealNumber(click.FloatRange):
    """A number between bounds; infinity is one, NaN is none.

    >>> RealNumber(0, min_open=True).wanted, RealNumber(0.5).wanted, RealNumber().wanted
    ('a number above 0', 'a number of at least 0.5', 'a number')
    >>> RealNumber(0, 60, min_open=True).wanted
    'a number above 0 and at most 60'
    """

    kind = "number"

    @property
    def wanted(self) -> str:
        """What the option takes."""
        return f"a {self.kind}{_bounds(self)}"

    def is_one(self, number: float) -> bool:
        """Return whether a number that keeps the bounds is of this kind."""
        return not math.isnan(number)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        try:
            number = super().convert(value, param, ctx)
        except click.BadParameter:
            number = math.nan
        if not self.is_one(number):
            self.fail(f"{_shown(value)} is not {self.wanted}", param, ctx)
        return number


class FiniteNumber(RealNumber):
    """A number between bounds; infinity and NaN are none."""

    kind = "finite number"

    def is_one(self, number: float) -> bool:
        """Return whether a number that keeps the bounds is of this kind."""
        return math.isfinite(number)


def _bounds(kind: click.IntRange | click.FloatRange) -> str:
    """Return the bounds of a number in words, after a space; nothing without bounds."""
    if kind.min is not None and kind.max is not None:
        if kind.min_open:
            return f" above {kind.min:g} and at most {kind.max:g}"
        return f" from {kind.min} to {kind.max}"
    if kind.min is not None:
        return f" above {kind.min:g}" if kind.min_open else f" of at least {kind.min:g}"
    if kind.max is not None:
        return f" below {kind.max:g}" if kind.max_open else f" of at most {kind.max:g}"
    return ""


def _shown(value: Any) -> str:
    return str(value) if str(value).strip() else repr(value)
