"""The lexicon of a run: for each position its symbols, with evidence and pictures of clips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.message import BANDS, Lexicon, Meaning, Position, PropertyWording, wording_for
from pipeline.report.charts import Axis
from pipeline.report.sections.section import ReportContext, Section
from pipeline.report.thumbnails import Thumbnails
from pipeline.runs import Run

MAX_LETTERS = 12  # of a word above an axis
MAX_TICKS = 300  # of training clips below an axis


def build(context: ReportContext) -> Mapping[str, Any]:
    """Return the variables of the template."""
    if context.lexicon is None:
        return {"dictionary": []}
    values = _training_values(context.run)
    return {
        "dictionary": [
            _entry(position, context.lexicon, values, context.thumbnails)
            for position in context.lexicon.positions
        ]
    }


def _entry(
    position: Position,
    lexicon: Lexicon,
    values: Mapping[str, list[float]],
    thumbnails: Thumbnails,
) -> dict[str, Any]:
    """What the page shows of one position."""
    heads = 1 + max(one.head for one in lexicon.positions)
    place = position.agent * heads + position.head  # in a message, from 0
    entry: dict[str, Any] = {"position": position, "axis": None, "place": place}
    if position.about is not None:
        wording = wording_for(position.about)
        axis = Axis.of(values[position.about])
        low, high = (axis.at(edge) for edge in lexicon.thirds[position.about])
        edges = zip(BANDS, (0.0, low, high), (low, high, 100.0), strict=True)
        entry |= {
            "words": wording,
            "axis": axis,
            "bands": [
                {"band": band, "short": _short(wording, band), "from": start, "to": end}
                for band, start, end in edges
            ],
            "rug": sorted({axis.at(value) for value in values[position.about]})[:MAX_TICKS],
        }
    entry["symbols"] = [
        {
            "meaning": meaning,
            "pictures": thumbnails.of_symbol(position.agent, position.head, meaning.symbol),
        }
        for meaning in _in_order(position)
    ]
    return entry


def _short(wording: PropertyWording, band: str) -> str:
    """The adjective of a band where it is short enough to be above an axis, else its name."""
    adjective = wording.adjective(band)
    return adjective if len(adjective) < MAX_LETTERS else band


def _in_order(position: Position) -> list[Meaning]:
    """Meanings from low to high; of a position about nothing, the most frequent first."""
    if position.about is None:
        return sorted(position.meanings, key=lambda meaning: -meaning.clips)
    return sorted(position.meanings, key=lambda one: (one.median, one.low, one.symbol))


def _training_values(run: Run) -> dict[str, list[float]]:
    lines = [line for line in run.messages() if line["part"] == "train"]
    return {
        name: [line["labels"][name] for line in lines if line["labels"][name] is not None]
        for name in run.config.properties
    }


SECTION = Section(name="lexicon", title="Lexicon", order=30, build=build)
