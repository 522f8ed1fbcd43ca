"""One HTML page per run: what it was trained on, how well it does, and what it says.

The page needs nothing but itself: styles, pictures and its one small script stand in it, and its
content security policy forbids anything else, so that no name of a clip can become code. It is a
pure function of the run folder, its cache and its videos: written twice, it is the same.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache as remember
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from data.errors import HeliographError
from data.files import atomic_write
from pipeline.dataset import RunInputs, is_grid
from pipeline.message import (
    BANDS,
    Lexicon,
    Position,
    PropertyWording,
    load_lexicon,
    wording_for,
    write_lexicon,
)
from pipeline.report.charts import Axis
from pipeline.report.findings import findings, history_curves
from pipeline.report.provenance import command_to_repeat, provenance
from pipeline.report.thumbnails import Pictures, Wanted, find_clips, pictures
from pipeline.runs import Run, load_inputs

FOLDER = Path(__file__).parent / "page"
MAX_PICTURES = 120
PICTURES_PER_SYMBOL = 4
MAX_ROWS = 2000  # of the table of messages
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
SPACE = "\N{NO-BREAK SPACE}"
MAX_LETTERS = 12  # of a word over an axis
MAX_RUG = 300  # ticks of training clips under an axis


@dataclass(frozen=True)
class Written:
    """What `write_report` made; `notes` are sentences about what the page lacks."""

    path: Path
    bytes: int
    pictures: int
    notes: tuple[str, ...]


def write_report(
    folder: Path | str, out: Path | str | None = None, *, clips: Sequence[Path] = ()
) -> Written:
    """Writes the page of a run, and its `lexicon.json`.

    Args:
        folder: of the run.
        out: the page; `report.html` in the run folder by default.
        clips: manifests, folders or videos to take thumbnails from; by default the clips are looked
            for where they were when their features were made.

    Raises HeliographError for a run that cannot be read. A cache or videos that are gone only leave
    gaps, which the page names.
    """
    run = Run.open(folder)
    lexicon = None
    if not run.config.continuous:
        lexicon = load_lexicon(run) if run.has("lexicon.json") else write_lexicon(run)
    inputs, notes = _inputs(run)
    shown = Pictures()
    if lexicon is not None and inputs is not None:
        shown = _pictures(run, lexicon, inputs, clips, notes)
    target = run.folder / "report.html" if out is None else Path(out)
    page = render(run, lexicon, inputs, shown, notes)
    atomic_write(target, page)
    return Written(target, len(page.encode()), len(shown.shown), tuple(notes))


def render(
    run: Run,
    lexicon: Lexicon | None,
    inputs: RunInputs | None,
    shown: Pictures,
    notes: Sequence[str] = (),
) -> str:
    """The page as text."""
    script = (FOLDER / "report.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return template("report.html").render(
        run=run,
        title=f"{_and(run.config.properties)} in {run.folder.resolve().name}",
        style=Markup((FOLDER / "report.css").read_text()),
        script=Markup(script),
        script_hash=digest,
        findings=findings(run),
        curves=history_curves(run),
        dictionary=_dictionary(run, lexicon, shown) if lexicon else [],
        lexicon=lexicon,
        most_information=max((max(one.information) for one in lexicon.positions), default=0) or 1
        if lexicon
        else 1,
        **_messages(run, lexicon),
        provenance=provenance(run, inputs),
        repeat=command_to_repeat(run),
        failures=_failures(inputs),
        inputs=inputs,
        notes=notes,
        pictures=shown,
    )


@remember
def template(name: str) -> jinja2.Template:
    """A page of the folder `page`, ready to be filled in."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": lambda value, digits=1: f"{100 * value:.{digits}f} %",
        "points": _points,
        "p": _p,
        "join_and": lambda names: _and(list(names)),
        "number": lambda value: f"{value:,}",
        "count": _count,
        "in_words": lambda number: NUMBERS[number] if number < len(NUMBERS) else str(number),
        "capitalize_first": lambda text: text[:1].upper() + text[1:],
        "join_or": lambda names: " or ".join(names),
    }
    return environment.get_template(name)


# The lexicon, with pictures


def _dictionary(run: Run, lexicon: Lexicon, shown: Pictures) -> list[dict[str, Any]]:
    """For each position what the page shows of it."""
    values = _training_values(run)
    wanted = _wanted(run, lexicon)
    found = []
    for position in lexicon.positions:
        entry: dict[str, Any] = {"position": position, "symbols": [], "axis": None}
        if position.about is not None:
            words = wording_for(position.about)
            axis = Axis.of(values[position.about])
            low, high = lexicon.thirds[position.about]
            entry |= {
                "words": words,
                "axis": axis,
                "bands": [
                    {"band": band, "short": _short(words, band), "from": start, "to": end}
                    for band, start, end in zip(
                        BANDS,
                        (0.0, axis.at(low), axis.at(high)),
                        (axis.at(low), axis.at(high), 100.0),
                        strict=True,
                    )
                ],
                "rug": sorted({axis.at(value) for value in values[position.about]})[:MAX_RUG],
            }
        for meaning in _in_order(position):
            pictures = [
                (one.clip, shown.shown[one])
                for one in wanted.get((position.agent, position.head, meaning.symbol), ())
                if one in shown.shown
            ]
            entry["symbols"].append({"meaning": meaning, "pictures": pictures})
        found.append(entry)
    return found


def _short(words: PropertyWording, band: str) -> str:
    """The adjective of a band where it is short enough to stand over an axis, else its name."""
    adjective = words.adjective(band)
    return adjective if len(adjective) < MAX_LETTERS else band


def _in_order(position: Position) -> list[Any]:
    """Meanings from low to high; of a position about nothing, the most frequent first."""
    if position.about is None:
        return sorted(position.meanings, key=lambda one: -one.clips)
    return sorted(position.meanings, key=lambda one: (one.median, one.low, one.symbol))


def _training_values(run: Run) -> dict[str, list[float]]:
    lines = [line for line in run.messages() if line["part"] == "train"]
    return {
        name: [line["labels"][name] for line in lines if line["labels"][name] is not None]
        for name in run.config.properties
    }


def _wanted(run: Run, lexicon: Lexicon) -> dict[tuple[int, int, int], list[Wanted]]:
    """Which clips to show for each symbol: training clips near its median, objects in turn."""
    symbols = sum(len(position.meanings) for position in lexicon.positions)
    each = max(1, min(PICTURES_PER_SYMBOL, MAX_PICTURES // max(1, symbols)))
    lines = [line for line in run.messages() if line["part"] == "train"]
    chosen: dict[tuple[int, int, int], list[Wanted]] = {}
    for position in lexicon.positions:
        first, last = _frames_of(run, position.agent)
        for meaning in position.meanings:
            saying = [
                line
                for line in lines
                if line["tokens"][position.agent][position.head] == meaning.symbol
            ]
            if position.about is not None:
                about = position.about
                saying = [line for line in saying if line["labels"][about] is not None]
                saying.sort(key=lambda line: abs(line["labels"][about] - meaning.median))
            seen: dict[str, int] = {}
            turns: list[tuple[int, int, str]] = []
            for line in saying:
                name = line["object"] or line["clip"]
                turns.append((seen.get(name, 0), len(turns), line["clip"]))
                seen[name] = seen.get(name, 0) + 1
            chosen[position.agent, position.head, meaning.symbol] = [
                Wanted(clip, first, last) for _, _, clip in sorted(turns)[:each]
            ]
            if sum(map(len, chosen.values())) >= MAX_PICTURES:
                return chosen
    return chosen


def _frames_of(run: Run, agent: int) -> tuple[int, int]:
    """The sampled frames of a clip that an agent sees, from and up to."""
    source = run.agent_sources[agent]
    sender = run.agent_factory.sender()
    views = getattr(sender, "views", None)
    steps = range(source.steps) if views is None else views[agent].window
    frames = source.fingerprint.get("frames_per_step", 1)
    if source.steps == 1:  # a static feature, repeated over time
        return 0, frames
    return steps.start * frames, steps.stop * frames


def _pictures(
    run: Run, lexicon: Lexicon, inputs: RunInputs, clips: Sequence[Path], notes: list[str]
) -> Pictures:
    """Thumbnails for the lexicon, each from the cache of the agent that says it."""
    shown = Pictures()
    wanted = _wanted(run, lexicon)
    for source, features in zip(inputs.sources, inputs.caches, strict=True):
        agents = {a for a, own in enumerate(run.agent_sources) if own.name == source.name}
        own = [one for (agent, _, _), some in wanted.items() if agent in agents for one in some]
        found = find_clips(features, source.path, clips)
        made = pictures(list(dict.fromkeys(own)), features, found, source.sampler)
        shown.shown |= made.shown
        shown.unchecked |= made.unchecked
        shown.missing += made.missing
    notes += dict.fromkeys(shown.missing)
    if not shown.shown:
        notes.append(
            "There are no thumbnails, because no video of the clips was found: name a manifest or "
            "a folder with --clips."
        )
    if shown.unchecked:
        notes.append(
            "The thumbnails' videos were found by name alone: the cache holds no hashes to know "
            "them by."
        )
    return shown


# Messages, provenance, failures


def _messages(run: Run, lexicon: Lexicon | None) -> dict[str, Any]:
    """The first `MAX_ROWS` lines of `messages.jsonl` with their meanings, and what they count."""
    lines = run.messages()
    rows = []
    for line in lines[:MAX_ROWS]:
        gloss = lexicon.gloss(line["tokens"]) if lexicon else ()
        rows.append(line | {"meaning": " | ".join(", ".join(words) for words in gloss)})
    config = run.config
    words = [wording_for(name) for name in config.properties]
    return {
        "messages": rows,
        "all_messages": len(lines),
        "most_rows": MAX_ROWS,
        "distinct": len({line["message"] for line in lines}),
        "possible": _possible(config.vocab ** (config.agents * config.heads)),
        "columns": words,
        "properties": [own.name for own in words],
        "cells": config.split.startswith("cells") or (config.split == "auto" and _grid(run)),
    }


def _possible(number: int) -> str:
    return f"{number:,}" if number < 10**7 else f"{number:.1e}"


def _grid(run: Run) -> bool:
    lines = [line["labels"] for line in run.messages()]
    labels = np.array([list(own.values()) for own in lines if None not in own.values()], float)
    return len(labels) > 0 and is_grid(labels)


def _inputs(run: Run) -> tuple[RunInputs | None, list[str]]:
    """The caches of a run; where they are gone, none and a sentence that says so."""
    try:
        return load_inputs(run), []
    except HeliographError as error:
        return None, [f"Thumbnails and the failures of the extraction are missing: {error}."]


def _failures(inputs: RunInputs | None) -> list[tuple[str, str, str]]:
    """(cache, clip, reason)."""
    if inputs is None:
        return []
    return [
        (source.name, clip, reason)
        for source, features in zip(inputs.sources, inputs.caches, strict=True)
        for clip, reason in features.failures
    ]


def _and(names: Sequence[str]) -> str:
    """
    >>> _and(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _p(value: float) -> str:
    """
    >>> _p(0.0004), _p(0.0421)
    ('p\\xa0<\\xa00.001', 'p\\xa0=\\xa00.042')
    """
    return f"p = {value:.3f}".replace(" ", SPACE) if value >= 0.001 else f"p{SPACE}<{SPACE}0.001"


def _points(fraction: float) -> str:
    """
    >>> _points(-0.0123), _points(0.0849)
    ('−1.2', '8.5')
    """
    return f"{100 * fraction + 0.0:.1f}".replace("-0.0", "0.0").replace("-", "−")


def _count(number: int, thing: str, several: str = "") -> str:
    """
    >>> _count(1, "clip"), _count(2000, "batch", "batches")
    ('1 clip', '2,000 batches')
    """
    return f"{number:,} {thing if number == 1 else several or thing + 's'}"
