"""The training stage: a cache in, a run folder out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from data import cache
from data.errors import HeliographError
from pipeline.config import build_config
from pipeline.fit import fit
from pipeline.records import Progress, SeedResult
from pipeline.run import Run, write_run
from pipeline.sources import Source, examples_of


def train(
    cache_path: Path | str,
    out: Path | str,
    *,
    properties: Sequence[str] = (),
    preset: str = "default",
    seeds: Sequence[int] = range(10),
    device: str = "auto",
    overwrite: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
    **settings: Any,
) -> Run:
    """Trains every seed on a cache and writes the run folder.

    Args:
        cache_path: as `extract` or `cache import` writes it.
        out: must not hold a run yet, unless `overwrite`.
        properties: labels to talk about; none: every label of the cache.
        preset: a key of `config.PRESETS`.
        settings: fields of `TrainConfig` that replace the preset's; None leaves it.
        progress: called with epochs done over all seeds, epochs in all, and a note.

    Raises HeliographError for whatever the user can mend: a wrong name, too few objects, a folder
    in the way.
    """
    cache_path, out = Path(cache_path), Path(out)
    if (out / "config.json").exists() and not overwrite:
        raise HeliographError(f"{out} holds a run already: choose another folder, or --overwrite")
    features = cache.load(cache_path)
    config = build_config(preset, tuple(properties) or tuple(features.labels), **settings)
    examples = examples_of(features, config.properties)
    counted = _epochs_done(len(seeds), progress) if progress else None
    results: list[SeedResult] = list(
        fit(examples, config, seeds, device=resolve_device(device), progress=counted)
    )
    return write_run(out, config, Source.of(cache_path, features), features, results)


def resolve_device(name: str) -> torch.device:
    """`auto` is the first GPU where there is one; raises HeliographError for what is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise HeliographError(f"no device {name!r} here: {str(error).splitlines()[0]}") from error
    return device


def _epochs_done(
    seeds: int, progress: Callable[[int, int, str], None]
) -> Callable[[Progress], None]:
    """Turns the progress of chunks into that of the whole."""
    finished = 0

    def update(now: Progress) -> None:
        nonlocal finished
        done = finished + now.epoch * len(now.seeds)
        if now.epoch == now.epochs:
            finished = done
        epoch = f"epoch {now.epoch} of {now.epochs}"
        if now.tau != now.tau:
            progress(done, seeds * now.epochs, f"{epoch}, encoders with both clips in sight")
            return
        note = f"{epoch}, tau {now.tau:.2f}, loss {now.loss:.3f}"
        if now.accuracy_validation == now.accuracy_validation:
            note += f", validation {100 * now.accuracy_validation:.1f} %"
        progress(done, seeds * now.epochs, note)

    return update
