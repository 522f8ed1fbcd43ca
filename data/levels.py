"""Which values of a label are one level: those that are equal but for rounding."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

TOLERANCE = 1e-6
"""Values that differ by no more than this share of the smaller one's size are one level."""
_ZERO = 1e-14
"""A size that is no more than this share of the others' is rounding left of a zero."""
_SINGLE = 2.0**-23
"""What float32 rounds a number by at most, as a share of it."""


def snapped(values: ArrayLike, tolerance: float = TOLERANCE) -> Floats:
    """Return values with those of one level made the same: the lowest of them.

    A level is the lowest value that is in no other one yet, and all that are larger by no more than
    `tolerance` times its size. So no level is wider than that, however many values are near each
    other. Around zero, where sizes vanish, 1e-14 of the upper quartile of all sizes counts as
    equal: what float64 leaves of a difference that should be nothing. Values that are not near any
    other stay as they are, to the bit.

    Args:
        values: Of one label; NaN is unknown and stays NaN.
        tolerance: The share.

    Returns:
        float64 of the same shape.

    >>> snapped([0.1 + 0.2, 0.3, 0.30001]).tolist()
    [0.3, 0.3, 0.30001]
    >>> snapped([1.0, 0.7 - 0.6 - 0.1, 0.0, float("nan")]).tolist()
    [1.0, -2.7755575615628914e-17, -2.7755575615628914e-17, nan]
    """
    array = np.asarray(values, dtype=np.float64)
    lowest, inverse = _levels(array, tolerance)
    values_of_levels = lowest[inverse].reshape(array.shape)
    return np.where(values_of_levels == array, array, values_of_levels)  # 0.0 and -0.0 stay


def levels(values: ArrayLike, tolerance: float = TOLERANCE) -> NDArray[np.int64]:
    """Return the number of each value's level, from the lowest up; -1 where a value is NaN.

    See `snapped` for what a level is.

    >>> levels([0.3, 0.1 + 0.2, float("nan"), 0.1]).tolist()
    [1, 1, -1, 0]
    """
    array = np.asarray(values, dtype=np.float64)
    lowest, inverse = _levels(array, tolerance)
    return np.where(np.isnan(lowest[inverse]), -1, inverse).reshape(array.shape).astype(np.int64)


def _levels(array: Floats, tolerance: float) -> tuple[Floats, NDArray[Any]]:
    """Return the lowest value of each level in order, NaN last, and the level of each value."""
    distinct, inverse = np.unique(array, return_inverse=True)
    inverse = inverse.reshape(-1)
    known = distinct[np.isfinite(distinct)]
    if len(known) < 2:
        return distinct, inverse
    sizes = np.abs(array[np.isfinite(array) & (array != 0)])
    with np.errstate(over="ignore"):
        widths = np.maximum(tolerance * np.abs(known), _ZERO * np.quantile(sizes, 0.75))
        stops = np.searchsorted(known, known + widths, side="right").tolist()
    first = int(np.searchsorted(distinct, known[0]))  # after minus infinity
    is_lowest = np.ones(len(distinct), dtype=bool)
    start = 0
    while start < len(known):
        is_lowest[first + start + 1 : first + stops[start]] = False
        start = stops[start]
    return distinct[is_lowest], (np.cumsum(is_lowest) - 1)[inverse]


def differs(first: ArrayLike, second: ArrayLike, margin: ArrayLike = 0.0) -> NDArray[np.bool_]:
    """Return whether values differ by more than a margin, beyond rounding; False for NaN.

    Of a margin above 0 a millionth, and what float32 rounds the values by, are rounding. Without a
    margin values are compared as they are: see `snapped`.

    Args:
        first: Values, broadcast against the others.
        second: Values.
        margin: At least 0.

    >>> differs([26.6, 1.1, 0.8], [26.0, 0.6, 0.3], 0.5).tolist()
    [True, False, False]
    """
    one, two, limit = (np.asarray(each, dtype=np.float64) for each in (first, second, margin))
    rounding = TOLERANCE * limit + _SINGLE * np.maximum(np.abs(one), np.abs(two))
    return np.abs(one - two) > np.where(limit > 0, limit + rounding, limit)


def merged_values(values: ArrayLike) -> int:
    """Return how many distinct known values are in a level with a lower one.

    >>> merged_values([0.1 + 0.2, 0.3, 0.3, 0.5])
    1
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    return len(np.unique(known)) - len(np.unique(snapped(known)))
