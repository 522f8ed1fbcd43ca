"""Commands about data: simulate, index, extract, cache, probe, backbones, doctor."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from data.errors import HeliographError
from pipeline.options import PATH, SOME_CLIPS_FAILED, as_json, hub_dir, model_options
from pipeline.terminal import Bar, log, print_table


@click.command()
@click.argument("scene")
@click.option("-o", "--out", type=PATH, required=True, help="Folder for clips and manifest.")
@click.option("--grid", default=5, type=click.IntRange(2), help="Levels of each property.")
@click.option("--per-cell", default=12, type=click.IntRange(1), help="Clips per pair of levels.")
@click.option("--size", default=256, type=click.IntRange(32, 2048), help="Pixels of a side.")
@click.option("--fps", default=24.0, help="Frames per second.")
@click.option("--seconds", default=2.0, help="Length of a clip.")
@click.option("--seed", default=0, type=click.IntRange(0), help="Other seeds, other clips.")
@click.option("--workers", type=click.IntRange(1), help="Processes.  [default: one per core]")
def simulate(scene: str, out: Path, **settings: Any) -> None:
    """Make clips of a SCENE with known physics: ramp, fall, collision or spring.

    Prints the path of the manifest, which `extract` takes.
    """
    from data.simulate import simulate as make

    with Bar("clips") as bar:
        manifest = make(scene, out, progress=bar.update, **settings)
    click.echo(manifest)


@click.group()
def index() -> None:
    """List the clips of a dataset as a manifest, with labels and identities."""


@index.command()
@click.argument("root", type=PATH)
@click.option("--scenario", default="all", help="spring, fall, ramp, ... or all.")
@click.option("--camera", default="Camera_1", help="Which recording of each trial.")
@click.option("-o", "--out", type=PATH, required=True, help="Manifest to write (.jsonl).")
def physics101(root: Path, scenario: str, camera: str, out: Path) -> None:
    """Clips of MIT Physics 101 under ROOT, with mass, volume and density."""
    from data.clips import write_manifest
    from data.physics101 import index as index_tree
    from data.physics101 import unknown

    clips = index_tree(root, scenario=scenario, camera=camera)
    write_manifest(clips, out)
    for label, count in unknown(clips).items():
        if count:
            log(f"{count} clips have no {label}")
    log(f"{out}: {len(clips)} clips of {len({clip.object for clip in clips})} objects")


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
@click.option("--workers", default=2, type=click.IntRange(1), help="Processes that decode.")
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
    workers: int,
    as_json: bool,
    **where: Any,
) -> None:
    """Features of CLIPS (videos, folders, manifests) into a cache.

    A second run goes on where the first one stopped.
    """
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

        def progress(summary: stage.Summary) -> None:
            finished = summary.done + summary.kept + len(summary.failed)
            rate = summary.frames / max(summary.seconds, 1e-9)
            bar.update(
                finished, summary.clips, f"{len(summary.failed)} failed, {rate:.0f} frames/s"
            )

        summary = stage.extract(
            found,
            out,
            backbone=model,
            sampling=sampling,
            decoder=decoder,
            accept_damaged=accept_damaged,
            dtype=dtype,
            workers=workers,
            progress=progress,
        )
    for clip, reason in summary.failed.items():
        log(f"failed: {clip}: {reason}")
    if as_json:
        click.echo(json.dumps(summary.to_json()))
    log(
        f"{out}: {summary.done} clips extracted, {summary.kept} kept, {len(summary.failed)} failed "
        f"in {summary.seconds:.1f} s"
    )
    if summary.interrupted:
        raise HeliographError("interrupted: run the same command again to go on")
    if summary.failed and not (summary.done or summary.kept):
        raise HeliographError("no clip could be extracted")
    sys.exit(SOME_CLIPS_FAILED if summary.failed else 0)


@click.group()
def cache() -> None:
    """Look into feature caches, check, join, import and export them."""


@cache.command()
@click.argument("path", type=PATH)
@as_json
def info(path: Path, as_json: bool) -> None:
    """What a cache holds and how it came to be."""
    from data import cache as store

    found = store.info(path)
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [[name, _brief(value)] for name, value in found.items() if name != "failures"]
    rows += [[f"failed: {one['clip']}", one["reason"]] for one in found["failures"]]
    print_table(["", str(path)], rows, right=False)


@cache.command()
@click.argument("path", type=PATH)
def verify(path: Path) -> None:
    """Check every byte of a cache; names the clips that are damaged."""
    from data import cache as store

    problems = store.verify(path)
    for problem in problems:
        click.echo(str(problem))
    if problems:
        raise HeliographError(f"{path} is not sound: {len(problems)} problems")
    log(f"{path} is sound")


@cache.command()
@click.argument("paths", nargs=-1, type=PATH, required=True)
@click.option("-o", "--out", type=PATH, required=True, help="Cache to write (.h5).")
def merge(paths: tuple[Path, ...], out: Path) -> None:
    """Join caches that were made in the same way."""
    from data import cache as store

    store.merge(paths, out)
    log(f"{out}: {store.info(out)['clips']} clips")


@cache.command("import")
@click.argument("path", type=PATH)
@click.option("-o", "--out", type=PATH, required=True, help="Cache to write (.h5).")
@click.option("--backbone", help="Declare the backbone that the features came from.")
@click.option("--frames", type=click.IntRange(1), help="Declare the frames per clip.")
@click.option("--preprocess", help="Declare the preprocessing: official or paper.")
def import_(
    path: Path, out: Path, backbone: str | None, frames: int | None, preprocess: str | None
) -> None:
    """Read a feature file of the paper (.pt), without executing anything in it."""
    from data import cache as store
    from data.interchange import import_pt

    features = import_pt(path, backbone=backbone, frames=frames, preprocess=preprocess)
    store.save(features, out)
    log(f"{out}: {features}")


@cache.command()
@click.argument("path", type=PATH)
@click.option("-o", "--out", type=PATH, required=True, help=".pt, .npz or .safetensors")
def export(path: Path, out: Path) -> None:
    """Write a cache as a file for other programs, by its suffix; .pt is the paper's format."""
    from data import cache as store
    from data.interchange import export as write

    write(store.load(path), out)
    log(str(out))


@click.command()
@click.argument("files", nargs=-1, type=PATH, required=True)
@as_json
def probe(files: tuple[Path, ...], as_json: bool) -> None:
    """What we know about video FILES: frames, times, structure, damage."""
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


def _brief(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@click.command()
@hub_dir
@as_json
def backbones(as_json: bool, hub_dir: Path | None) -> None:
    """The models that can extract features, and whether their weights are here."""
    from backbones import describe

    rows = describe(hub_dir=hub_dir)
    if as_json:
        click.echo(json.dumps(rows))
        return
    cells = [
        [str(row["name"]), *["-"] * 5, f"broken: {row['error']}"]
        if row["error"] is not None
        else [
            str(row["name"]),
            str(row["dim"]),
            str(row["frames_per_step"]),
            f"{row['parameters']:,}",
            f"{int(str(row['size_bytes'])) / 1e6:,.0f} MB",
            str(row["licence"]),
            "here" if row["weights"] else "to fetch",
        ]
        for row in rows
    ]
    print_table(["name", "dim", "frames/step", "parameters", "size", "licence", "weights"], cells)


@click.command()
@hub_dir
@click.option("--offline", is_flag=True, help="Ask no hosts whether they can be reached.")
def doctor(hub_dir: Path | None, offline: bool) -> None:
    """Check what usually goes wrong: packages, weights, decoders, devices."""
    from pipeline.doctor import examine

    well = True
    for check in examine(hub_dir=hub_dir, network=not offline):
        well &= check.ok
        mark = click.style("ok  ", fg="green") if check.ok else click.style("look", fg="red")
        click.echo(f"{mark}  {check.name}: {check.sentence}")
    sys.exit(0 if well else 1)
