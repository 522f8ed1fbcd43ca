"""Clips and features as `demo` and `experiment` make them: existing ones are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from backbones import Backbone
from data.clips import Clip
from data.errors import HeliographError
from data.manifests import read_manifest
from data.simulate import simulate
from data.video import Sampling
from data.wording import counted
from pipeline.cluster import Cluster
from pipeline.console import ProgressBar, log
from pipeline.extraction import (
    ExtractionSummary,
    extract,
    print_failures,
    progress_callback,
    require_clips,
)


def make_clips(
    folder: Path, scene: str, *, grid: int, per_cell: int, seconds: float = 2.0
) -> list[Clip]:
    """Return the clips of a scene in `folder`; they are made first where they are missing.

    What a killed process left of them is made anew.

    Raises:
        HeliographError: the folder holds another number of clips, or other things.
    """
    manifest, wanted = folder / "manifest.jsonl", grid**2 * per_cell
    if not manifest.exists():
        with ProgressBar("clips") as bar:
            simulate(
                scene,
                folder,
                grid=grid,
                per_cell=per_cell,
                seconds=seconds,
                progress=bar.update,
                log=log,
            )
    clips = read_manifest(manifest)
    if len(clips) != wanted:
        raise HeliographError(
            f"{folder} holds {counted(len(clips), 'clip')} that were made earlier, not {wanted}: "
            "choose another --out"
        )
    return clips


def extract_features(
    clips: Sequence[Clip],
    target: Path,
    *,
    backbone: Backbone | Callable[[], Backbone],
    sampling: Sampling,
    cluster: Cluster | None = None,
) -> ExtractionSummary:
    """Add the features of clips to the cache `target`, those that it lacks; failed clips are named.

    Arguments are those of `extract`.

    Raises:
        HeliographError: it was interrupted, or no clip could be extracted.
    """
    with ProgressBar("features") as bar:
        summary = extract(
            clips,
            target,
            backbone=backbone,
            sampling=sampling,
            cluster=cluster,
            progress=progress_callback(bar),
        )
    print_failures(summary)
    require_clips(summary)
    return summary
