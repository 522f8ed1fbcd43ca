"""Words and units of properties: "mass" is heavy or light, in grams."""

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
    "elasticity": ("hardly bouncy", "of middle bounce", "bouncy"),
    "restitution": ("hardly bouncy", "of middle bounce", "bouncy"),
    "friction": ("slippery", "of middle friction", "rough"),
    "stiffness": ("soft", "of middle stiffness", "stiff"),
    "damping": ("hardly damped", "of middle damping", "strongly damped"),
    "speed": ("slow", "of middle speed", "fast"),
}

# the end of a label's name -> unit; the longest match counts
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
class PropertyWording:
    """Name, unit and adjectives (for low, middle and high) of one property."""

    name: str
    unit: str
    adjectives: tuple[str, str, str]

    def adjective(self, band: str) -> str:
        """Return the word for "low", "middle" or "high"."""
        return self.adjectives[BANDS.index(band)]

    def span(self, low: float, high: float) -> str:
        """Return a range of values with its unit; ends that differ are written differently.

        >>> wording_for("mass").span(61.0, 214.3)
        '61–214 g'
        """
        left, right = (numeral(value, high - low) for value in (low, high))
        text = left if left == right else f"{left}–{right}"
        return f"{text} {self.unit}".rstrip()


def wording_for(label: str) -> PropertyWording:
    """Return the wording for a label of a cache: words by its name, unit by the name's end.

    >>> wording_for("mass")
    PropertyWording(name='mass', unit='g', adjectives=('light', 'of middle mass', 'heavy'))
    >>> wording_for("impact_speed_m_s")
    PropertyWording(name='impact speed', unit='m/s', adjectives=('low impact speed', \
'middle impact speed', 'high impact speed'))
    """
    suffix = max((end for end in SUFFIXES if label.endswith(end)), key=len, default="")
    stem = label.removesuffix(suffix) or label
    unit = label_units().get(stem, "") if stem == label else SUFFIXES[suffix]
    name = stem.replace("_", " ").strip() or label
    known = ADJECTIVES.get(stem)
    return PropertyWording(name, unit, known or (f"low {name}", f"middle {name}", f"high {name}"))


def numeral(value: float, span: float = 0.0) -> str:
    """Return a number as text, with as many digits as an axis of length `span` needs.

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
