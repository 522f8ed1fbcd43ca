"""Repair of a damaged cache: the clips that `verify` names are extracted again, the rest stays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import backbones
from data import cache
from data.cache import Features
from data.clips import Clip
from data.errors import HeliographError
from data.files import path_of
from data.video import Sampling
from data.windows import video_of
from data.wording import counted
from pipeline.extraction.extract import extract
from pipeline.extraction.summary import ExtractionSummary


def repair_cache(
    path: Path,
    problems: Sequence[cache.Problem],
    *,
    sources: Sequence[Clip] = (),
    workers: int | None = None,
    progress: Callable[[ExtractionSummary], None] | None = None,
    **where: Any,
) -> ExtractionSummary:
    """Extract damaged clips again, and those of lost parts, in the way in which they were made.

    The cache's ledger knows where the videos are, unless `sources` says so; a video must have the
    bytes that it had. A clip whose video is missing or changed is removed from the cache and is one
    of its failures, because features that do not match their hash cannot be trusted.

    Args:
        path: the cache.
        problems: what `data.cache.verify` found.
        sources: clips with the paths that their videos have now, matched by id.
        workers: processes that decode, as for `extract`.
        progress: as for `extract`.
        where: device, weights and hub_dir of `backbones.load`.

    Returns:
        What was done.

    Raises:
        HeliographError: nothing was changed, because there is damage outside the features of clips,
            no video is known for one of them, nothing names the clips of a part that is lost, or
            the backbone or decoder is another here.
        BackboneError: the code or weights of the backbone are missing.
    """
    lost = [problem.lost for problem in problems if problem.lost]
    elsewhere = [one.reason for one in problems if one.clip is None and one.lost is None]
    if elsewhere:
        part = "move that part away, and repair what is left"
        raise HeliographError(
            f"{elsewhere[0]}; {part if path.is_dir() else cache.how_to_replace(path)}"
        )
    table = cache.columns_of(path)
    if table.fingerprint.get("imported"):
        raise HeliographError(
            f"{problems[0]}; {path} was imported, so import it again: heliograph cache import FILE "
            f"-o {path} --overwrite"
        )
    damaged = [problem.clip for problem in problems if problem.clip is not None]
    damaged += _clips_of(path, lost, table, sources)
    clips, hashes = _clips_to_extract(path, table, damaged, {clip.id: clip for clip in sources})
    return extract(
        clips,
        path,
        backbone=backbones.load_from_fingerprint(table.fingerprint, **where),
        sampling=Sampling(**table.sampler),
        decoder=table.decoder["name"],
        accept_damaged=True,  # these bytes were good enough before
        dtype=str(table.features.dtype),
        workers=workers,
        repair=hashes,
        progress=progress,
    )


def _clips_to_extract(
    path: Path, table: Features, damaged: Sequence[str], sources: Mapping[str, Clip]
) -> tuple[list[Clip], dict[str, str]]:
    """Return the damaged clips with identities, labels and videos, and the hashes of the videos."""
    ledger = _last_entries(path)
    rows = {clip_id: row for row, clip_id in enumerate(table.clip_id)}
    clips, hashes, unknown = [], {}, []
    for clip_id in damaged:
        entry, row = ledger.get(clip_id, {}), rows.get(clip_id)
        clip = sources.get(clip_id) or (_clip_of(entry) if "path" in entry else None)
        if video := sources.get(video_of(clip_id)):
            clip = Clip(id=clip_id, path=video.path)
            if row is not None and len(table.start):
                clip = replace(clip, start=float(table.start[row]), end=float(table.end[row]))
            elif "start" in entry:
                clip = replace(clip, start=entry["start"], end=entry["end"])
        if clip is None:
            unknown.append(clip_id)
            continue
        hashes[clip_id] = entry.get("source_sha256", "")
        if row is not None:
            labels = {label: float(values[row]) for label, values in table.labels.items()}
            clip = replace(
                clip, object=table.object[row], scenario=table.scenario[row], labels=labels
            )
            hashes[clip_id] = table.source_sha256[row] or hashes[clip_id]
        clips.append(clip)
    if unknown:
        raise HeliographError(
            f"{path} has no ledger that says where the videos of "
            f"{counted(len(unknown), 'clip')} are ({unknown[0]}): name them with --clips"
        )
    return clips, hashes


def _clips_of(
    path: Path, lost: Sequence[cache.Part], table: Features, sources: Sequence[Clip]
) -> list[str]:
    """Return the clips of lost parts in order, that of `sources` if they are named there.

    They are those that the ledger calls done, and no other part has; without it those of `sources`
    if they are as many.
    """
    if not lost:
        return []
    count = sum(part.clips for part in lost)
    last = {entry["clip"]: entry["outcome"] for entry in cache.read_ledger(path)}
    known, failed = set(table.clip_id), {clip for clip, _ in table.failures}
    done = (clip for clip, outcome in last.items() if outcome in ("done", "kept"))
    found = [clip for clip in done if clip not in known]
    named = [clip.id for clip in sources if clip.id not in known | failed]
    if len(found) < count:
        # Where no failure is known, they may have been in the part.
        fits = len(named) == count or (len(named) > count and not failed)
        if fits and set(found) <= set(named):
            return named
        also = f", and --clips names {len(named)} that no other part has" if sources else ""
        raise HeliographError(
            f"{lost[0].path} is gone or damaged, with {counted(count, 'clip')} in all, and {path} "
            f"has no ledger that names them{also}: name just the clips of the cache with --clips, "
            "or join its other parts (heliograph cache merge PART ... -o NEW)"
        )
    if list(table.clip_id) == sorted(table.clip_id):
        found.sort()
    order = {clip.id: number for number, clip in enumerate(sources)}
    return sorted(found, key=lambda clip: order.get(clip, order.get(video_of(clip), len(order))))


def _last_entries(path: Path) -> dict[str, dict[str, Any]]:
    """Return what the ledger has about each clip, later lines over earlier ones."""
    entries: dict[str, dict[str, Any]] = {}
    for line in cache.read_ledger(path):
        if line["outcome"] in ("done", "kept"):  # a video may have moved before it was kept
            entries[line["clip"]] = entries.get(line["clip"], {}) | line
    return entries


def _clip_of(entry: Mapping[str, Any]) -> Clip:
    """Return the clip of a ledger entry."""
    return Clip(
        id=entry["clip"],
        path=path_of(entry["path"]),
        start=entry.get("start"),
        end=entry.get("end"),
        object=entry.get("object", ""),
        scenario=entry.get("scenario", ""),
        labels={
            label: math.nan if value is None else value
            for label, value in entry.get("labels", {}).items()
        },
    )
