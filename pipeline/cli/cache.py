"""The `cache` commands: info, verify, label, merge, consolidate, import, export."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from data.errors import HeliographError, InvalidValueError, StoppedError
from data.files import path_of
from data.wording import counted
from pipeline.cli.numbers import WholeNumber
from pipeline.cli.options import (
    CACHE,
    CLIPS,
    INPUT,
    PATH,
    SOME_CLIPS_FAILED,
    HelpGroup,
    InOrder,
    as_json,
    bytes_of_part,
    examples,
    local,
    model_options,
    moved_clips,
    part_size,
    reading_limits,
    share_the_cores,
    workers,
)
from pipeline.cli.outputs import cache_out, has_content, is_there, overwrite, written
from pipeline.console import (
    ProgressBar,
    echo,
    echo_json,
    format_size,
    log,
    print_table,
    some_clips,
)

if TYPE_CHECKING:
    from data.clips import Clip

HELP_ORDER = 50
HELP_GROUP = HelpGroup.FEATURES
RANGE = ("known", "unknown", "min", "max")  # what `cache info` says of every label


@click.group(cls=InOrder)
def cache() -> None:
    """Inspect, check, join, import, export feature caches."""


@cache.command(
    epilog=examples("heliograph cache info clips.h5", "heliograph cache info clips.h5 --json")
)
@click.argument("path", type=INPUT)
@as_json
def info(path: Path, as_json: bool) -> None:
    """Say what a cache holds and how it came to be.

    It may be a file or a folder of parts. --json prints all of it; the table shortens numbers.
    """
    from data import cache as store
    from data.copies import address_of

    content = store.info(path)
    content["path"] = address_of(path) or content["path"]
    if as_json:
        echo_json(content)
        return
    print_table(["", content["path"]], list(_rows(content)), right=False)


@cache.command(
    epilog=examples(
        "heliograph cache verify clips.h5",
        "heliograph cache verify clips.h5 --repair --clips clips/",
    )
)
@click.argument("path", type=CACHE)
@click.option("--repair", is_flag=True, help="Mend what is damaged, or extract it again.")
@moved_clips()
@workers
@model_options
@reading_limits
def verify(
    path: Path, repair: bool, clips: tuple[Path, ...], workers: int | None, **where: Any
) -> None:
    """Check every byte of a cache, and name damaged clips.

    The cache may be a file or a folder of parts. With --repair just those are extracted again. A
    clip whose video is gone, or is no longer the same file, leaves the cache and is listed in its
    failures. Damage outside of the features is mended where it can be shown what was there.
    """
    share_the_cores()
    read = path if repair else path_of(local(str(path)))
    with written(read, exists=True, damaged=repair) as here:
        code = _verify(here, path, repair, clips, workers, **where)
    sys.exit(code)


def _verify(
    path: Path, name: Path, repair: bool, clips: tuple[Path, ...], workers: int | None, **where: Any
) -> int:
    """Check and repair the cache of a name; return the exit code."""
    from data import cache as store

    with ProgressBar("checked", may_be_quick=True) as bar:
        problems = store.verify(path, bar.update)
    for problem in problems:
        echo(str(problem))
    sources: Sequence[Clip] = ()
    if problems and repair and clips:
        from data.manifests import list_clips

        sources = list_clips(clips)
    mended = store.restore(path, [clip.id for clip in sources]) if problems and repair else []
    for done in mended:
        log(done)
    if mended:
        problems = store.verify(path)
    if problems and repair:
        from pipeline.extraction import print_summary, progress_callback, repair_cache

        with ProgressBar("clips") as bar:
            summary = repair_cache(
                path,
                problems,
                sources=sources,
                workers=workers,
                progress=progress_callback(bar),
                **where,
            )
        print_summary(summary)
        if not summary.interrupted and not path.exists():
            raise HeliographError(f"{name} was removed: every clip had to leave it")
        if summary.interrupted:
            raise StoppedError("interrupted: run the same command again to go on")
        left = store.verify(path)
        if left:
            raise HeliographError(
                f"{name} is not sound: {counted(len(left), 'problem')} left; {store.way_out(name)}"
            )
        log(f"{name} is sound; {counted(len(summary.failed), 'clip')} had to leave it")
        return SOME_CLIPS_FAILED if summary.failed else 0
    if problems:
        others = (one.way_out for one in problems if one.way_out is not None)
        way_out = next(others, store.way_out(name))
        raise HeliographError(
            f"{name} is not sound: {counted(len(problems), 'problem')}"
            + (f"; {way_out}" if way_out else "")
        )
    if repair:
        store.sweep_shards(path)
    log(f"{name} is sound")
    return 0


@cache.command(
    epilog=examples(
        "heliograph cache label clips.h5 clips.csv",
        "heliograph cache label clips.h5 clips.csv --prune",
    )
)
@click.argument("path", type=CACHE, metavar="CACHE")
@click.argument("table", type=CLIPS)
@click.option("--prune", is_flag=True, help="Remove the clips that TABLE does not name.")
def label(path: Path, table: Path, prune: bool) -> None:
    """Set labels and objects to those of a table.

    So are scenarios and units of CACHE. Clips are found by id. Features stay as they are, and where
    nothing changes the file does. What changes is printed.
    """
    from data import cache as store

    clips = table_clips(table)
    with written(path, exists=True) as here:
        changes = store.label(here, clips, prune=prune)
    for sentence in changes.columns:
        echo(sentence)
    if changes.unnamed:
        what = "were removed" if prune else "stay as they are: --prune removes them"
        echo(f"{path}: {some_clips(changes.unnamed)} not in {table} {what}")
    if changes.missing:
        echo(f"{table}: {some_clips(changes.missing)} not in {path}")
    changed = changes.columns or (prune and changes.unnamed)
    log(f"{path}: {'labels changed' if changed else 'nothing to change'}")


@cache.command(
    epilog=examples(
        "heliograph cache merge first.h5 second.h5 -o both.h5",
        "heliograph cache merge shards/*.h5 -o all.h5 --overwrite",
    )
)
@click.argument("paths", nargs=-1, type=INPUT, required=True)
@cache_out("Cache to write", parts=True)
@part_size
@overwrite
def merge(paths: tuple[Path, ...], out: Path, part_size: float | None, overwrite: bool) -> None:
    """Join caches that were made in the same way.

    Each may be a file or a folder of parts. What is larger than --part-size is written as such a
    folder.
    """
    from data import cache as store

    with written(out) as here:
        if not is_there(here, overwrite, lambda: store.is_merge(here, paths), name=out):
            for note in store.merge(paths, here, part_bytes=bytes_of_part(part_size)):
                log(f"note: {note}")
            log(f"{out}: {counted(store.info(here)['clips'], 'clip')}")


@cache.command(
    epilog=examples(
        "heliograph cache consolidate clips.h5", "heliograph cache consolidate features/all.h5"
    )
)
@click.argument("out", type=CACHE)
@part_size
def consolidate(out: Path, part_size: float | None) -> None:
    """Write OUT from what processes of `extract --join` have done.

    The last of them to finish does that by itself: this is for where they died. Clips that are
    not done are counted, and the same `extract` goes on with them. What is larger than --part-size
    is written as a folder of parts.
    """
    from data import cache as store

    found = store.consolidate_joined(out, bytes_of_part(part_size))
    if not found.clips:
        clips = counted(found.failed + found.unfinished, "clip")
        raise HeliographError(
            f"{out}: nothing to consolidate: none of {clips} is done, and {found.failed} failed; "
            "the same extract command goes on with them"
        )
    log(f"{out}: {counted(found.clips, 'clip')}, {found.failed} failed")
    if found.unfinished:
        log(
            f"{counted(found.unfinished, 'clip')} not done: the same extract command goes on "
            "with them"
        )
    sys.exit(SOME_CLIPS_FAILED if found.failed or found.unfinished else 0)


@cache.command(
    "import",
    epilog=examples(
        "heliograph cache import features.pt -o clips.h5",
        "heliograph cache import i3d/ -o i3d.h5 --steps 8 --labels clips.csv",
    ),
)
@click.argument("path", type=INPUT)
@cache_out("Cache to write")
@click.option(
    "--labels",
    "table",
    type=CLIPS,
    help="Table of the clips, as `extract` takes it: their objects, labels and units.",
)
@click.option(
    "--files",
    default="*.npy",
    metavar="PATTERN",
    help="Which files of a folder; the id of a clip is what the * stands for.",
)
@click.option(
    "--steps",
    type=WholeNumber(1),
    help="Take so many time steps of each clip, evenly from the first to the last.",
    show_default="all, as many of every clip",
)
@click.option("--backbone", help="Declare the backbone that the features came from.")
@click.option("--frames", type=WholeNumber(1), help="Declare the frames per clip.")
@click.option("--pool", metavar="OUTPUT", help="Declare the output, as of `extract --pool`.")
@click.option(
    "--preprocess", help="Declare the preprocessing: official or paper.", show_default="official"
)
@overwrite
def import_(
    path: Path,
    out: Path,
    table: Path | None,
    files: str,
    steps: int | None,
    backbone: str | None,
    frames: int | None,
    pool: str | None,
    preprocess: str | None,
    overwrite: bool,
) -> None:
    """Read features of another program.

    A .pt is a file of the paper. An .npz, .safetensors or .parquet has arrays named as in our
    exports: features, and clip_id, object, label_mass and the like where they are known; an .h5 has
    datasets named as in a cache. Of a folder each .npy is a clip, as video_features writes them.

    Nothing in a file is executed. What it does not say can be declared: with --backbone and
    --frames a run that is trained on it takes new videos, too. What is declared is checked as far
    as it can be, and is shown as declared wherever it is shown.
    """
    from data import cache as store
    from data.interchange import import_features

    if backbone is not None:
        from backbones import find_output

        pool = find_output(backbone, pool)  # a wrong name fails at once
    elif pool is not None:
        raise InvalidValueError(f"--pool {pool} is an output of a backbone: name it in --backbone")
    if preprocess not in (None, "official", "paper"):
        raise InvalidValueError(f"no preprocessing {preprocess!r}: choose official or paper")
    features = import_features(
        path,
        backbone=backbone,
        frames=frames,
        preprocess=preprocess,
        output=pool,
        files=files,
        steps=steps,
        clips=table_clips(table) if table else (),
    )
    _, found, dim = features.features.shape
    counts = (found, found + 1)  # the second is that of `motion`
    if backbone is None and frames and found and all(frames % count for count in counts):
        raise InvalidValueError(
            f"{path} has {counted(found, 'time step')}, which {counted(frames, 'frame')} cannot "
            "give"
        )
    if backbone is not None:
        from backbones import refuse_impossible

        refuse_impossible(
            backbone, steps=found, dim=dim, frames=frames, preprocess=preprocess, output=pool
        )
    sha256 = features.content_sha256
    with written(out) as here:
        if not is_there(
            here, overwrite, lambda: store.load(here).content_sha256 == sha256, name=out
        ):
            store.save(features, here)
            log(f"{out}: {features}")


@cache.command(
    epilog=examples(
        "heliograph cache export clips.h5 -o clips.npz",
        "heliograph cache export clips.h5 -o clips.pt --property mass",
    )
)
@click.argument("path", type=INPUT)
@click.option(
    "-o",
    "--out",
    type=PATH,
    required=True,
    help="File to write: .npz, .safetensors, .parquet, .arrow, .lance or .pt.",
)
@click.option("--property", "label", default="mass", help="The label that a .pt holds.")
@overwrite
def export(path: Path, out: Path, label: str, overwrite: bool) -> None:
    """Write a cache as a file for other programs.

    The suffix says which format; .parquet and .arrow need the package pyarrow, .lance pylance. .pt
    is the paper's. A .pt cannot say that a value is unknown:
    clips without a known one are left out.
    """
    from data import cache as store
    from data.interchange import encode, export_format, write_export

    export_format(out)  # a wrong name fails at once
    exported = encode(store.load(path, mapped=True), out, property=label)
    if exported.left_out:
        some = ", ".join(exported.left_out[:3]) + (", ..." if len(exported.left_out) > 3 else "")
        left_out = counted(len(exported.left_out), "clip")
        log(f"left out: {left_out} without a known {label} ({some})")
    if not is_there(out, overwrite, lambda: has_content(out, exported.content)):
        write_export(exported, out)
        log(str(out))


def table_clips(table: Path) -> list[Clip]:
    """Return the clips of a table of labels.

    Raises:
        InvalidValueError: It is a folder.
        ClipError: It cannot be read.
    """
    from dataclasses import replace

    from data.clips import refuse_contradictions
    from data.files import sha256_file
    from data.manifests import list_clips

    if table.is_dir():
        raise InvalidValueError(f"{table} is a folder, not a table")
    clips = [
        clip if clip.table_sha256 else replace(clip, table_sha256=sha256_file(table))
        for clip in list_clips([table])
    ]
    refuse_contradictions(clips)
    return clips


def _rows(content: dict[str, Any]) -> Iterator[list[str]]:
    """Yield what `cache info` shows, a name and a text each: the content of its JSON, shortened."""
    declared = ", as declared" if content["fingerprint"].get("imported") else ""
    for name, value in content.items():
        match name:
            case "path":
                pass
            case "bytes":
                yield ["size", f"{format_size(value)} ({counted(value, 'byte')})"]
            case "labels":
                yield from ([f"label: {label}", _label(facts)] for label, facts in value.items())
            case "failures":
                yield from ([f"failed: {one['clip']}", one["reason"]] for one in value)
            case "fingerprint":
                yield [name + declared, _brief(value)]
            case _:
                yield [name.replace("_", " "), _brief(value)]


def _label(facts: dict[str, Any]) -> str:
    """Return in words what is known of a label: `90 of 100 known, 0.1 to 12`."""
    known, lowest, highest = facts["known"], facts["min"], facts["max"]
    words = f"{known:,} of {known + facts['unknown']:,} known"
    if isinstance(lowest, float) and isinstance(highest, float):
        words += f", {lowest:.4g} to {highest:.4g}"
    origin = [f"{key} {_brief(value)}" for key, value in facts.items() if key not in RANGE]
    return ", ".join([words, *origin])


def _brief(value: Any) -> str:
    """Return a value of JSON in one line of words; a key of what has no value is left out."""
    match value:
        case None | "":
            return "none"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.4g}"
        case dict():
            facts = {key or "(none)": _brief(v) for key, v in value.items() if v is not None}
            nested = {key for key, each in value.items() if isinstance(each, dict)}
            words = [f"{k} ({v})" if k in nested else f"{k} {v}" for k, v in facts.items()]
            return ", ".join(words) or "none"
        case list():
            return " x ".join(map(_brief, value)) or "none"
    return str(value)
