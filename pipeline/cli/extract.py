"""The `extract` command: features of clips."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.configuration import ConfiguredCommand
from pipeline.cli.numbers import FiniteNumber, Part, WholeNumber
from pipeline.cli.options import (
    CLIPS,
    PRECISION,
    SOME_CLIPS_FAILED,
    HelpGroup,
    as_json,
    batch,
    bytes_of_part,
    completed_by,
    devices,
    examples,
    model_options,
    part_size,
    pool,
    ray_options,
    reading_limits,
    share_the_cores,
    windows,
    windows_of,
    workers,
)
from pipeline.cli.outputs import cache_out
from pipeline.console import ProgressBar, echo_json, log

if TYPE_CHECKING:
    from pipeline.cluster import Cluster

HELP_ORDER = 40
HELP_GROUP = HelpGroup.FEATURES


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


@click.command(
    cls=ConfiguredCommand,
    epilog=examples(
        "heliograph extract clips/ -o clips.h5",
        "heliograph extract clips.csv -o moved.h5 --pool motion3 --frames 16",
    ),
)
@click.argument("clips", nargs=-1, type=CLIPS, required=True)
@cache_out("Cache to write or go on with", parts=True)
@click.option(
    "--backbone",
    default="dinov2_vits14",
    help="See `heliograph backbones`.",
    shell_complete=completed_by("backbones", "BACKBONES"),
)
@pool
@click.option(
    "--preprocess", default="official", help="official, or paper: as the paper's code does it."
)
@click.option("--precision", default="auto", help=PRECISION)
@click.option(
    "--sampler",
    default="uniform",
    help="uniform (over the clip, by number), uniform-time (by time), fps, window (around its "
    "middle), middle (one frame), or published: as the paper's code counts frames.",
)
@click.option(
    "--frames",
    type=WholeNumber(1),
    help="Frames per clip.",
    show_default="8, or 1 for `--sampler middle`",
)
@click.option(
    "--fps", type=FiniteNumber(0, min_open=True), help="Frames per second, for `--sampler fps`."
)
@click.option(
    "--stride",
    default=1,
    type=WholeNumber(1),
    help="Frames from one to the next, for `--sampler window`.",
)
@windows
@click.option(
    "--part",
    type=Part(),
    metavar="I/N",
    help="Only the I-th of N contiguous parts of CLIPS, into a cache of its own: `cache merge` of "
    "the parts, in order, gives the cache of all.",
    show_default="all of CLIPS",
)
@part_size
@click.option("--pad", is_flag=True, help="Repeat the last frame of clips that are too short.")
@click.option("--decoder", default="pyav", type=DecoderName(), help="Decoder of the clips.")
@click.option(
    "--decode-device",
    default="cpu",
    type=click.Choice(["cpu", "cuda"]),
    help="Where it decodes; cuda is for --decoder torchcodec.",
)
@click.option("--accept-damaged", is_flag=True, help="Keep damaged clips instead of failing them.")
@click.option(
    "--dtype",
    default="float16",
    type=click.Choice(["float16", "float32"]),
    help="Of the features on disk.",
)
@click.option(
    "--rehash",
    is_flag=True,
    help="Read the file of every clip, also where path, size and time are as recorded.",
)
@click.option(
    "--join",
    is_flag=True,
    help="Share the work with other processes that run the same command, on any machines that see "
    "--out; the last one to finish writes it.",
)
@ray_options("the clips", "actor")
@click.option(
    "--retry-failed",
    is_flag=True,
    help="Try clips again of which two decoders died, and with --join or --ray those that failed "
    "elsewhere.",
)
@workers
@batch
@partial(model_options, device=devices)
@reading_limits
@as_json
def extract(
    clips: tuple[Path, ...],
    out: Path,
    backbone: str,
    pool: str | None,
    preprocess: str,
    precision: str,
    sampler: str,
    frames: int | None,
    fps: float | None,
    stride: int,
    every: float | None,
    span: float | None,
    part: str | None,
    part_size: float | None,
    pad: bool,
    decoder: str,
    decode_device: str,
    accept_damaged: bool,
    dtype: str,
    rehash: bool,
    join: bool,
    cluster: Cluster | None,
    retry_failed: bool,
    workers: int | None,
    batch: int | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Extract features of CLIPS into a cache.

    CLIPS are videos, folders and manifests. A second run goes on where the first one stopped. A
    large cache is a folder of parts, which every command reads as one cache (--part-size). With
    `--every` each clip is cut into windows, and each of these is a clip of the cache.
    """
    share_the_cores()
    import backbones
    from data.manifests import list_clips
    from data.remote import listed_version
    from data.video import Sampling, find_named, name_on
    from pipeline.extraction import extract as run_extraction
    from pipeline.extraction import print_summary, progress_callback, require_clips

    frames = frames or (1 if sampler == "middle" else 8)
    try:
        sampling = Sampling(name=sampler, frames=frames, fps=fps, stride=stride, pad=pad)
        decoder = name_on(decoder, decode_device)
        find_named(decoder)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    cut = windows_of(every, span)
    if cut and decoder != "pyav":
        raise click.UsageError(f"--every reads with the decoder pyav, not with {decoder}")
    if cluster and join:
        raise click.UsageError("--ray shares the clips itself: leave --join out")
    if cluster and cut:
        raise click.UsageError("--ray does not cut windows: share them with --join instead")
    found = list_clips(clips)
    for folder in clips:
        manifest = folder / "manifest.jsonl"
        if manifest.is_file() or listed_version(manifest):
            log(f"{folder} is read as a folder, without labels: {manifest} has them")
    several = [] if cluster else backbones.resolve_devices(where["device"])
    if len(several) > 1:
        if join or cut:
            raise click.UsageError(
                f"--device {where['device']} shares the clips itself, and cuts no windows: leave "
                f"{'--join' if join else '--every'} out, or run a process for each device with "
                "--join"
            )
        del where["device"]
    elif several:
        where["device"] = several[0]
    load = partial(
        backbones.load, backbone, preprocess=preprocess, precision=precision, output=pool, **where
    )
    with ProgressBar("clips") as bar:
        summary = run_extraction(
            found,
            out,
            backbone=load,
            sampling=sampling,
            windows=cut,
            part=Part.numbers(part) if part else None,
            part_bytes=bytes_of_part(part_size),
            decoder=decoder,
            accept_damaged=accept_damaged,
            dtype=dtype,
            rehash=rehash,
            join=join,
            retry_failed=retry_failed,
            cluster=cluster,
            devices=",".join(several) if len(several) > 1 else None,
            workers=workers,
            batch=batch,
            progress=progress_callback(bar),
        )
    print_summary(summary)
    if as_json:
        echo_json(summary.to_json())
    require_clips(summary)
    sys.exit(SOME_CLIPS_FAILED if summary.failed else 0)
