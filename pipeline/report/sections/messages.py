"""The message of every clip with its moving picture, in a table that can be filtered and sorted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.message import Reading, Readout, load_readout, wording_for
from pipeline.report.sections.section import ReportContext, Section
from pipeline.runs import MissingFileError, Run

MAX_ROWS = 2000
PARTS = ("test", "structure", "validation", "train")
"""The parts of a split in the order of the table: first what nothing was trained on."""


def build(context: ReportContext) -> Mapping[str, Any]:
    """Return the variables of the template: lines of `messages.jsonl`, held-out clips first."""
    run, lexicon = context.run, context.lexicon
    lines, readout = run.messages(), _readout(run)
    order = {part: number for number, part in enumerate(PARTS)}
    chosen = sorted(range(len(lines)), key=lambda n: order.get(lines[n]["part"], len(PARTS)))
    chosen = chosen[:MAX_ROWS]
    readings: Sequence[Sequence[Reading]] = [()] * len(chosen)
    if readout is not None:
        readings = readout.read(run.tokens()[np.array(chosen)])
    rows = [
        lines[number]
        | {
            "gloss": lexicon.gloss(lines[number]["tokens"]) if lexicon else (),
            "told": [one.numeral for one in told],
            "verdict": verdict(lines[number]["labels"], told, readout),
        }
        for number, told in zip(chosen, readings, strict=True)
    ]
    return {
        "messages": rows,
        "all_messages": len(lines),
        "most_rows": MAX_ROWS,
        "columns": [wording_for(name) for name in run.config.properties],
        "parts": [part for part in PARTS if any(row["part"] == part for row in rows)],
        "readout": readout,
    }


def verdict(
    labels: Mapping[str, float | None], told: Sequence[Reading], readout: Readout | None
) -> str:
    """Return whether a message names the third of every property in which the true value is.

    Returns:
        "right", "wrong", or "" where a true value is not known or the message names none.
    """
    truths = [labels[one.name] for one in told]
    if readout is None or not told or None in truths:
        return ""
    named = zip(told, truths, strict=True)
    right = all(
        truth is not None and readout.properties[one.name].band_of(truth) == one.band
        for one, truth in named
    )
    return "right" if right else "wrong"


def _readout(run: Run) -> Readout | None:
    try:
        return load_readout(run) if run.has_symbols else None
    except MissingFileError:  # the messages of a seed, of which it would be learnt
        return None


SECTION = Section(name="messages", title="Messages", order=50, build=build)
