"""The `simulate` command: clips with known physics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.cli.numbers import RealNumber, WholeNumber
from pipeline.cli.options import PATH, HelpGroup, completed_by, examples
from pipeline.console import ProgressBar, echo, log

HELP_ORDER = 20
HELP_GROUP = HelpGroup.FEATURES


@click.command(
    epilog=examples(
        "heliograph simulate ramp -o clips/",
        "heliograph simulate collision -o clips/ --grid 4 --per-cell 2",
    )
)
@click.argument("scene", shell_complete=completed_by("data.simulate", "SCENES"))
@click.option("-o", "--out", type=PATH, required=True, help="Folder for clips and manifest.")
@click.option("--grid", default=5, type=WholeNumber(2), help="Levels of each property.")
@click.option("--per-cell", default=12, type=WholeNumber(1), help="Clips per grid cell.")
@click.option(
    "--size", default=256, type=WholeNumber(32, 2048), help="Width and height, in pixels."
)
@click.option("--fps", default=24.0, type=RealNumber(1, 240), help="Frames per second.")
@click.option(
    "--seconds",
    default=2.0,
    type=RealNumber(0, 60, min_open=True),
    help="Length of a clip, in seconds.",
)
@click.option("--seed", default=0, type=WholeNumber(0), help="Other seeds, other clips.")
@click.option(
    "--nuisance",
    type=WholeNumber(0),
    metavar="SEED",
    help="Other textures, colours, lights and views than any clip without it; same physics.",
)
@click.option("--handheld", is_flag=True, help="The camera sways, as in a hand; same physics.")
@click.option(
    "--workers",
    type=WholeNumber(1),
    help="Processes that make clips.",
    show_default="one per core",
)
@click.option("--preview/--no-preview", default=True, help="Also make pictures of the clips.")
def simulate(scene: str, out: Path, preview: bool, **settings: Any) -> None:
    """Make clips of a scene with known physics.

    SCENE is ramp, fall, collision or spring. Prints the path of the manifest, which `extract`
    takes. Next to it are contact_sheet.png and the animated preview.webp.
    """
    from data import simulate as scenes

    with ProgressBar("clips") as bar:
        manifest = scenes.simulate(
            scene, out, progress=bar.update, pictures=preview, log=log, **settings
        )
    if preview:
        log(f"to look at: {out / scenes.CONTACT_SHEET}, {out / scenes.PREVIEW}")
    echo(manifest)
