"""The videos that features were made from: found again, checked, and read as they were before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.cache import Features, read_ledger
from data.clips import Clip
from data.errors import HeliographError
from data.files import Address, HashedFile, sha256_file
from data.manifests import list_clips
from data.remote import RemoteError
from data.video import Job, Sampling
from pipeline.dataset.joining import Content, content_of, is_known


@dataclass(frozen=True)
class VideoJobs:
    """Jobs for a `DecoderPool` that read clips again by the sampling of their cache.

    Attributes:
        jobs: Of the clips whose videos are at hand; the tag of each is the clip's id.
        others: Why there is none of the other clips, by id.
        unchecked: Whether the cache holds no hash of a video, which was then found by name alone.
    """

    jobs: tuple[Job, ...]
    others: Mapping[str, str]
    unchecked: bool


def find_clips(features: Features, cache: Path, given: Sequence[Path]) -> dict[str, Clip]:
    """Return where the videos of a cache's clips are, by id; clips without a file are left out.

    A file of another name is a clip's if its bytes, start and end are those of the clip, and it is
    on this machine; whether there is one at an address is not looked at. Of a clip whose bytes are
    not known, as of imported features, the file may have an ending that the id lacks.

    Args:
        features: Of the cache.
        cache: Its file.
        given: Manifests, folders or videos; none: the cache's ledger says where the clips were when
            their features were made.

    Raises:
        ClipError: for a manifest or folder that cannot be read.
    """
    if given:
        candidates: Iterable[Clip] = list_clips(given)
    else:
        candidates = [
            Clip(id=line["clip"], path=line["path"], start=line.get("start"), end=line.get("end"))
            for line in read_ledger(cache)
            if "path" in line
        ]
    rows = {clip: row for row, clip in enumerate(features.clip_id)}
    files = [clip for clip in candidates if isinstance(clip.path, Address) or clip.path.is_file()]
    found = {clip.id: clip for clip in files if clip.id in rows}
    for clip in files:
        bare = clip.id.removesuffix(clip.path.suffix)
        if bare in rows and not features.source_sha256[rows[bare]]:
            found.setdefault(bare, clip)
    spare = [clip for clip in files if clip.id not in rows]
    lost: dict[Content, list[str]] = defaultdict(list)
    for name, row in rows.items():
        if name not in found and features.source_sha256[row] and is_known(features, row):
            lost[content_of(features, row)].append(name)
    hashes: dict[Path, str] = {}
    for clip in spare if lost else ():
        if isinstance(clip.path, Address):  # it is fetched where it is read, and not before
            continue
        if clip.path not in hashes:
            try:
                hashes[clip.path] = sha256_file(clip.path)
            except OSError:  # it is nobody's, then
                hashes[clip.path] = ""
        start, end = (-1.0 if time is None else float(time) for time in (clip.start, clip.end))
        for name in lost.get((hashes[clip.path], start, end), ()):
            found[name] = clip
    return found


def video_jobs(
    names: Sequence[str],
    features: Features,
    clips: Mapping[str, Clip],
    sampling: Mapping[str, Any],
) -> VideoJobs:
    """Return jobs that read clips again.

    A video whose bytes are no longer those that the features were made of is not read.

    Args:
        names: Ids of the clips.
        features: Of their cache.
        clips: Where their videos are, from `find_clips`.
        sampling: As the cache describes it.

    Raises:
        HeliographError: The sampling cannot be repeated.
    """
    rows = {clip: row for row, clip in enumerate(features.clip_id)}
    jobs, others, unchecked = [], {}, False
    repeated = _sampling(sampling)
    for name in names:
        if name not in clips:
            others[name] = "no video of it was found"
            continue
        clip, expected = clips[name], features.source_sha256[rows[name]]
        another = f"{clip.path} is not the video that {name} was made from"
        is_remote = isinstance(clip.path, Address)
        try:
            if not is_remote and expected and sha256_file(clip.path) != expected:
                others[name] = another
                continue
        except OSError as error:
            others[name] = f"{clip.path} cannot be read: {error.strerror or error}"
            continue
        unchecked |= not expected
        jobs.append(
            Job(
                path=clip.path,
                sampling=repeated,
                start=clip.start,
                end=clip.end,
                accept_damaged=True,
                tag=name,
                wanted=_refusal(expected, another) if is_remote and expected else None,
            )
        )
    return VideoJobs(tuple(jobs), others, unchecked)


def _refusal(expected: str, sentence: str) -> Callable[[HashedFile], bool]:
    """Return what a job asks of the file that was fetched for it: it has the expected SHA-256."""

    def check(source: HashedFile) -> bool:
        if source.sha256 != expected:
            raise RemoteError(sentence)
        return True

    return check


def _sampling(described: Mapping[str, Any]) -> Sampling:
    if not described:  # imported features say nothing of it
        return Sampling(frames=8, pad=True)
    try:
        return Sampling(**described)
    except (TypeError, ValueError) as error:
        raise HeliographError(f"the cache's sampling cannot be repeated: {error}") from error
