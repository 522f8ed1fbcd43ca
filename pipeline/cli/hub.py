"""The `hub` commands: push a run to the Hugging Face Hub, pull one from it."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import INPUT, PATH, HelpGroup, InOrder, examples, moved_clips
from pipeline.console import echo, log

HELP_ORDER = 105
HELP_GROUP = HelpGroup.AGENTS


@click.group(cls=InOrder)
def hub() -> None:
    """Share runs on the Hugging Face Hub."""


@hub.command(
    epilog=examples(
        "heliograph hub push runs/ours user/ramp", "heliograph hub push runs/ours user/ramp -o card"
    )
)
@click.argument("run", type=INPUT)
@click.argument("repository", metavar="USER/NAME")
@click.option(
    "--with-pictures", is_flag=True, help="Show a clip with each symbol in the picture of the card."
)
@click.option("--with-ids", is_flag=True, help="Keep the names of clips and objects.")
@moved_clips(", for pictures")
@click.option("--private", is_flag=True, help="Make a repository that you alone can see.")
@click.option("-o", "--out", type=PATH, help="Send nothing: write what would be sent, to a folder.")
def push(
    run: Path,
    repository: str,
    with_pictures: bool,
    with_ids: bool,
    clips: tuple[Path, ...],
    private: bool,
    out: Path | None,
) -> None:
    """Send a RUN with a model card to the Hub.

    What is sent is a copy with a manifest of its own: weights, settings, metrics, messages, labels
    and the lexicon. Features, videos, pictures of clips, names of clips and objects, and paths of
    this machine stay here; --with-pictures and --with-ids send what they say. It needs a token:
    `hf auth login`, or HF_TOKEN. Prints the address, with the commit.
    """
    from pipeline import hub as stage

    if clips and not with_pictures:
        raise click.UsageError("--clips says where the videos are, which --with-pictures shows")
    if out is None:
        address = stage.push(
            run,
            repository,
            with_pictures=with_pictures,
            with_ids=with_ids,
            clips=clips,
            private=private,
            log=log,
        )
        echo(address)
        return
    stage.prepare(
        run,
        repository,
        out,
        with_pictures=with_pictures,
        with_ids=with_ids,
        clips=clips,
        log=log,
    )
    log(f"nothing was sent: what would be is in {out}")
    echo(out)


@hub.command(
    epilog=examples(
        "heliograph hub pull user/ramp -o runs/theirs",
        "heliograph hub pull user/ramp@v1 -o runs/theirs",
    )
)
@click.argument("repository", metavar="USER/NAME[@REVISION]")
@click.option("-o", "--out", type=PATH, required=True, help="Run folder to make.")
@click.option("--overwrite", is_flag=True, help="Replace a run that is in --out.")
def pull(repository: str, out: Path, overwrite: bool) -> None:
    """Make a run folder of a run on the Hub.

    Its files are checked by its manifest, and read in a process that can be killed first. The
    commit is recorded in its metrics.json. `evaluate` needs the cache that it was trained on, next
    to the run or as --cache; `message` needs the backbone alone.
    """
    from pipeline.hub import pull as stage

    run = stage(repository, out, overwrite=overwrite)
    log(f"{out}: {run.metrics().pulled_from}")
