"""The `phase87` command: the feature file of the paper, rebuilt or compared."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.numbers import WholeNumber
from pipeline.cli.options import (
    INPUT,
    PATH,
    PRECISION,
    SOME_CLIPS_FAILED,
    HelpGroup,
    as_json,
    batch,
    completed_by,
    examples,
    model_options,
    pool,
    reading_limits,
    share_the_cores,
    workers,
)
from pipeline.cli.outputs import overwrite, require_free
from pipeline.console import ProgressBar, echo, echo_json, log, print_table

if TYPE_CHECKING:
    from pipeline.extraction import FeatureFileComparison

HELP_ORDER = 120
HELP_GROUP = HelpGroup.PAPER


@click.command(
    epilog=examples(
        "heliograph phase87 phys101/ --scenario spring -o spring.pt",
        "heliograph phase87 --compare mine.pt theirs.pt",
    )
)
@click.argument("root", type=PATH, required=False)
@click.option("--scenario", default="spring", help="spring, fall or ramp.")
@click.option("-o", "--out", type=PATH, help="File to write (.pt).")
@click.option("--static", is_flag=True, help="The companion file: the middle frame alone.")
@click.option(
    "--backbone",
    help="See `heliograph backbones`.",
    shell_complete=completed_by("backbones", "BACKBONES"),
    show_default="vjepa2_vitl; --static: dinov2_vits14",
)
@pool
@click.option(
    "--frames",
    type=WholeNumber(1),
    help="Frames per clip.",
    show_default="enough for eight time steps",
)
@click.option("--precision", default="fp32", help=PRECISION)
@batch
@click.option(
    "--compare",
    nargs=2,
    type=INPUT,
    metavar="FILE FILE",
    help="Say how two such files differ, and do nothing else.",
)
@overwrite
@workers
@model_options
@reading_limits
@as_json
def phase87(
    root: Path | None,
    scenario: str,
    out: Path | None,
    static: bool,
    backbone: str | None,
    pool: str | None,
    frames: int | None,
    precision: str,
    batch: int | None,
    compare: tuple[Path, Path] | None,
    overwrite: bool,
    workers: int | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Rebuild the paper's feature file, or compare two.

    It is made from the Physics 101 tree ROOT. A second run goes on where the first one stopped,
    from the cache next to the file; a file that is not of that cache is not replaced.
    """
    share_the_cores()
    from pipeline.extraction import (
        cache_path,
        compare_feature_files,
        is_rebuilt,
        load_settings,
        print_summary,
        progress_callback,
        rebuild_feature_file,
        require_clips,
        scenario_clips,
    )

    if compare:
        if root or out:
            raise click.UsageError("--compare takes two files and no ROOT or --out")
        _show(compare_feature_files(*compare), as_json)
        return
    if root is None or out is None:
        raise click.UsageError("name a ROOT and a file with --out, or two files with --compare")
    if static and frames:
        raise click.UsageError("--static is of one frame, so it takes no --frames")
    clips = scenario_clips(root, scenario)
    cache_path(out)
    require_free(out, overwrite or is_rebuilt(out))
    settings = load_settings(
        backbone=backbone,
        static=static,
        frames=frames,
        precision=precision,
        output=pool,
        **where,
    )
    log(f"{settings.backbone.name}, preprocessing: {settings.backbone.preprocess.name}")
    with ProgressBar("clips") as bar:
        summary = rebuild_feature_file(
            clips,
            out,
            settings,
            scenario=scenario,
            workers=workers,
            batch=batch,
            progress=progress_callback(bar),
        )
    print_summary(summary)
    if as_json:
        echo_json(summary.to_json())
    require_clips(summary)
    unknown = {clip.object for clip in clips if not clip.labels["mass"] > 0}
    if unknown and not static:
        log(f"no mass is known of {', '.join(sorted(unknown))}: written as 0.0, as in the paper")
    log(str(out))
    sys.exit(SOME_CLIPS_FAILED if summary.failed else 0)


def _show(comparison: FeatureFileComparison, as_json: bool) -> None:
    values = comparison.to_json()
    if as_json:
        echo_json(values)
        return
    if comparison.cosine:
        worst = sorted(comparison.cosine.items(), key=lambda item: item[1])[:10]
        print_table(["clip, least alike first", "cosine"], [[k, f"{v:.6f}"] for k, v in worst])
        cosines = ", ".join(f"{name} {value:.6f}" for name, value in values["cosine"].items())
        both, equal = len(comparison.cosine), comparison.equal
        echo(f"{both} clips in both, {equal} equal; cosine {cosines}")
    for difference in comparison.differences or ["nothing else differs"]:
        echo(difference)
