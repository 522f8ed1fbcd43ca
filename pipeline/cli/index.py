"""The `index` command: a manifest of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import PATH
from pipeline.console import Bar, log

if TYPE_CHECKING:
    from data.clips import Clip


@click.group()
def index() -> None:
    """Write a manifest of a dataset: clips and labels."""


@index.command()
@click.argument("root", type=PATH, required=False)
@click.option("--describe", is_flag=True, help="Say what the dataset is, and nothing else.")
@click.option("--scenario", default="all", help="spring, fall, ramp or all.")
@click.option("--camera", default="Camera_1", help="Camera_1, Camera_2 or Kinect_RGB_1.")
@click.option("--factors", is_flag=True, help="Surfaces and other conditions as labels, too.")
@click.option("--hold-out-by", help="The condition that splits hold out, in place of the object.")
@click.option("--restitution", is_flag=True, help="The bounce in clips of fall as a label, too.")
@click.option("--plots", type=PATH, help="Folder for pictures of the tracks of --restitution.")
@click.option("-o", "--out", type=PATH, help="Manifest to write (.jsonl).")
def physics101(
    root: Path | None,
    describe: bool,
    scenario: str,
    camera: str,
    factors: bool,
    hold_out_by: str | None,
    restitution: bool,
    plots: Path | None,
    out: Path | None,
) -> None:
    """List the clips of MIT Physics 101 under ROOT.

    Their labels are the mass, volume and density of the object.
    """
    from data.datasets import physics101 as dataset
    from data.manifests import write_manifest

    if describe:
        click.echo(dataset.DESCRIPTION, nl=False)
        return
    if root is None or out is None:
        raise click.UsageError("name a ROOT and a manifest with --out, or ask to --describe")
    if out.suffix.lower() != ".jsonl":
        raise click.UsageError(f"{out}: manifests are written as .jsonl")
    if plots and not restitution:
        raise click.UsageError("--plots shows the tracks of --restitution")
    clips = dataset.index(root, scenario=scenario, camera=camera)
    objects = len({clip.object for clip in clips})
    if restitution:
        clips = _with_restitution(clips, plots)
    if factors:
        clips, codes = dataset.with_factors(clips)
        for name, numbers in codes.items():
            log(f"{name}: " + ", ".join(f"{value} is {n:g}" for value, n in numbers.items()))
    if hold_out_by:
        clips = dataset.held_out_by(clips, hold_out_by)
    write_manifest(clips, out)
    for label, count in dataset.unknown(clips).items():
        if count:
            log(f"{count} clips have no {label}")
    log(f"{out}: {len(clips)} clips of {objects} objects")


def _with_restitution(clips: list[Clip], plots: Path | None) -> list[Clip]:
    from collections import Counter

    from data.datasets import restitution

    if not any(clip.scenario == "fall" for clip in clips):
        raise click.UsageError("--restitution is measured in clips of fall, and there are none")
    with Bar("falls") as bar:
        labelled, measured = restitution.label(clips, plots=plots, progress=bar.update)
    kinds = Counter(fall.quality.partition(":")[0] for fall in measured.values())
    log("restitution: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()))
    return labelled
