"""Puts a damaged cache right: the clips that `verify` names are extracted again, the rest stays."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import backbones
from data import cache
from data.cache import Features, read_metadata
from data.clips import Clip
from data.errors import HeliographError
from data.video import Sampling
from pipeline.extraction.extract import extract
from pipeline.extraction.stages import Summary


def repair(
    path: Path,
    problems: Sequence[cache.Problem],
    *,
    sources: Sequence[Clip] = (),
    workers: int | None = None,
    progress: Callable[[Summary], None] | None = None,
    **where: Any,
) -> Summary:
    """Extracts the clips of `problems` again, in the way in which the cache was made.

    Where their videos are is known from the cache's ledger, or from `sources`, by id; a video must
    have the bytes that it had. A clip whose video is gone or changed leaves the cache and stands
    among its failures, since features that do not match their hash are nobody's. `where`: device,
    weights and hub_dir of `backbones.load`.

    Raises HeliographError, and changes nothing, where the damage is not in the features of clips,
    where no video is known for one of them, or where the backbone or decoder here is another.
    """
    whole = [problem.reason for problem in problems if problem.clip is None]
    if whole:
        raise HeliographError(f"{whole[0]}; that cannot be repaired clip by clip: extract again")
    found = read_metadata(path).clips
    made_with = found.fingerprint
    if made_with.get("imported"):
        raise HeliographError(f"{path} was imported, and there are no videos to repair it from")
    damaged = [problem.clip for problem in problems if problem.clip is not None]
    clips, hashes = _clips(path, found, damaged, {clip.id: clip for clip in sources})
    model = backbones.load_from_fingerprint(made_with, **where)
    return extract(
        clips,
        path,
        backbone=model,
        sampling=Sampling(**found.sampler),
        decoder=found.decoder["name"],
        accept_damaged=True,  # these bytes were good enough before
        dtype=str(found.features.dtype),
        workers=workers,
        repair=hashes,
        progress=progress,
    )


def _clips(
    path: Path, found: Features, damaged: Sequence[str], sources: dict[str, Clip]
) -> tuple[list[Clip], dict[str, str]]:
    """The damaged clips with identities, labels and videos; and the hashes of their videos."""
    ledger: dict[str, dict[str, Any]] = {}
    for entry in cache.read_ledger(path):
        if entry["outcome"] in ("done", "kept"):  # where it was kept it lay where that line says
            ledger[entry["clip"]] = ledger.get(entry["clip"], {}) | entry
    rows = {clip_id: row for row, clip_id in enumerate(found.clip_id)}
    clips, hashes, unknown = [], {}, []
    for name in damaged:
        entry, row, source = ledger.get(name, {}), rows.get(name), sources.get(name)
        if source is None and "path" not in entry:
            unknown.append(name)
            continue
        clip = source or Clip(
            id=name,
            path=Path(entry["path"]),
            start=entry.get("start"),
            end=entry.get("end"),
            object=entry.get("object", ""),
            scenario=entry.get("scenario", ""),
            labels={
                label: math.nan if value is None else value
                for label, value in entry.get("labels", {}).items()
            },
        )
        hashes[name] = entry.get("source_sha256", "")
        if row is not None:
            labels = {label: float(values[row]) for label, values in found.labels.items()}
            clip = replace(
                clip, object=found.object[row], scenario=found.scenario[row], labels=labels
            )
            hashes[name] = found.source_sha256[row] or hashes[name]
        clips.append(clip)
    if unknown:
        raise HeliographError(
            f"{path} has no ledger that says where the videos of {len(unknown)} clips are "
            f"({unknown[0]}): name them with --clips"
        )
    return clips, {name: sha256 for name, sha256 in hashes.items() if sha256}
