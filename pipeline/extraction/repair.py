"""Repair of a damaged cache: the clips that `verify` names are extracted again, the rest stays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
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
from pipeline.console import some_clips
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
    known = set(table.clip_id)
    named = [problem.clip for problem in problems if problem.clip is not None]
    missing = _in_order([clip for clip in named if clip not in known], table, sources)
    new = [*_clips_of(path, lost, table, sources), *missing]
    damaged = [*(clip for clip in named if clip in known), *new]
    clips, hashes = _clips_to_extract(path, table, damaged, {clip.id: clip for clip in sources})
    clips, note = _with_table(path, clips, set(new) - {clip.id for clip in sources}, table)
    summary = extract(
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
    if missing:
        ids = some_clips(missing)
        summary.notes.append(f"{ids}: they are the last rows, as nothing shows where they were")
    if note:
        summary.notes.append(note)
    return summary


def _with_table(
    path: Path, clips: Sequence[Clip], unsaid: Set[str], table: Features
) -> tuple[list[Clip], str]:
    """Return clips whose labels only the ledger says as of the table of those that are there.

    That is right where the ledger has the labels that all these have; otherwise "" is its table,
    and a sentence says so.
    """
    tables = {table.label_tables.get(label, "") for label in table.labels}
    if not unsaid or not any(tables):
        return list(clips), ""
    ledger = _last_entries(path)
    stated = [ledger.get(clip, {}).get("labels") for clip in table.clip_id]
    is_same = all(
        value is None or _equal(value.get(label), float(column[row]))
        for row, value in enumerate(stated)
        for label, column in table.labels.items()
    )
    if is_same and len(tables) == 1:
        (sha256,) = tables
        return [
            replace(clip, table_sha256=sha256) if clip.id in unsaid and clip.labels else clip
            for clip in clips
        ], ""
    since = "" if is_same else ", which were set anew since"
    return list(clips), (
        f"{some_clips(sorted(unsaid))}: their labels are those of the ledger{since}, and which "
        f"table they came from is not known any more: heliograph cache label {path} TABLE sets both"
    )


def _equal(value: float | None, known: float) -> bool:
    return math.isnan(known) if value is None else value == known


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
    return _in_order(found, table, sources)


def _in_order(clips: Sequence[str], table: Features, sources: Sequence[Clip]) -> list[str]:
    """Return clips in the order of `sources`, or in that of their names if all others are so."""
    if list(table.clip_id) == sorted(table.clip_id):
        clips = sorted(clips)
    order = {clip.id: number for number, clip in enumerate(sources)}
    return sorted(clips, key=lambda clip: order.get(clip, order.get(video_of(clip), len(order))))


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
