"""Commands that run a backbone over clips: extract, phase87."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import (
    PATH,
    SOME_CLIPS_FAILED,
    as_json,
    model_options,
    share_the_cores,
    workers,
)
from pipeline.console import ProgressBar, log, print_table

if TYPE_CHECKING:
    from pipeline.extraction import FeatureFileComparison


class DecoderName(click.ParamType):
    """The name of a decoder; those there are are looked up only when they are needed."""

    name = "decoder"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return the names of the decoders, for the help."""
        from data.video import DECODERS

        return f"[{'|'.join(DECODERS)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return `value` if there is a decoder of this name; otherwise a usage error."""
        from data.video import DECODERS

        if value not in DECODERS:
            self.fail(f"no decoder {value!r}: choose one of {', '.join(DECODERS)}", param, ctx)
        return str(value)


PRECISION = "auto (bf16 on a GPU that has it, else fp32), fp32, bf16 or fp16."
batch = click.option(
    "--batch",
    default=16,
    type=click.IntRange(1),
    help="Clips that a GPU takes at once; a CPU takes one.",
)


@click.command()
@click.argument("clips", nargs=-1, type=PATH, required=True)
@click.option("-o", "--out", type=PATH, required=True, help="Cache to write or go on with (.h5).")
@click.option("--backbone", default="dinov2_vits14", help="See `heliograph backbones`.")
@click.option(
    "--preprocess", default="official", help="official, or paper: as the paper's code does it."
)
@click.option("--precision", default="auto", help=PRECISION)
@click.option(
    "--sampler",
    default="uniform",
    help="uniform (over the clip), fps, window (around its middle), middle (one frame), or "
    "published: as the paper's code counts frames.",
)
@click.option("--frames", default=8, type=click.IntRange(1), help="Frames per clip.")
@click.option("--fps", type=float, help="Frames per second, for `--sampler fps`.")
@click.option(
    "--stride",
    default=1,
    type=click.IntRange(1),
    help="Frames from one to the next, for `--sampler window`.",
)
@click.option("--pad", is_flag=True, help="Repeat the last frame of clips that are too short.")
@click.option("--decoder", default="pyav", type=DecoderName(), help="Decoder of the clips.")
@click.option("--accept-damaged", is_flag=True, help="Keep damaged clips instead of failing them.")
@click.option(
    "--dtype",
    default="float16",
    type=click.Choice(["float16", "float32"]),
    help="Of the features on disk.",
)
@workers
@batch
@model_options
@as_json
def extract(
    clips: tuple[Path, ...],
    out: Path,
    backbone: str,
    preprocess: str,
    precision: str,
    sampler: str,
    frames: int,
    fps: float | None,
    stride: int,
    pad: bool,
    decoder: str,
    accept_damaged: bool,
    dtype: str,
    workers: int | None,
    batch: int,
    as_json: bool,
    **where: Any,
) -> None:
    """Extract features of CLIPS into a cache.

    CLIPS are videos, folders and manifests. A second run goes on where the first one stopped.
    """
    share_the_cores()
    import backbones
    from data.manifests import list_clips
    from data.video import Sampling
    from pipeline.extraction import extract as run_extraction
    from pipeline.extraction import print_summary, progress_callback, require_clips

    try:
        sampling = Sampling(name=sampler, frames=frames, fps=fps, stride=stride, pad=pad)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    found = list_clips(clips)
    for folder in clips:
        if (manifest := folder / "manifest.jsonl").is_file():
            log(f"{folder} is read as a folder, without labels: {manifest} has them")
    model = backbones.load(backbone, preprocess=preprocess, precision=precision, **where)
    with ProgressBar("clips") as bar:
        summary = run_extraction(
            found,
            out,
            backbone=model,
            sampling=sampling,
            decoder=decoder,
            accept_damaged=accept_damaged,
            dtype=dtype,
            workers=workers,
            batch=batch,
            progress=progress_callback(bar),
        )
    print_summary(summary)
    if as_json:
        click.echo(json.dumps(summary.to_json()))
    require_clips(summary)
    sys.exit(SOME_CLIPS_FAILED if summary.failed else 0)


@click.command()
@click.argument("root", type=PATH, required=False)
@click.option("--scenario", default="spring", help="spring, fall or ramp.")
@click.option("-o", "--out", type=PATH, help="File to write (.pt).")
@click.option("--static", is_flag=True, help="The companion file: the middle frame alone.")
@click.option(
    "--backbone",
    help="See `heliograph backbones`.",
    show_default="vjepa2_vitl; --static: dinov2_vits14",
)
@click.option(
    "--frames",
    type=click.IntRange(1),
    help="Frames per clip.",
    show_default="enough for eight time steps",
)
@click.option("--precision", default="fp32", help=PRECISION)
@batch
@click.option(
    "--compare",
    nargs=2,
    type=PATH,
    metavar="FILE FILE",
    help="Say how two such files differ, and do nothing else.",
)
@workers
@model_options
@as_json
def phase87(
    root: Path | None,
    scenario: str,
    out: Path | None,
    static: bool,
    backbone: str | None,
    frames: int | None,
    precision: str,
    batch: int,
    compare: tuple[Path, Path] | None,
    workers: int | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Rebuild the paper's feature file, or compare two.

    It is made from the Physics 101 tree ROOT. A second run goes on where the first one stopped,
    from the cache beside the file.
    """
    share_the_cores()
    from pipeline.extraction import (
        cache_path,
        compare_feature_files,
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
    settings = load_settings(
        backbone=backbone, static=static, frames=frames, precision=precision, **where
    )
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
        click.echo(json.dumps(summary.to_json()))
    require_clips(summary)
    unknown = {clip.object for clip in clips if not clip.labels["mass"] > 0}
    if unknown and not static:
        log(f"no mass is known of {', '.join(sorted(unknown))}: written as 0.0, as in the paper")
    log(str(out))
    sys.exit(SOME_CLIPS_FAILED if summary.failed else 0)


def _show(comparison: FeatureFileComparison, as_json: bool) -> None:
    values = comparison.to_json()
    if as_json:
        click.echo(json.dumps(values))
        return
    if comparison.cosine:
        worst = sorted(comparison.cosine.items(), key=lambda item: item[1])[:10]
        print_table(["clip, least alike first", "cosine"], [[k, f"{v:.6f}"] for k, v in worst])
        cosines = ", ".join(f"{name} {value:.6f}" for name, value in values["cosine"].items())
        both, equal = len(comparison.cosine), comparison.equal
        click.echo(f"{both} clips in both, {equal} equal; cosine {cosines}")
    for difference in comparison.differences or ["nothing else differs"]:
        click.echo(difference)
