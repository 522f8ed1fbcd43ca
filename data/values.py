"""Values that look as if they were no measurements: sentinels, and two units in one column."""

import bisect
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

SENTINELS = (
    *(-1.0, -9.0, -99.0, -999.0, -9999.0, -99999.0, -999999.0),
    *(99.0, 999.0, 9999.0, 99999.0, 999999.0),
    *(-32768.0, 32767.0, 65535.0, -2147483648.0, 2147483647.0),
)
"""Numbers that other programs write for "unknown"."""

_GAP = 10.0  # times, from the greatest value of the lower group to the least of the upper one
_THOUSAND = (200.0, 5000.0)  # between the medians of two groups of the same things in two units


@dataclass(frozen=True)
class Suspicion:
    """Values of a label that are probably not what was measured.

    `value` stands in `count` clips: the sentinel, or of two groups the least value of the smaller
    group. `low` and `high` are the range of these values, `rest_low` and `rest_high` of all others,
    which are `rest_count`.
    """

    kind: Literal["sentinel", "mixed units"]
    value: float
    count: int
    low: float
    high: float
    rest_low: float
    rest_high: float
    rest_count: int

    def sentence(self, name: str) -> str:
        """Return what is odd about the label `name`, and the way out."""
        rest = _range(self.rest_low, self.rest_high)
        if self.kind == "sentinel":
            return (
                f"{name} is {self.value:g} in {_clips(self.count)} and {rest} in the other "
                f"{self.rest_count}: if that means unknown, leave the cell empty"
            )
        times = "more" if self.low > self.rest_high else "less"
        return (
            f"{name} is {_range(self.low, self.high)} in {_clips(self.count)} and {rest} in the "
            f"other {self.rest_count}, about 1,000 times {times}: if these are two units, write "
            "all values in one (an empty cell means unknown)"
        )


def suspicious_values(values: Iterable[float]) -> list[Suspicion]:
    """Return what is odd about the values of one label, one value a clip; NaN is unknown.

    A sentinel is a number of `SENTINELS` that lies alone and far outside the rest. Two units are
    two groups of positive values with a gap between them, one about 1,000 times the other; where
    there are negative values, too, small ones are those near zero.
    """
    counts = Counter(float(value) for value in values if math.isfinite(value))
    known = sorted(counts)
    rest = [value for value in known if value not in SENTINELS]
    found = [value for value in known if value in SENTINELS and _is_far(value, rest)]
    sound = [value for value in known if value not in found]
    suspicions = [
        _suspicion("sentinel", counts, [value], sound) for value in found if len(sound) > 1
    ]
    # Near zero, where a quantity changes its sign, values of any size are of one unit.
    is_signed = bool(sound) and sound[0] < 0
    if not is_signed and (groups := _two_units([value for value in sound if value > 0], counts)):
        suspicions.append(_suspicion("mixed units", counts, *groups))
    return suspicions


def _is_far(value: float, rest: Sequence[float]) -> bool:
    """Return whether a sentinel lies far outside the other values, which are sorted."""
    if len(rest) < 2:
        return False
    least, greatest = rest[0], rest[-1]
    if value > greatest:
        return value - greatest > greatest - least and value > 2 * greatest
    if value > least:
        return False
    if least - value > greatest - least:
        return len(rest) > 2 or value < -9  # -1 is no sentinel among -1, 0 and 1
    if least < 0 or len(rest) < 3:
        return False
    steps = [after - before for before, after in itertools.pairwise(rest)]
    return least > 0 or value < -9 or least - value > 1.5 * max(steps)


def _two_units(
    known: Sequence[float], counts: Counter[float]
) -> tuple[Sequence[float], Sequence[float]] | None:
    """Return the smaller and the larger group of values where one may have another unit."""
    ratios = [after / before for before, after in itertools.pairwise(known)]
    if not ratios or max(ratios) < _GAP:
        return None
    parting = ratios.index(max(ratios)) + 1
    lower, upper = known[:parting], known[parting:]
    if not _THOUSAND[0] <= _median(upper, counts) / _median(lower, counts) <= _THOUSAND[1]:
        return None
    sizes = [sum(counts[value] for value in group) for group in (lower, upper)]
    return (lower, upper) if sizes[0] <= sizes[1] else (upper, lower)


def _median(known: Sequence[float], counts: Counter[float]) -> float:
    totals: list[int] = []
    for value in known:
        totals.append(counts[value] + (totals[-1] if totals else 0))
    return known[bisect.bisect_left(totals, totals[-1] / 2)]


def _suspicion(
    kind: Literal["sentinel", "mixed units"],
    counts: Counter[float],
    odd: Sequence[float],
    rest: Sequence[float],
) -> Suspicion:
    return Suspicion(
        kind=kind,
        value=odd[0],
        count=sum(counts[value] for value in odd),
        low=odd[0],
        high=odd[-1],
        rest_low=rest[0],
        rest_high=rest[-1],
        rest_count=sum(counts[value] for value in rest),
    )


def _range(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _clips(count: int) -> str:
    return "1 clip" if count == 1 else f"{count} clips"
