"""What counts as right: the judge of pairs, and accuracies.

Columns, everywhere: one for each property, then one for all properties at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.levels import differs

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Accuracy:
    """Fractions right, NaN where nothing counts.

    Attributes:
        together: All questions of a round right at once.
        each: One fraction for each property that the game asks about.
    """

    together: float
    each: tuple[float, ...] = ()

    @classmethod
    def of(cls, right: NDArray[Any], asked: NDArray[Any]) -> Accuracy:
        """Return right over asked; the last of the columns (columns,) is `together`."""
        *each, together = _fractions(right, asked).tolist()
        return cls(together, tuple(each))

    @classmethod
    def of_each(cls, right: NDArray[Any], asked: NDArray[Any]) -> list[list[Accuracy]]:
        """Return right over asked, (S, n, columns) each: of each of S seeds n accuracies."""
        fractions = _fractions(right, asked).tolist()
        return [[cls(own[-1], tuple(own[:-1])) for own in of_seed] for of_seed in fractions]


def _fractions(right: NDArray[Any], asked: NDArray[Any]) -> Floats:
    nothing = np.full(np.shape(right), np.nan)
    return np.divide(right, asked, out=nothing, where=np.asarray(asked) > 0)


def beyond_margin(
    first: NDArray[Any], second: NDArray[Any], margins: Sequence[float]
) -> NDArray[np.bool_]:
    """Return whether two clips differ by more than the tie margin, beyond rounding: bool (..., P).

    Args:
        first: Labels of the first clips, (..., P).
        second: Labels of the second clips; the two are broadcast against each other.
        margins: One per property.
    """
    return differs(first, second, margins)


def judge_pairs(
    says_more: NDArray[Any] | bool, first: Floats, second: Floats, margins: Sequence[float]
) -> tuple[Bools, Bools]:
    """Judge answers to "has the first clip more of it than the second?".

    Args:
        says_more: bool (..., pairs, P); leading axes are receivers, or draws.
        first: Labels of the first clip of each pair, broadcast to (pairs, P); `pairs` may be
            several axes.
        second: Labels of the second clips, likewise.
        margins: Of each property; a pair whose values differ by no more does not count.

    Returns:
        Which answers are right, (..., pairs, P + 1), and which pairs count, (pairs, P + 1). A right
        answer to a pair that does not count is still True in the first.
    """
    asked = beyond_margin(first, second, margins)
    correct = np.asarray(says_more) == (first > second)
    return _with_all(correct), _with_all(asked)


def _with_all(values: Bools) -> Bools:
    return np.concatenate([values, values.all(-1, keepdims=True)], axis=-1)
