"""The `index` commands: a manifest of a dataset, and what is understood of a table."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from data.errors import HeliographError
from data.files import Address, atomic_write
from data.wording import counted
from pipeline.cli.options import (
    CLIPS,
    PATH,
    CommandGroup,
    HelpGroup,
    as_json,
    examples,
    reading_limits,
)
from pipeline.cli.outputs import has_content, is_there, require_free
from pipeline.console import ProgressBar, echo, echo_json, log

if TYPE_CHECKING:
    from data.clips import Clip
    from data.datasets import Choice, Dataset


HELP_ORDER = 30
HELP_GROUP = HelpGroup.FEATURES


class DatasetCommands(CommandGroup):
    """One command for each dataset in `data/datasets`, and `check`."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return `check` and the names of the datasets."""
        from data.datasets import known_datasets

        return ["check", *sorted(known_datasets())]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Return `check` or the command of a dataset; None for an unknown name."""
        from data.datasets import known_datasets

        if name == "check":
            return check
        dataset = known_datasets().get(name)
        return None if dataset is None else _command(dataset)


@click.command(cls=DatasetCommands)
def index() -> None:
    """Write a manifest of a dataset, or check a table."""


@click.command(
    epilog=examples("heliograph index check clips.csv", "heliograph index check clips.csv --json")
)
@click.argument("table", type=CLIPS)
@as_json
def check(table: Path, as_json: bool) -> None:
    """Check how a TABLE of clips is understood.

    No video is touched. Each column is a path, id, object, time or label, or is left out, with the
    reason. A table is .csv, .tsv, .json, .jsonl, .ndjson, .parquet, or a .txt of paths. Exit code 1
    if it is refused.
    """
    from data.clips import refuse_contradictions
    from data.tables import TABLE_SUFFIXES, read_table

    if table.suffix.lower() not in TABLE_SUFFIXES:
        raise click.UsageError(f"{table} is no table: those are {', '.join(TABLE_SUFFIXES)}")
    read = read_table(table)
    if not read.clips:
        raise HeliographError(f"there are no clips in {table}")
    refuse_contradictions(read.clips)
    here = [clip.path for clip in read.clips if not isinstance(clip.path, Address)]
    gone = [path for path in here if not path.exists()]
    if as_json:
        first = str(gone[0]) if gone else None
        echo_json({**read.summary.to_json(), "missing_files": len(gone), "first_missing": first})
        return
    for line in read.summary.lines():
        echo(line)
    if gone:
        clips = "1 clip names a file" if len(gone) == 1 else f"{len(gone)} clips name files"
        echo(f"warning: {clips} that cannot be found, first {gone[0]}")
    if elsewhere := len(read.clips) - len(here):
        clips = counted(elsewhere, "clip")
        echo(f"note: {clips} at addresses: whether files are there was not looked at")


def _command(dataset: Dataset) -> click.Command:
    """Return the command of a dataset, with the options that the dataset has."""
    params: list[click.Parameter] = [
        click.Argument(["root"], type=PATH, required=False),
        _flag("describe", "Say what the dataset is, and nothing else."),
    ]
    params += [
        click.Option([_dashed(choice.name)], default=choice.default, help=choice.help)
        for choice in dataset.choices
    ]
    if dataset.conditions is not None:
        held_out = "The condition that splits hold out, in place of the object."
        params += [
            _flag("factors", dataset.conditions_help),
            click.Option(["--hold-out-by"], help=held_out),
        ]
    params += [_flag(measured.label, measured.help) for measured in dataset.measurements]
    if dataset.measurements:
        tracks = f"Folder for pictures of the tracks of {_measured_options(dataset)}."
        params.append(click.Option(["--plots"], type=PATH, help=tracks))
    params.append(click.Option(["-o", "--out"], type=PATH, help="Manifest to write (.jsonl)."))
    outputs = "--out and in --plots" if dataset.measurements else "--out"
    params.append(_flag("overwrite", f"Replace what is at {outputs}."))

    def run(**options: Any) -> None:
        write_index(dataset, **options)

    if dataset.measurements:
        run = reading_limits(run)
        params += reversed(run.__click_params__)  # type: ignore[attr-defined]
    shown = examples(
        f"heliograph index {dataset.name} --describe",
        f"heliograph index {dataset.name} ROOT -o clips.jsonl",
    )
    return click.Command(
        dataset.name, callback=run, params=params, help=dataset.summary, epilog=shown
    )


def _flag(name: str, text: str) -> click.Option:
    return click.Option([_dashed(name)], is_flag=True, help=text)


def _dashed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _measured_options(dataset: Dataset) -> str:
    return ", ".join(_dashed(measured.label) for measured in dataset.measurements)


def write_index(
    dataset: Dataset,
    *,
    root: Path | None,
    out: Path | None,
    describe: bool,
    overwrite: bool,
    factors: bool = False,
    hold_out_by: str | None = None,
    plots: Path | None = None,
    **options: Any,
) -> None:
    """Write the manifest of a dataset; `options` are its choices and measurements."""
    from data.datasets import count_unknown
    from data.manifests import encode_manifest

    if describe:
        for line in dataset.description.splitlines():
            echo(line)
        return
    if root is None or out is None:
        raise click.UsageError("name a ROOT and a manifest with --out, or ask to --describe")
    if out.suffix.lower() != ".jsonl":
        raise click.UsageError(
            f"{out}: manifests are written as .jsonl, so choose a name that ends so"
        )
    if plots and not any(options[measured.label] for measured in dataset.measurements):
        raise click.UsageError(f"--plots shows the tracks of {_measured_options(dataset)}")
    choices = {choice.name: _checked(choice, options[choice.name]) for choice in dataset.choices}
    clips = dataset.index(root, **choices)
    objects = len({clip.object for clip in clips})
    for measured in dataset.measurements:
        if options[measured.label]:
            clips = _with_measurement(dataset, measured.label, clips, plots, overwrite)
    if factors:
        clips, numbers = dataset.with_factors(clips)
        for name, values in numbers.items():
            log(f"{name}: " + ", ".join(f"{value} is {n:g}" for value, n in values.items()))
    if hold_out_by:
        clips = dataset.held_out_by(clips, hold_out_by)
    manifest = encode_manifest(clips, out)
    if not is_there(out, overwrite, lambda: has_content(out, manifest)):
        atomic_write(out, manifest)
    for label, count in count_unknown(clips).items():
        if count:
            log(f"{counted(count, 'clip')} {'has' if count == 1 else 'have'} no {label}")
    log(f"{out}: {counted(len(clips), 'clip')} of {counted(objects, 'object')}")


def _checked(choice: Choice, value: str) -> str:
    if value not in choice.values:
        known = ", ".join(choice.values)
        raise click.UsageError(f"no {choice.name} {value!r}: choose one of {known}")
    return value


def _with_measurement(
    dataset: Dataset, label: str, clips: list[Clip], plots: Path | None, overwrite: bool
) -> list[Clip]:
    measurement = next(measured for measured in dataset.measurements if measured.label == label)
    scenario = measurement.scenario
    if not any(clip.scenario == scenario for clip in clips):
        raise click.UsageError(
            f"{_dashed(label)} is measured in clips of {scenario}, and there are none"
        )
    pictures: dict[Path, bytes] = {}
    with ProgressBar(f"{scenario}s") as bar:
        labelled, qualities = measurement.measure(
            clips,
            show=None if plots is None else lambda name, png: pictures.update({plots / name: png}),
            progress=bar.update,
        )
    for path, picture in pictures.items():  # none is written where one may not be
        require_free(path, overwrite or _holds(path, picture), option="--plots")
    for path, picture in pictures.items():
        atomic_write(path, picture)
    kinds = Counter(quality.partition(":")[0] for quality in qualities.values())
    log(f"{label}: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()))
    return labelled


def _holds(path: Path, content: bytes) -> bool:
    """Return whether a file is there and has this content."""
    try:
        return has_content(path, content)
    except (OSError, HeliographError):
        return False
