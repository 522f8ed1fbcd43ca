"""Commands about what there is: simulate, probe, backbones, doctor."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from pipeline.cli.options import PATH, SOME_CLIPS_FAILED, as_json, hub_dir
from pipeline.console import ProgressBar, log, print_table


@click.command()
@click.argument("scene")
@click.option("-o", "--out", type=PATH, required=True, help="Folder for clips and manifest.")
@click.option("--grid", default=5, type=click.IntRange(2), help="Levels of each property.")
@click.option("--per-cell", default=12, type=click.IntRange(1), help="Clips per grid cell.")
@click.option(
    "--size", default=256, type=click.IntRange(32, 2048), help="Width and height, in pixels."
)
@click.option("--fps", default=24.0, help="Frames per second.")
@click.option("--seconds", default=2.0, help="Length of a clip, in seconds.")
@click.option("--seed", default=0, type=click.IntRange(0), help="Other seeds, other clips.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Processes that make clips.",
    show_default="one per core",
)
@click.option("--preview/--no-preview", default=True, help="Pictures to look at, beside the clips.")
def simulate(scene: str, out: Path, preview: bool, **settings: Any) -> None:
    """Make clips of a scene with known physics.

    SCENE is ramp, fall, collision or spring. Prints the path of the manifest, which `extract`
    takes. Beside it lie contact_sheet.png, and preview.webp, which moves.
    """
    from data import simulate as scenes

    with ProgressBar("clips") as bar:
        manifest = scenes.simulate(scene, out, progress=bar.update, **settings)
    if preview:
        scenes.contact_sheet(manifest, out / "contact_sheet.png")
        scenes.preview(manifest, out / "preview.webp")
        log(f"to look at: {out / 'contact_sheet.png'}, {out / 'preview.webp'}")
    click.echo(manifest)


@click.command()
@click.argument("files", nargs=-1, type=PATH, required=True)
@as_json
def probe(files: tuple[Path, ...], as_json: bool) -> None:
    """Say what is known of video FILES.

    Frames, times, structure, damage, and which decoders agree.
    """
    from data.video import VideoError, describe
    from data.video import probe as look

    failed = False
    for file in files:
        try:
            found = look(file)
        except VideoError as error:
            failed = True
            log(f"failed: {error}")
            continue
        click.echo(json.dumps(found.to_json()) if as_json else describe(found))
    if failed:
        sys.exit(SOME_CLIPS_FAILED if len(files) > 1 else 1)


@click.command()
@hub_dir
@as_json
def backbones(as_json: bool, hub_dir: Path | None) -> None:
    """List the models that can extract features.

    The last column says whether the weights are here. Beside these, timm:MODEL is any image model
    of timm, with the weights that timm publishes on the Hugging Face hub: timm:resnet50,
    timm:vit_base_patch16_224.dino.
    """
    from backbones import describe

    rows = describe(hub_dir=hub_dir)
    if as_json:
        click.echo(json.dumps(rows))
        return
    cells = [
        [
            str(row["name"]),
            str(row["family"]),
            str(row["dim"]),
            str(row["frames_per_step"]),
            f"{int(str(row['parameters'])) / 1e6:,.1f} M",
            f"{int(str(row['size_bytes'])) / 1e6:,.0f} MB",
            str(row["licence"]),
            "here" if row["weights"] else "to fetch" if row["size_bytes"] else "none",
        ]
        for row in rows
        if row["error"] is None
    ]
    heads = ["name", "family", "dim", "frames/step", "parameters", "size", "licence", "weights"]
    print_table(heads, cells)
    for row in rows:
        if row["error"] is not None:
            click.echo(f"{row['name']} is broken: {row['error']}")
    log("any image model of timm is timm:MODEL, such as timm:resnet50")


@click.command()
@hub_dir
@click.option("--offline", is_flag=True, help="Ask no host: count every one as out of reach.")
def doctor(hub_dir: Path | None, offline: bool) -> None:
    """Check what usually goes wrong on a machine.

    Packages, weights, decoders and devices. A `note` is on something that some commands need and
    this machine lacks, such as weights without a network to fetch them. Exits 1 only where
    something is broken.
    """
    from pipeline.doctor import BROKEN, NOTE, OK, examine

    colours = {OK: "green", NOTE: "yellow", BROKEN: "red"}
    broken = False
    for check in examine(hub_dir=hub_dir, network=not offline):
        broken |= check.level == BROKEN
        level = click.style(f"{check.level:6}", fg=colours[check.level])
        click.echo(f"{level}  {check.name}: {check.sentence}")
    sys.exit(1 if broken else 0)
