"""What people call a property and what it is measured in: "mass" is heavy or light, in grams."""

from __future__ import annotations

import math
from dataclasses import dataclass

from data.datasets import label_units

BANDS = ("low", "middle", "high")

# name -> the words for the lowest, the middle and the highest third of clips
ADJECTIVES: dict[str, tuple[str, str, str]] = {
    "mass": ("light", "of middle mass", "heavy"),
    "weight": ("light", "of middle weight", "heavy"),
    "volume": ("small", "of middle size", "large"),
    "size": ("small", "of middle size", "large"),
    "density": ("of low density", "of middle density", "dense"),
    "elasticity": ("dead", "of middle bounce", "bouncy"),
    "restitution": ("dead", "of middle bounce", "bouncy"),
    "friction": ("slippery", "of middle friction", "rough"),
    "stiffness": ("soft", "of middle stiffness", "stiff"),
    "damping": ("ringing", "of middle damping", "damped"),
    "speed": ("slow", "of middle speed", "fast"),
}

# the end of a label's name -> unit; the longest that fits counts
SUFFIXES = {
    "_grams": "g",
    "_g": "g",
    "_kg": "kg",
    "_ml": "ml",
    "_m": "m",
    "_cm": "cm",
    "_mm": "mm",
    "_m_s": "m/s",
    "_seconds": "s",
    "_s": "s",
    "_per_s": "1/s",
    "_hz": "Hz",
    "_n_m": "N/m",
    "_n_s_m": "N s/m",
}


@dataclass(frozen=True)
class Words:
    """How to speak of one property: `adjectives` are for low, middle and high."""

    name: str
    unit: str
    adjectives: tuple[str, str, str]

    def adjective(self, band: str) -> str:
        """The word for "low", "middle" or "high"."""
        return self.adjectives[BANDS.index(band)]

    def span(self, low: float, high: float) -> str:
        """A range of values with its unit; the two ends told apart where they differ.

        >>> words_for("mass").span(61.0, 214.3)
        '61–214 g'
        """
        left, right = (numeral(value, high - low) for value in (low, high))
        text = left if left == right else f"{left}–{right}"
        return f"{text} {self.unit}".rstrip()


def words_for(label: str) -> Words:
    """The words for a label of a cache: known properties by name, units by the name's end.

    >>> words_for("mass")
    Words(name='mass', unit='g', adjectives=('light', 'of middle mass', 'heavy'))
    >>> words_for("impact_speed_m_s")
    Words(name='impact speed', unit='m/s', adjectives=('low impact speed', \
'middle impact speed', 'high impact speed'))
    """
    suffix = max((end for end in SUFFIXES if label.endswith(end)), key=len, default="")
    stem = label.removesuffix(suffix) or label
    unit = label_units().get(stem, "") if stem == label else SUFFIXES[suffix]
    name = stem.replace("_", " ").strip() or label
    known = ADJECTIVES.get(stem)
    return Words(name, unit, known or (f"low {name}", f"middle {name}", f"high {name}"))


def numeral(value: float, span: float = 0.0) -> str:
    """A number as people write it: as many digits as tell it apart on an axis of `span`.

    >>> numeral(61.04, 150), numeral(0.05, 0.4), numeral(1234567.0)
    ('61', '0.05', '1234567')
    """
    size = max(abs(value), 1e-300)
    wanted = 3 - math.floor(math.log10(size)) - 1 if size < 1e6 else 0
    if span > 0:
        wanted = min(wanted, max(0, 1 - math.floor(math.log10(span))))
    digits = min(max(wanted, 0), 6)
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
