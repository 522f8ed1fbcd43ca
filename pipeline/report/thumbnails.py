"""Pictures of clips that show their motion: in one picture, and as moving pictures.

In the one picture of the frames that an agent saw each pixel is taken from the frame in which it
differs most from its median over time, as in chronophotography: what does not move is seen once,
what moves is seen everywhere it was. A moving picture is an animated WebP of the sampled frames.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.cache import Features
from data.clips import Clip
from data.video import DecoderPool, FrameBatch, Job, NotFetched, Sampling
from pipeline.agents import agent_views
from pipeline.dataset import RunInputs, find_clips, video_jobs
from pipeline.message import Lexicon, Meaning, Position
from pipeline.runs import Run

SIDE = 112  # pixels of a thumbnail's longer side
QUALITY = 72  # of the JPEG
MAX_PICTURES = 120
PICTURES_PER_SYMBOL = 4
MAX_MOVING = 80  # moving pictures of a page
MAX_MOVING_BYTES = 3 << 20  # of all of them
MAX_MOVING_FRAMES = 16
MOVING_QUALITY = 50  # of the WebP
MOST_NOT_FETCHED = 3  # videos in a row, after which no other is tried


@dataclass(frozen=True)
class ThumbnailRequest:
    """A picture of one clip as one agent sees it: the sampled frames `first` up to `last`."""

    clip: str
    first: int
    last: int


@dataclass
class Thumbnails:
    """Pictures as data URIs, for the symbols of a lexicon.

    Attributes:
        requests: The pictures of each symbol, by agent, head and symbol.
        pictures: Those that could be made.
        moving: Moving pictures, by clip.
        missing: Why others are missing, sentences.
        no_video: A sentence for a page whose clips have no videos.
        unchecked: Whether the cache holds no hashes by which the videos could be checked.
    """

    requests: dict[tuple[int, int, int], list[ThumbnailRequest]] = field(default_factory=dict)
    pictures: dict[ThumbnailRequest, str] = field(default_factory=dict)
    moving: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    no_video: str = (
        "There are no pictures, because no video of the clips was found: name a manifest or a "
        "folder with --clips."
    )
    unchecked: bool = False

    def __repr__(self) -> str:
        return f"Thumbnails({self.number} pictures, missing {self.missing})"

    @property
    def number(self) -> int:
        """How many pictures there are."""
        return len(self.pictures) + len(self.moving)

    def of_symbol(self, agent: int, head: int, symbol: int) -> list[tuple[str, str]]:
        """Return the clips of a symbol and their pictures."""
        requests = self.requests.get((agent, head, symbol), ())
        return [(one.clip, self.pictures[one]) for one in requests if one in self.pictures]

    def notes(self) -> list[str]:
        """Return sentences about what is missing."""
        notes = list(dict.fromkeys(self.missing))
        if not self.pictures and not self.moving:
            notes.append(self.no_video)
        if self.unchecked:
            notes.append(
                "The videos of the pictures were found by name alone: the cache holds no hashes to "
                "check them by."
            )
        return notes


def page_thumbnails(
    run: Run,
    lexicon: Lexicon | None,
    inputs: RunInputs,
    given: Sequence[Path],
    *,
    each: int = PICTURES_PER_SYMBOL,
    moves: bool = True,
) -> Thumbnails:
    """Return pictures for the symbols of a lexicon, and moving pictures of clips.

    The pictures of a symbol are as its agent sees the clip; moving pictures have all sampled frames
    of the first cache.

    Args:
        run: The run.
        lexicon: Of the run; None: moving pictures alone.
        inputs: Its caches.
        given: Manifests, folders or videos; none: the clips are looked for where they were.
        each: Pictures of a symbol, at most.
        moves: Whether there are moving pictures.
    """
    thumbnails = Thumbnails(choose_clips(run, lexicon, each) if lexicon else {})
    if not given and all(source.fingerprint.get("imported") for source in inputs.sources):
        names = " and ".join(source.name for source in inputs.sources)
        thumbnails.no_video = (
            f"There are no pictures: the features of {names} were imported, so that nothing says "
            "where the videos of the clips are. --clips names them: a manifest with the ids of the "
            "cache, or a folder whose files are called like the clips."
        )
    asked = [one.clip for some in thumbnails.requests.values() for one in some]
    moving = choose_moving(run.messages(), asked) if moves else []
    for source, features, path in zip(inputs.sources, inputs.caches, inputs.paths, strict=True):
        agents = {a for a, cache in enumerate(run.agent_sources) if cache.name == source.name}
        requests = [
            request
            for (agent, _, _), some in thumbnails.requests.items()
            if agent in agents
            for request in some
        ]
        clips = find_clips(features, path, given)
        made = make_pictures(
            list(dict.fromkeys(requests)), features, clips, source.sampler, moving=moving
        )
        thumbnails.pictures |= made.pictures
        thumbnails.moving |= made.moving
        thumbnails.unchecked |= made.unchecked
        thumbnails.missing += made.missing
        moving = []  # of the first cache alone
    return thumbnails


def choose_moving(lines: Sequence[Mapping[str, Any]], pictured: Sequence[str]) -> list[str]:
    """Return the clips that are shown moving: of test clips each message in turn, then others.

    Args:
        lines: Of `messages.jsonl`.
        pictured: Clips that are decoded anyway, which come before other training clips.
    """
    first = set(pictured)
    seen: Counter[tuple[bool, str]] = Counter()
    turns: list[tuple[bool, bool, int, int, str]] = []
    for number, line in enumerate(lines):
        is_other, clip = line["part"] != "test", line["clip"]
        kind = is_other, line["message"]
        turns.append((is_other, is_other and clip not in first, seen[kind], number, clip))
        seen[kind] += 1
    return [clip for *_, clip in sorted(turns)[:MAX_MOVING]]


def choose_clips(
    run: Run, lexicon: Lexicon, each: int = PICTURES_PER_SYMBOL
) -> dict[tuple[int, int, int], list[ThumbnailRequest]]:
    """Return the training clips to show for each symbol: near its median, objects in turn."""
    symbols = sum(len(position.meanings) for position in lexicon.positions)
    each = max(1, min(each, MAX_PICTURES // max(1, symbols)))
    lines = [line for line in run.messages() if line["part"] == "train"]
    chosen: dict[tuple[int, int, int], list[ThumbnailRequest]] = {}
    for position in lexicon.positions:
        first, last = _frames_of(run, position.agent)
        for meaning in position.meanings:
            clips = _representative_clips(lines, position, meaning)
            chosen[position.agent, position.head, meaning.symbol] = [
                ThumbnailRequest(clip, first, last) for clip in clips[:each]
            ]
            if sum(map(len, chosen.values())) >= MAX_PICTURES:
                return chosen
    return chosen


def _representative_clips(
    lines: Sequence[Mapping[str, Any]], position: Position, meaning: Meaning
) -> list[str]:
    """The clips with a symbol, those near its median first, one of each object before the next."""
    clips = [
        line for line in lines if line["tokens"][position.agent][position.head] == meaning.symbol
    ]
    if position.about is not None:
        about = position.about
        clips = [line for line in clips if line["labels"][about] is not None]
        clips.sort(key=lambda line: abs(line["labels"][about] - meaning.median))
    seen: Counter[str] = Counter()
    turns: list[tuple[int, int, str]] = []
    for line in clips:
        name = line["object"] or line["clip"]
        turns.append((seen[name], len(turns), line["clip"]))
        seen[name] += 1
    return [clip for _, _, clip in sorted(turns)]


def _frames_of(run: Run, agent: int) -> tuple[int, int]:
    """The sampled frames of a clip that an agent sees, from and up to."""
    source = run.agent_sources[agent]
    frames = source.fingerprint.get("frames_per_step", 1)
    spanned = source.fingerprint.get("frames_spanned", frames)
    if source.steps == 1:  # a static feature, repeated over time
        return 0, spanned
    views = agent_views([cache.steps for cache in run.sources], run.config.agent_caches)
    window = views[agent].window
    return window.start * frames, (window.stop - 1) * frames + spanned


def make_pictures(
    requests: Sequence[ThumbnailRequest],
    features: Features,
    clips: Mapping[str, Clip],
    sampling: Mapping[str, Any],
    *,
    moving: Collection[str] = (),
) -> Thumbnails:
    """Return pictures of clips, decoded again by the sampling of their cache.

    A video whose bytes are no longer those that the features were made of is not shown.

    Args:
        requests: The pictures.
        features: Of their cache.
        clips: Where their videos are, by id.
        sampling: Of the cache.
        moving: Clips of which a moving picture is wanted, the most wanted first.
    """
    wanted = [*moving, *(request.clip for request in requests)]
    names = [name for name in dict.fromkeys(wanted) if name in clips]
    planned = video_jobs(names, features, clips, sampling)
    made = Thumbnails(missing=list(planned.others.values()), unchecked=planned.unchecked)
    room = MAX_MOVING_BYTES
    not_fetched = 0  # one after the other
    with DecoderPool(workers=1) as pool:
        for outcome in pool.map(planned.jobs):
            not_fetched = not_fetched + 1 if isinstance(outcome.error, NotFetched) else 0
            if outcome.batch is None:
                made.missing.append(str(outcome.error))
                if not_fetched == MOST_NOT_FETCHED:  # each may take minutes to fail
                    made.missing.append("no other video was fetched, as these could not be")
                    break
                continue
            small = shrink(outcome.batch.frames)
            for request in requests:
                if request.clip == outcome.job.tag:
                    pixels = overlay(small[request.first : request.last])
                    made.pictures[request] = _still(pixels)
            if outcome.job.tag in moving and room > 0:
                made.moving[outcome.job.tag] = moving_picture(small, seconds_of(outcome.batch))
                room -= len(made.moving[outcome.job.tag])
    return made


def scene_pictures(
    clips: Sequence[Clip], *, number: int = 4, frames: int = 12, side: int = 168
) -> list[tuple[str, str]]:
    """Return moving pictures of a few clips, from the first to the last, by id.

    A clip that cannot be read has none.
    """
    chosen = np.linspace(0, len(clips) - 1, min(number, len(clips))).round().astype(int)
    sampling = Sampling(frames=frames, pad=True)
    jobs = [
        Job(
            path=clips[n].path,
            sampling=sampling,
            start=clips[n].start,
            end=clips[n].end,
            tag=clips[n].id,
        )
        for n in chosen
    ]
    with DecoderPool(workers=1) as pool:
        return [
            (
                outcome.job.tag,
                moving_picture(shrink(outcome.batch.frames), seconds_of(outcome.batch), side),
            )
            for outcome in pool.map(jobs)
            if outcome.batch is not None
        ]


def seconds_of(batch: FrameBatch) -> float:
    """Return how long the frames of a clip are shown together, at its own pace."""
    times = batch.pts_seconds
    frames = len(times)
    return float(times[-1] - times[0]) * frames / max(1, frames - 1)


def moving_picture(frames: NDArray[np.uint8], seconds: float, side: int = SIDE) -> str:
    """Return an animated WebP as a data URI.

    Args:
        frames: (T, H, W, 3), of which at most `MAX_MOVING_FRAMES` are shown.
        seconds: How long they are shown together, over and over.
        side: Pixels of the longer side.
    """
    step = -(-len(frames) // MAX_MOVING_FRAMES)
    pictures = [Image.fromarray(frame) for frame in frames[::step]]
    for picture in pictures:
        picture.thumbnail((side, side), Image.Resampling.BOX)
    each = round(min(400.0, max(40.0, 1000 * seconds / len(pictures))))
    file = io.BytesIO()
    pictures[0].save(
        file,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=each,
        loop=0,
        quality=MOVING_QUALITY,
        method=2,
    )
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def overlay(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W, 3) of (T, H, W, 3): each pixel where it is farthest from its median.

    >>> frames = np.zeros((3, 1, 4, 3), np.uint8)
    >>> for time in range(3):
    ...     frames[time, 0, time] = 200
    >>> overlay(frames)[0, :, 0].tolist()
    [200, 200, 200, 0]
    """
    if len(frames) < 3:  # the median of two frames is as far from both
        return frames[len(frames) // 2]
    median = np.median(frames, axis=0)
    distances = np.abs(frames - median).sum(-1)  # (T, H, W)
    return np.take_along_axis(frames, distances.argmax(0)[None, ..., None], axis=0)[0]


def shrink(frames: NDArray[np.uint8], side: int = 2 * SIDE) -> NDArray[np.uint8]:
    """Return frames (T, H, W, 3) whose longer side has no more pixels than `side`."""
    small = []
    for frame in frames:
        picture = Image.fromarray(frame)
        picture.thumbnail((side, side), Image.Resampling.BOX)
        small.append(np.asarray(picture))
    return np.stack(small)


def _still(pixels: NDArray[np.uint8]) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
