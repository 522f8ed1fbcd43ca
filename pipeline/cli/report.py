"""The `report` command: a page about a run."""

from __future__ import annotations

from pathlib import Path

import click

from data.errors import HeliographError
from data.wording import counted
from pipeline.cli.options import (
    INPUT,
    PATH,
    HelpGroup,
    examples,
    moved_caches,
    moved_clips,
    named_caches,
    reading_limits,
)
from pipeline.cli.outputs import has_content, overwrite, require_free, require_page
from pipeline.console import echo, log

HELP_ORDER = 100
HELP_GROUP = HelpGroup.AGENTS


@click.command(
    epilog=examples(
        "heliograph report runs/ours", "heliograph report runs/ours -o page.html --clips clips/"
    )
)
@click.argument("run", type=INPUT)
@click.option("-o", "--out", type=PATH, help="Page to write.", show_default="RUN/report.html")
@moved_clips(", for pictures")
@click.option(
    "--corpus",
    "corpus_path",
    type=PATH,
    metavar="FILE",
    help="Write no page but the messages, to FILE (.jsonl), as ELCC has them: a list of integers a "
    "line. What is known of the clips goes to FILE.labels.jsonl, line by line.",
)
@moved_caches
@overwrite
@reading_limits
def report(
    run: Path,
    out: Path | None,
    clips: tuple[Path, ...],
    corpus_path: Path | None,
    moved: tuple[str, ...],
    overwrite: bool,
) -> None:
    """Write one self-contained page about a RUN or a sweep.

    On it: accuracies next to baselines, what each position carries, the lexicon with pictures of
    the clips that say each symbol, every clip's message, and where all of it comes from. Run
    `evaluate` first: it adds the baselines, intervals and interventions. Prints the path of the
    page; the lexicon alone is RUN/lexicon.json. An older page of this run is replaced.
    """
    from pipeline.report import is_page_of, is_sweep, open_run, page_path, write_report

    if is_sweep(run):
        if corpus_path is not None or clips or moved:
            raise click.UsageError(
                f"{run} is a sweep: --corpus, --clips and --cache are of one of its runs"
            )
        _write_sweep(run, out, overwrite)
        return
    if corpus_path is not None:
        if out is not None or clips or moved:
            raise click.UsageError("--corpus writes no page: leave out --out, --clips and --cache")
        _write_corpus(run, corpus_path, overwrite)
        return
    opened, page = open_run(run), page_path(run, out)
    opened.files.require_not_of_run(page)
    require_page(page)
    require_free(page, overwrite or is_page_of(page, opened))
    written = write_report(opened, out, clips=clips, moved=named_caches(moved, "--cache"))
    for note in written.notes:
        log(note)
    log(f"{written.path}: {written.bytes / 1e6:.1f} MB, {counted(written.pictures, 'picture')}")
    echo(written.path)


def _write_corpus(run: Path, path: Path, overwrite: bool) -> None:
    """Write messages and labels of a run, the messages last; print both paths."""
    from data.files import as_bytes, atomic_write
    from pipeline.report import corpus_of, labels_path, open_run

    places = labels_path(path), path
    opened = open_run(run)
    messages, labels = corpus_of(opened)
    contents = as_bytes(labels), as_bytes(messages)
    whole = list(zip(places, contents, strict=True))
    for place, content in whole:
        opened.files.require_not_of_run(place)
        require_free(place, overwrite or _has(place, content), option="--corpus")
    for place, content in whole:
        atomic_write(place, content)
    for place in reversed(places):
        echo(place)


def _write_sweep(folder: Path, out: Path | None, overwrite: bool) -> None:
    """Write the page of a sweep; print its path."""
    from pipeline.report import (
        is_sweep_page,
        page_path,
        require_not_of_sweep,
        write_sweep_report,
    )

    page = page_path(folder, out)
    require_not_of_sweep(page, folder)
    require_page(page)
    require_free(page, overwrite or is_sweep_page(page, folder))
    echo(write_sweep_report(folder, out))


def _has(path: Path, content: bytes) -> bool:
    try:
        return has_content(path, content)
    except (HeliographError, OSError):
        return False
