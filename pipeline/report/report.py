"""One HTML page per run: what it was trained on, how accurate it is, and what its messages mean.

The page needs nothing but itself: styles, pictures and its one small script are in it, and its
content security policy forbids anything else, so that no name of a clip can become code. It is a
pure function of the run folder, its cache and its videos: written twice, it is the same. Its parts
are in `sections`.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from data.errors import HeliographError, InvalidValueError
from data.files import as_bytes, atomic_write, open_regular
from pipeline.console import printable
from pipeline.dataset import RunInputs
from pipeline.message import Lexicon, load_lexicon, write_lexicon
from pipeline.report.sections import FOLDER as SECTIONS_FOLDER
from pipeline.report.sections import ReportContext, Section, discover_sections
from pipeline.report.thumbnails import Thumbnails, page_thumbnails
from pipeline.runs import PAGE, Run, finish_move, load_inputs

FOLDER = Path(__file__).parent / "page"
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
SPACE = "\N{NO-BREAK SPACE}"
HEAD_BYTES = 4096
TITLE = b"<title>Heliograph: "  # of every page about a run or several
_ID = re.compile(rb'<meta name="heliograph-run" content="([0-9a-f]+)">')


@dataclass(frozen=True)
class WrittenReport:
    """A page that was written.

    Attributes:
        path: Of the page.
        bytes: Its size.
        pictures: How many are in it.
        notes: Sentences about what it lacks.
    """

    path: Path
    bytes: int
    pictures: int
    notes: tuple[str, ...]


def write_report(
    folder: Run | Path | str,
    out: Path | str | None = None,
    *,
    clips: Sequence[Path] = (),
    moved: Mapping[str, Path] | None = None,
) -> WrittenReport:
    """Write the page of a run, and its `lexicon.json` where an older run lacks it.

    Args:
        folder: Of the run, or an open run.
        out: The page; `report.html` in the run folder by default.
        clips: Manifests, folders or videos to take thumbnails from; by default the clips are looked
            for where they were when their features were made.
        moved: Where the caches of the run are now, by name, as for `pipeline.runs.load_inputs`.

    Raises:
        HeliographError: for a run that cannot be read. Missing caches or videos only leave gaps,
            which the page names.
    """
    run = open_run(folder)
    target = page_path(run.folder, out)
    is_inside = os.path.abspath(target) == os.path.abspath(run.folder / PAGE)
    if is_inside:
        run.files.require_own(PAGE)
    lexicon = _lexicon(run)
    inputs, notes = _inputs(run, moved)
    thumbnails = Thumbnails()
    if inputs is not None:
        thumbnails = page_thumbnails(run, lexicon, inputs, clips)
        notes += thumbnails.notes()
    page = render(ReportContext(run, lexicon, inputs, thumbnails, notes))
    if is_inside:
        run.write(PAGE, page)
    else:
        atomic_write(target, page)
    return WrittenReport(target, len(as_bytes(page)), thumbnails.number, tuple(notes))


def open_run(folder: Run | Path | str) -> Run:
    """Return a run whose page is to be written, moved to its place where that was not finished.

    Raises:
        HeliographError: for a run that cannot be read.
    """
    if not isinstance(folder, Run):
        finish_move(Path(folder))
    return Run.open(folder)


def page_path(folder: Path, out: Path | str | None = None) -> Path:
    """Return where the page of a run is written."""
    return folder / PAGE if out is None else Path(out)


def is_page_of(path: Path, run: Run) -> bool:
    """Return whether a file is a page of this run and of no other, by the id at its head.

    A page without an id, of a run that has none, is known by its place in the run folder.
    """
    head = page_head(path)
    found = _ID.search(head)
    if found is not None:
        return found[1].decode() == run.id
    return TITLE in head and path.absolute() == (run.folder / PAGE).absolute()


def page_head(path: Path) -> bytes:
    """Return the first bytes of a page, by which it is known; none where there is no file."""
    if not path.is_file():
        return b""
    with open_regular(path, follow_links=True) as file:
        return file.read(HEAD_BYTES)


def render(context: ReportContext) -> str:
    """Return the page as text."""
    run, script = context.run, (FOLDER / "report.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    lines, config = run.messages(), run.config
    return template("report.html").render(
        _variables(context),
        title=f"{_and(config.properties)} in {run.folder.resolve().name}",
        style=Markup((FOLDER / "report.css").read_text()),
        script=Markup(script),
        script_hash=digest,
        all_messages=len(lines),
        distinct=len({line["message"] for line in lines}),
        possible=_possible(config.vocab, config.agents * config.heads),
        sections=[
            {
                "name": section.name,
                "title": section.title,
                "heading": section.heading or section.title,
                "html": _section(section, context),
            }
            for section in discover_sections()
        ],
    )


def _section(section: Section, context: ReportContext) -> Markup:
    variables = _variables(context) | dict(section.build(context))
    return Markup(template(f"{section.name}.html").render(variables).strip())


def _variables(context: ReportContext) -> dict[str, Any]:
    """What every template may use."""
    names = ("run", "metrics", "lexicon", "inputs", "thumbnails", "notes", "headline")
    return {name: getattr(context, name) for name in (*names, "properties", "cells")}


def _lexicon(run: Run) -> Lexicon | None:
    if not run.has_symbols:
        return None
    return load_lexicon(run) if run.has("lexicon.json") else write_lexicon(run)


def _inputs(run: Run, moved: Mapping[str, Path] | None) -> tuple[RunInputs | None, list[str]]:
    """The caches of a run; where they are missing, none and a sentence about it."""
    try:
        return load_inputs(run, moved), []
    except InvalidValueError:
        raise
    except HeliographError as error:
        return None, [f"Pictures and the failures of the extraction are missing: {error}."]


@cache
def template(name: str) -> jinja2.Template:
    """Return a template of the folder `page`, or of a section."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([FOLDER, SECTIONS_FOLDER]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": lambda value, digits=1: f"{100 * value:.{digits}f} %",
        "points": _points,
        "p": _p,
        "bdi": _isolated,
        "join_and": lambda names: Markup(_and([_isolated(name) for name in names])),
        "number": lambda value: f"{value:,}",
        "count": _count,
        "in_words": lambda number: NUMBERS[number] if number < len(NUMBERS) else str(number),
        "capitalize_first": lambda text: text[:1].upper() + text[1:],
        "join_or": lambda names: Markup(" or ").join(_isolated(name) for name in names),
    }
    return environment.get_template(name)


def _printable(value: Any) -> Any:
    """Return what a template shows: text without characters that act on what is around it."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value, keep="\n\t")
    return value


def _isolated(value: Any) -> Markup:
    r"""Return a name that may be in any script, so that it does not turn the words around it.

    >>> print(_isolated("a <b>\u202e"))
    <bdi>a &lt;b&gt;\u202e</bdi>
    """
    return Markup("<bdi>{}</bdi>").format(printable(value))


def _possible(vocab: int, symbols: int) -> str:
    """Return the number of messages that are possible.

    >>> _possible(8, 4), _possible(8, 8), _possible(2, 2000)
    ('4,096', '1.7e+07', '1.1e+602')
    """
    power = symbols * math.log10(vocab)
    if power > 300:  # too large for a float
        return f"{10 ** (power % 1):.1f}e+{int(power)}"
    number = vocab**symbols
    return f"{number:,}" if number < 10**7 else f"{number:.1e}"


def _and(names: Sequence[str]) -> str:
    """Return names as a list in a sentence.

    >>> _and(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _p(value: float) -> str:
    r"""Return a p-value as text that does not break.

    >>> _p(0.0004), _p(0.0421)
    ('p\xa0<\xa00.001', 'p\xa0=\xa00.042')
    """
    return f"p = {value:.3f}".replace(" ", SPACE) if value >= 0.001 else f"p{SPACE}<{SPACE}0.001"


def _points(fraction: float) -> str:
    """Return a difference of fractions in points, with a minus sign.

    >>> _points(-0.0123), _points(0.0849)
    ('−1.2', '8.5')
    """
    return f"{100 * fraction + 0.0:.1f}".replace("-0.0", "0.0").replace("-", "−")


def _count(number: int, thing: str, several: str = "") -> str:
    """Return a number and its noun.

    >>> _count(1, "clip"), _count(2000, "batch", "batches")
    ('1 clip', '2,000 batches')
    """
    return f"{number:,} {thing if number == 1 else several or thing + 's'}"
