"""A run in a notebook: its accuracy, and its lexicon with a picture for each symbol."""

from __future__ import annotations

from typing import Any

from data.errors import HeliographError
from data.notebooks import Picture, html_table
from data.wording import counted
from pipeline.message import Lexicon, load_lexicon
from pipeline.report.thumbnails import Thumbnails, page_thumbnails
from pipeline.runs import Run, load_inputs, percent


def run_table(run: Run) -> str:
    """Return a run as HTML: what it is, and what each symbol of each position means.

    Where its lexicon, its cache or the videos of its clips are missing, a sentence says so.
    """
    config, notes = run.config, [run.unchecked] if run.unchecked else []
    size = f"{counted(config.agents, 'agent')}, {counted(len(run.seeds), 'seed')}"
    caption = f"Run {run.folder}: {', '.join(config.properties)}, {size}"
    rows: list[list[Any]] = []
    try:
        metrics = run.metrics()
        for name in ("accuracy_test", "accuracy_last_epoch"):
            if (accuracy := getattr(metrics, name)) is not None:
                caption += f"; {name.replace('_', ' ')} {percent(accuracy)}"
        if lexicon := load_lexicon(run):
            pictures = _pictures(run, lexicon)
            rows = _lexicon_rows(lexicon, pictures)
            notes += pictures.notes()
    except HeliographError as error:
        notes.append(str(error))
    header = ["position", "symbol", "word", "clips", "picture"]
    return html_table(caption, header, rows, notes)


def _pictures(run: Run, lexicon: Lexicon) -> Thumbnails:
    try:
        return page_thumbnails(run, lexicon, load_inputs(run), (), each=1, moves=False)
    except HeliographError as error:
        return Thumbnails(no_video=f"There are no pictures: {error}")


def _lexicon_rows(lexicon: Lexicon, pictures: Thumbnails) -> list[list[Any]]:
    rows = []
    for position in lexicon.positions:
        for meaning in position.meanings:
            shown = pictures.of_symbol(position.agent, position.head, meaning.symbol)
            picture = Picture(shown[0][1]) if shown else ""
            word = position.gloss(meaning.symbol)
            rows.append([position.name, meaning.symbol, word, meaning.clips, picture])
    return rows
