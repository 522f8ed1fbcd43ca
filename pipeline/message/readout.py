"""What a message says of each property, as a number: an estimate, its interval, its confidence.

A readout is a score card: an offset, and what each symbol at each position adds to it, fitted on
the training clips of the run's chosen seed by ridge regression (the penalty by folds of objects).
Positive labels that lie evenly in their logarithms are read as these.

Clips that the agents were not trained on tell how far it errs. Every seed is fitted in the same way
and errs on objects that it held out, so that nearly all objects of a run bear witness, each with
the same weight however many clips it has. The interval is conformal (Lee, Barber and Willett 2023,
"Distribution-free inference with hierarchical data"): the true value of a clip of a new object is
in it with a chance of at least `LEVEL`, as far as that object is like those of the run. The
confidence is the share of those errors that leave the value in the third that is named.

`train` writes it to `readout.json`; of an older run it is learnt anew from `messages.jsonl`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.wording import counted
from pipeline.message.calibration import (
    LEAST_OBJECTS,
    LEVEL,
    SpokenClips,
    Witnesses,
    add_points,
    band_chances,
    band_edges,
    fit_points,
    reads_logarithms,
    to_scores,
    witnesses_of,
)
from pipeline.message.learnt_files import load_learnt, write_learnt
from pipeline.message.wording import BANDS, numeral, wording_for
from pipeline.runs import Run

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a message says of one property of its clip.

    Attributes:
        name: Of the property.
        value: The estimate, in the unit of the label.
        interval: Both ends of the conformal interval; None where too few objects were held out.
        level: The chance that the interval holds the true value.
        band: The likeliest third of the training clips: "low", "middle" or "high".
        confidence: The calibrated probability that the true value is in that third; None as
            `interval`.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    level: float
    band: str
    confidence: float | None

    @property
    def numeral(self) -> str:
        """The estimate with as many digits as its interval makes sense of."""
        return numeral(self.value, self.interval[1] - self.interval[0] if self.interval else 0.0)

    def __str__(self) -> str:
        wording = wording_for(self.name)
        text = f"{wording.name} {self.numeral} {wording.unit}".rstrip()
        word = wording.adjective(self.band)
        if self.interval is None or self.confidence is None:
            return f"{text}, {word}"
        span, sure = wording.span(*self.interval), f"{100 * self.confidence:.0f} %"
        return f"{text}, {span} at {100 * self.level:g} %, {word} {sure}"

    def to_json(self) -> dict[str, Any]:
        """Return JSON types, with the unit and the word of the third; the name is left out."""
        wording = wording_for(self.name)
        return {
            "value": self.value,
            "unit": wording.unit,
            "interval": self.interval and list(self.interval),
            "level": self.level,
            "band": self.band,
            "word": wording.adjective(self.band),
            "confidence": self.confidence,
        }


@dataclass(frozen=True, kw_only=True)
class PropertyReadout:
    """Reads one property off messages.

    Scores are in the unit of the label, or its natural logarithms.

    Attributes:
        logarithm: Whether scores are logarithms.
        offset: The score of a message whose symbols add nothing.
        points: What each symbol of each position adds, (positions, vocab).
        edges: Values below the first are low, above the second high.
        positive: Whether no training clip has a value below zero: then no reading has.
        reach: Half of the interval's width, in scores; None where too few objects were held out.
        errors: True minus estimated scores of held-out clips, ascending; empty without any.
        objects: How many objects they show.
    """

    logarithm: bool
    offset: float
    points: tuple[tuple[float, ...], ...]
    edges: tuple[float, float]
    positive: bool
    reach: float | None
    errors: tuple[float, ...]
    objects: int

    def band_of(self, value: float) -> str:
        """Return the third in which a true value is: "low", "middle" or "high"."""
        low, high = self.edges
        return BANDS[0 if value < low else 2 if value > high else 1]

    def scores(self, tokens: Numbers) -> Floats:
        """Return the estimated scores (N,) of messages (N, positions)."""
        return self.offset + add_points(np.array(self.points), tokens)

    def read(self, name: str, tokens: Numbers) -> list[Reading]:
        """Return what messages (N, positions) say of the property with this name."""
        scores = self.scores(tokens)
        chances = self._chances(scores)
        readings = []
        for score, chance in zip(scores.tolist(), chances, strict=True):
            band, interval = int(chance.argmax()), None
            if self.reach is not None:
                interval = self._value(score - self.reach), self._value(score + self.reach)
            readings.append(
                Reading(
                    name=name,
                    value=self._value(score),
                    interval=interval,
                    level=LEVEL,
                    band=BANDS[band],
                    confidence=float(chance[band]) if interval else None,
                )
            )
        return readings

    def _value(self, score: float) -> float:
        if self.logarithm:
            return float(np.exp(score))
        return max(score, 0.0) if self.positive else score

    def _chances(self, scores: Floats) -> Floats:
        """Return the probability of each third, (N, 3); a new object counts as one more witness."""
        edges = to_scores(np.array(self.edges), self.logarithm)
        errors = np.array(self.errors or (0.0,))
        return band_chances(scores, errors, np.ones(len(errors)) / len(errors), edges, self.objects)


@dataclass(frozen=True, kw_only=True)
class Readout:
    """Reads every property of a run off the messages of its chosen seed.

    Attributes:
        properties: By name.
        seeds: Of the run, those whose held-out clips told the errors.
    """

    properties: Mapping[str, PropertyReadout]
    seeds: tuple[int, ...]

    @property
    def missing(self) -> str:
        """Why there are no intervals, a sentence; empty where there are."""
        objects = min(each.objects for each in self.properties.values())
        if objects >= LEAST_OBJECTS:
            return ""
        return (
            f"no intervals of the estimates: {counted(objects, 'object')} held out by the seeds of "
            f"the run, and intervals of {100 * LEVEL:g} % need {LEAST_OBJECTS}: train with more "
            "objects, or with more seeds, which hold out others"
        )

    def read(self, tokens: Numbers) -> list[tuple[Reading, ...]]:
        """Return, for each message of tokens (N, agents, heads), a reading of each property."""
        flat = tokens.reshape(len(tokens), -1)
        return list(
            zip(*(own.read(name, flat) for name, own in self.properties.items()), strict=True)
        )

    def to_json(self) -> dict[str, Any]:
        """Return the content of `readout.json`."""
        each = {name: asdict(own) for name, own in self.properties.items()}
        return {"level": LEVEL, "seeds": list(self.seeds), "properties": each}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], *, shape: tuple[int, int]) -> Readout:
        """Return what `to_json` wrote, for messages of this many positions and symbols.

        Raises:
            KeyError, TypeError or ValueError: for anything else.
        """
        if stored["level"] != LEVEL:
            raise ValueError(f"its level is {stored['level']!r}, not {LEVEL}")
        properties = {}
        for name, own in stored["properties"].items():
            points = np.array(own["points"], np.float64)
            edges, errors = np.array(own["edges"], np.float64), np.array(own["errors"], np.float64)
            offset = float(own["offset"])
            if points.shape != shape or edges.shape != (2,) or errors.ndim != 1:
                raise ValueError(f"its {name} is not for the messages of the run")
            reach = own["reach"]
            if not np.isfinite([*points.ravel(), *edges, *errors, offset]).all():
                raise ValueError(f"a number of its {name} is not finite")
            if reach is not None and not 0 <= float(reach) < math.inf:
                raise ValueError(f"the reach of its {name} is {reach!r}")
            scale = own["logarithm"], own["positive"]
            if (
                type(own["objects"]) is not int
                or own["objects"] < 0
                or any(type(flag) is not bool for flag in scale)
            ):
                raise ValueError(f"its {name} has no number of objects, or no scale")
            properties[str(name)] = PropertyReadout(
                logarithm=own["logarithm"],
                offset=offset,
                points=tuple(map(tuple, points.tolist())),
                edges=(float(edges[0]), float(edges[1])),
                positive=own["positive"],
                reach=None if reach is None else float(reach),
                errors=tuple(errors.tolist()),
                objects=own["objects"],
            )
        return cls(properties=properties, seeds=tuple(int(seed) for seed in stored["seeds"]))


def load_readout(run: Run) -> Readout | None:
    """Return the readout of a run: from `readout.json`, or learnt anew without one.

    None where no training clip has every label, or where the run is about no property.

    Raises:
        HeliographError: for a run with a continuous channel, and for a damaged file.
    """
    return load_learnt(run, "readout.json", _parse, learn_readout)


def write_readout(run: Run) -> Readout | None:
    """Learn the readout of a run and write `readout.json`; None where there is none to learn."""
    return write_learnt(run, "readout.json", learn_readout)


def _parse(stored: Mapping[str, Any], run: Run) -> Readout:
    config = run.config
    readout = Readout.from_json(stored, shape=(config.agents * config.heads, config.vocab))
    if tuple(readout.properties) != config.properties:
        raise ValueError("its properties are not those of the run")
    return readout


def learn_readout(run: Run) -> Readout | None:
    """Return the readout of a run, from its `messages.jsonl` and those of its seeds.

    None where no training clip has every label, or where the run is about no property.
    """
    chosen = SpokenClips.of(run)
    if not len(chosen.train) or not run.config.properties:
        return None
    seeds, every = witnesses_of(run)
    properties = {}
    for number, name in enumerate(run.config.properties):
        column = chosen.labels[:, number]
        logarithm = reads_logarithms(column[chosen.train])
        scores = to_scores(column, logarithm)
        offset, points = fit_points(chosen, scores, run.config.vocab)
        witnesses = Witnesses.of(every, number, logarithm, run.config.vocab)
        properties[name] = PropertyReadout(
            logarithm=logarithm,
            offset=offset,
            points=tuple(map(tuple, points.tolist())),
            edges=band_edges(column[chosen.train]),
            positive=bool(column[chosen.train].min() >= 0),
            reach=witnesses.reach(),
            errors=tuple(witnesses.quantiles().tolist()),
            objects=witnesses.objects,
        )
    return Readout(properties=properties, seeds=tuple(seed for seed in seeds if seed is not None))
