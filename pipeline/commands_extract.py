"""Commands that run a backbone over clips: extract."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from data.errors import HeliographError
from pipeline.options import (
    PATH,
    SOME_CLIPS_FAILED,
    as_json,
    model_options,
    share_the_cores,
    workers,
)
from pipeline.terminal import Bar, duration, log

if TYPE_CHECKING:
    from pipeline.extract import Summary


@click.command()
@click.argument("clips", nargs=-1, type=PATH, required=True)
@click.option("-o", "--out", type=PATH, required=True, help="Cache to write or go on with (.h5).")
@click.option("--backbone", default="dinov2_vits14", help="See `heliograph backbones`.")
@click.option("--preprocess", default="official", help="official, or paper.")
@click.option("--precision", default="auto", help="auto, fp32, bf16 or fp16.")
@click.option("--sampler", default="uniform", help="uniform, fps, window, middle or published.")
@click.option("--frames", default=8, type=click.IntRange(1), help="Frames per clip.")
@click.option("--fps", type=float, help="Frames per second, for `--sampler fps`.")
@click.option("--stride", default=1, type=click.IntRange(1), help="For `--sampler window`.")
@click.option("--pad", is_flag=True, help="Repeat the last frame of a clip that is too short.")
@click.option("--decoder", default="pyav", help="pyav, decord or torchcodec.")
@click.option("--accept-damaged", is_flag=True, help="Keep damaged clips instead of failing them.")
@click.option("--dtype", default="float16", type=click.Choice(["float16", "float32"]))
@workers
@click.option("--batch", default=16, type=click.IntRange(1), help="Clips in a pass of a GPU.")
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
    """Features of CLIPS (videos, folders, manifests) into a cache.

    A second run goes on where the first one stopped.
    """
    share_the_cores()
    import backbones
    from data.clips import find
    from data.sampling import Sampling
    from pipeline import extract as stage

    try:
        sampling = Sampling(name=sampler, frames=frames, fps=fps, stride=stride, pad=pad)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    found = find(clips)
    model = backbones.load(backbone, preprocess=preprocess, precision=precision, **where)
    with Bar("clips") as bar:
        summary = stage.extract(
            found,
            out,
            backbone=model,
            sampling=sampling,
            decoder=decoder,
            accept_damaged=accept_damaged,
            dtype=dtype,
            workers=workers,
            batch=batch,
            progress=on(bar),
        )
    say(summary)
    if as_json:
        click.echo(json.dumps(summary.to_json()))
    sys.exit(exit_code(summary))


def on(bar: Bar) -> Callable[[Summary], None]:
    """What shows the progress of an extraction on a bar."""

    def progress(summary: Summary) -> None:
        counts = {"done": summary.done, "failed": len(summary.failed), "kept": summary.kept}
        parts = [f"{count} {name}" for name, count in counts.items() if count or name != "kept"]
        parts.append(f"{summary.frames_per_second:.0f} frames/s")
        if summary.bottleneck:
            parts.append(f"bottleneck: {summary.bottleneck}")
        bar.update(
            summary.finished, summary.clips, ", ".join(parts), seconds_left=summary.seconds_left
        )

    return progress


def say(summary: Summary) -> None:
    """The failures and the sum of an extraction, on stderr."""
    for clip, reason in summary.failed.items():
        log(f"failed: {clip}: {reason}")
    limited = f", bottleneck: {summary.bottleneck}" if summary.bottleneck else ""
    log(
        f"{summary.target}: {summary.done} clips extracted, {summary.kept} kept, "
        f"{len(summary.failed)} failed in {duration(summary.seconds)} "
        f"({summary.frames_per_second:.0f} frames/s{limited})"
    )


def exit_code(summary: Summary) -> int:
    """0 or 3; raises HeliographError for an extraction that cannot count as done."""
    if summary.interrupted:
        raise HeliographError(
            f"interrupted with {summary.finished} of {summary.clips} clips finished: "
            "run the same command again to go on"
        )
    if summary.failed and not (summary.done or summary.kept):
        raise HeliographError("no clip could be extracted")
    return SOME_CLIPS_FAILED if summary.failed else 0
