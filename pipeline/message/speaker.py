"""From a clip to its message: features as the run's caches have them, then the sender.

speaker = load("runs/spring")
message = speaker("new_clip.mp4")
print(message)                    # 3-7 | 1-2
message.gloss                     # (("heavy", "perhaps heavy"), ("light", "any mass"))
message.readings                  # mass 118 g, 81–164 g at 90 %, heavy 74 %
message.confidence                # probability of each symbol, softmax at temperature 1
message.distance.unfamiliar       # whether the clip is unlike anything seen in training
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import backbones
from data.cache import Features
from data.clips import Clip, id_of_file
from data.differences import Difference, first_difference, value_text
from data.errors import HeliographError
from data.files import path_of
from data.manifests import list_clips
from data.notebooks import data_frame, html_table
from data.video import DecoderPool, FrameBatch, Job, Outcome, Sampling, VideoError, WindowsJob
from data.windows import Window, Windows
from data.wording import counted
from pipeline.agents import FastSender, message_text
from pipeline.dataset import BLOCK_NUMBERS, CacheSource, join_caches, load_finite_cache
from pipeline.message.lexicon import Lexicon, load_lexicon
from pipeline.message.novelty import (
    CLIPS_AT_ONCE,
    Distance,
    NoveltyDetector,
    most_novel,
    thinned,
)
from pipeline.message.readout import Reading, Readout, load_readout
from pipeline.runs import MissingFileError, Run, load_inputs


@dataclass(frozen=True)
class Message:
    """The message for one clip, its confidence, and what it means.

    Attributes:
        clip: Its id.
        tokens: int64 (agents, heads), each in 0 .. vocab - 1.
        confidence: float64 (agents, heads), the probability of each symbol: softmax over the
            vocabulary at temperature 1.
        gloss: A word or two for each symbol, from the run's lexicon.
        distance: From the training clips.
        missing: Why `gloss`, `distance` or `readings` is None, or intervals are: a sentence each.
        unchecked: A sentence where the run has no manifest to check its files against.
        readings: An estimate of each property of the run, with interval and confidence.
        window: The seconds of the video that the message is for; None for a whole clip.
    """

    clip: str
    tokens: NDArray[np.int64]
    confidence: NDArray[np.float64]
    gloss: tuple[tuple[str, ...], ...] | None = None
    distance: Distance | None = None
    missing: tuple[str, ...] = field(default=())
    unchecked: str = ""
    readings: tuple[Reading, ...] | None = None
    window: Window | None = None

    def __str__(self) -> str:
        return message_text(self.tokens.tolist())

    @property
    def meaning(self) -> str:
        """The gloss as text: heads joined by commas, agents by ` | `; empty without a gloss."""
        return " | ".join(", ".join(words) for words in self.gloss or ())

    def _repr_html_(self) -> str:
        rows = [[reading.name, str(reading)] for reading in self.readings or ()]
        if self.gloss:
            rows.insert(0, ["in words", self.meaning])
        if self.window is not None:
            rows.insert(0, ["seconds", f"{self.window.start:g} to {self.window.end:g}"])
        notes = [*self.missing, *([self.unchecked] if self.unchecked else [])]
        return html_table(self.clip, ["message", str(self)], rows, notes)

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` of one row; those of many messages can be concatenated.

        Its columns are clip, message, meaning, the seconds of a window, and of each property the
        estimate with the ends of its interval and the confidence in its third.

        Raises:
            HeliographError: pandas is not installed.
        """
        row: dict[str, Any] = {"clip": self.clip, "message": str(self), "meaning": self.meaning}
        if self.window is not None:
            row |= self.window._asdict()
        for reading in self.readings or ():
            low, high = reading.interval or (math.nan, math.nan)
            row |= {reading.name: reading.value, f"{reading.name} low": low}
            row |= {f"{reading.name} high": high, f"{reading.name} band": reading.band}
            row[f"{reading.name} confidence"] = reading.confidence
        if self.distance is not None:
            row["unfamiliar"] = self.distance.unfamiliar
        return data_frame({name: [value] for name, value in row.items()})

    def to_json(self) -> dict[str, Any]:
        """Return a line of `heliograph message --json`; it begins as in `messages.jsonl`."""
        return {
            "clip": self.clip,
            "message": str(self),
            "tokens": self.tokens.tolist(),
            "confidence": self.confidence.round(6).tolist(),
            "gloss": self.gloss and [list(words) for words in self.gloss],
            "distance": self.distance and self.distance.to_json(),
            "missing": list(self.missing),
            "estimates": self.readings and {own.name: own.to_json() for own in self.readings},
            **({"unchecked": self.unchecked} if self.unchecked else {}),
            **({} if self.window is None else self.window._asdict()),
        }


class Speaker:
    """The sender of a run and, once a video needs them, the backbones of its features.

    Args:
        run: The run, or its folder.
        device: For the backbones.
        weights: A file of weights for the backbone, in place of a download.
        hub_dir: Where torch.hub keeps its repositories.

    Raises:
        HeliographError: for a folder that is no run, or a run with a continuous channel.
    """

    def __init__(
        self,
        run: Run | Path | str,
        *,
        device: str = "auto",
        weights: Path | str | None = None,
        hub_dir: Path | str | None = None,
    ) -> None:
        run = Run.open(run)
        if not run.has_symbols:
            raise HeliographError(
                f"{run.folder} has a continuous channel: its messages have no symbols; those for "
                "its clips are in messages.jsonl"
            )
        self.run = run
        self._sender = FastSender(run.sender())
        self._where: dict[str, Any] = {"device": device, "weights": weights, "hub_dir": hub_dir}
        self._decoders = DecoderPool(workers=1)
        weakref.finalize(self, self._decoders.close)

    def __repr__(self) -> str:
        return f"Speaker({self.run})"

    def __call__(self, clip: Clip | Path | str) -> Message:
        """Return the message for one video.

        Raises:
            HeliographError: where the video cannot be read, or where its features would be made
                otherwise than those that the run was trained on.
        """
        clip = _as_clip(clip)
        features = [steps[None] for steps in self.features(clip)]
        (message,) = self.messages([clip.id], features)
        return message

    def windows(self, clip: Clip | Path | str, windows: Windows) -> Iterator[Message | VideoError]:
        """Yield the message for each window of a video, in one pass over its file.

        A window that cannot be read gives its error, which names it.

        Raises:
            HeliographError: as calling the speaker does, or there is no window.
        """
        clip = _as_clip(clip)
        with ExitStack() as opened:
            passes = []
            for backbone, sampling in self.feature_extractors:
                pool = opened.enter_context(DecoderPool(workers=1))
                job = WindowsJob(
                    path=clip.path,
                    sampling=sampling,
                    windows=windows,
                    start=clip.start,
                    end=clip.end,
                )
                passes.append((backbone, opened.enter_context(closing(pool.map([job])))))
            yield from self._in_windows(clip, passes)

    def _in_windows(
        self, clip: Clip, passes: Sequence[tuple[backbones.Backbone, Iterator[Outcome]]]
    ) -> Iterator[Message | VideoError]:
        """Yield the message for each window, given what each backbone's decoder reads of it."""
        for outcomes in zip(*(outcomes for _, outcomes in passes), strict=True):
            window = outcomes[0].window
            error = next((outcome.error for outcome in outcomes if outcome.error), None)
            if window is None:
                assert error is not None
                raise error
            if error is not None:
                reason = error.reason if isinstance(error, VideoError) else str(error)
                yield VideoError(window.id(str(clip.path)), reason)
                continue
            features = [
                _steps(backbone, source, outcome.batch)[None]
                for (backbone, _), source, outcome in zip(
                    passes, self.run.sources, outcomes, strict=True
                )
            ]
            for message in self.messages([window.id(clip.id)], features):
                yield replace(message, window=window)

    def infer(
        self, features: NDArray[Any] | Sequence[NDArray[Any]]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return tokens int64 and confidence float64, (N, agents, heads) each, of N clips.

        Args:
            features: (N, steps, dim); for a run on several caches a list of the features of each,
                in the run's order.

        Raises:
            HeliographError: for features of another shape than the run's.
        """
        given = [features] if isinstance(features, np.ndarray) else list(features)
        self._check_shapes(given)
        inputs = [torch.from_numpy(np.ascontiguousarray(part)).float() for part in given]
        best, tokens = self._sender(inputs).softmax(-1).max(-1)
        shape = (len(inputs[0]), self.run.config.agents, self.run.config.heads)
        return tokens.numpy().reshape(shape), best.double().numpy().reshape(shape)

    def messages(self, clips: Sequence[str], features: Sequence[NDArray[Any]]) -> Iterator[Message]:
        """Yield the messages of clips, given the features (N, steps, dim) of each cache."""
        tokens, confidence = self.infer(features)
        lexicon, no_lexicon = self._lexicon
        detectors, no_distance = self._novelty
        distances: list[Distance | None] = [None] * len(clips)
        if detectors:
            by_cache = [detector(part) for detector, part in zip(detectors, features, strict=True)]
            distances = [most_novel(of_clip) for of_clip in zip(*by_cache, strict=True)]
        readout, no_readout = self._readout
        readings = readout.read(tokens) if readout else [None] * len(clips)
        missing = tuple(reason for reason in (no_lexicon, no_distance, no_readout) if reason)
        for row, clip in enumerate(clips):
            gloss = lexicon.gloss(tokens[row].tolist()) if lexicon else None
            yield Message(
                clip,
                tokens[row],
                confidence[row],
                gloss,
                distances[row],
                missing,
                self.run.unchecked,
                readings[row],
            )

    def messages_for_caches(self, caches: Sequence[Features]) -> Iterator[Message]:
        """Yield the messages for the clips of a cache that was made as the run's own was.

        For a run on several: of as many caches, in any order, the clips that are in all.

        Raises:
            HeliographError: for another number of caches, or caches that were made otherwise.
        """
        sources = self.run.sources
        if len(caches) != len(sources):
            names = " and ".join(source.name for source in sources)
            raise HeliographError(f"{self.run.folder} needs a cache each for {names}")
        given = {source.name: _fitting(source, caches, self.run.folder) for source in sources}
        aligned = join_caches(given)
        ids, width = aligned[0].clip_id, sum(math.prod(part.features.shape[1:]) for part in aligned)
        step = max(1, min(CLIPS_AT_ONCE, BLOCK_NUMBERS // max(1, width)))
        blocks = [slice(start, start + step) for start in range(0, len(ids), step)]
        return chain.from_iterable(
            self.messages(ids[some], [part.features[some] for part in aligned]) for some in blocks
        )

    def features(self, clip: Clip) -> list[NDArray[Any]]:
        """Return features (steps, dim) of a video for each cache, in that cache's precision.

        Raises:
            HeliographError: as calling the speaker does.
        """
        features = []
        extractors = zip(self.feature_extractors, self.run.sources, strict=True)
        for (backbone, sampling), source in extractors:
            job = Job(path=clip.path, sampling=sampling, start=clip.start, end=clip.end)
            (outcome,) = self._decoders.map([job])
            if outcome.batch is None:
                assert outcome.error is not None
                raise outcome.error
            features.append(_steps(backbone, source, outcome.batch))
        return features

    @cached_property
    def feature_extractors(self) -> list[tuple[backbones.Backbone, Sampling]]:
        """The backbone and sampling that each of the run's caches was made with, checked.

        Raises:
            HeliographError: where they cannot be had as they were.
        """
        return [
            _feature_extractor(source, self.run.folder, self._where) for source in self.run.sources
        ]

    def _check_shapes(self, features: Sequence[NDArray[Any]]) -> None:
        """Raises HeliographError for features of another number or shape than the run's."""
        expected = [(source.steps, source.dim) for source in self.run.sources]
        given = [part.shape[1:] for part in features]
        if given != expected:
            raise HeliographError(
                f"{self.run.folder} was trained on {_shapes(expected)}, these have {_shapes(given)}"
            )

    @cached_property
    def _lexicon(self) -> tuple[Lexicon | None, str]:
        """The run's lexicon; without one None, and why."""
        try:
            lexicon = load_lexicon(self.run)
        except MissingFileError as error:
            return None, f"no gloss: {error.path} is missing"
        return lexicon, "" if lexicon else "no gloss: no training clip has every label"

    @cached_property
    def _readout(self) -> tuple[Readout | None, str]:
        """The run's readout; without one, or without intervals, also why."""
        try:
            readout = load_readout(self.run)
        except MissingFileError as error:
            return None, f"no estimates: {error.path} is missing"
        if readout is None:
            return None, "no estimates: no training clip has every label"
        return readout, readout.missing

    @cached_property
    def _novelty(self) -> tuple[list[NoveltyDetector], str]:
        """A detector for each cache; none, and why, where the caches are missing."""
        try:
            lines = self.run.messages()
        except MissingFileError as error:
            return [], f"no distance from the training clips: {error.path} is missing"
        try:
            inputs = load_inputs(self.run)
            train = thinned([row for row, line in enumerate(lines) if line["part"] == "train"])
            clips = inputs.clips
            ids = [clips.clip_id[row] for row in train]
            objects = [clips.object[row] or clips.clip_id[row] for row in train]
            return [
                NoveltyDetector(part.features[train], objects, ids, cache=source.name)
                for part, source in zip(inputs.caches, inputs.sources, strict=True)
            ], ""
        except HeliographError as error:
            return [], f"no distance from the training clips: {error}"


def messages_for(
    speaker: Speaker, paths: Sequence[Path], *, windows: Windows | None = None
) -> Iterator[Message | HeliographError]:
    """Yield messages for videos, folders, manifests and caches; for a clip that fails its error.

    Args:
        speaker: Who speaks.
        paths: What names clips.
        windows: How each video is cut into clips; None: it is not.

    Raises:
        HeliographError: what concerns every clip (a run on imported features, a cache of another
            backbone).
    """
    caches = [path for path in paths if path.suffix == ".h5"]
    together = len(speaker.run.sources)
    for first in range(0, len(caches), together):
        yield from speaker.messages_for_caches(
            [load_finite_cache(path) for path in caches[first : first + together]]
        )
    videos = [path for path in paths if path not in caches]
    clips = list_clips(videos) if videos else []
    if clips:
        _ = speaker.feature_extractors  # what it raises concerns every clip
    for clip in clips:
        try:
            if windows is None:
                yield speaker(clip)
            else:
                yield from speaker.windows(clip, windows)
        except VideoError as error:
            yield error


def load(
    run: Path | str,
    *,
    device: str = "auto",
    weights: Path | str | None = None,
    hub_dir: Path | str | None = None,
) -> Speaker:
    """Return the `Speaker` of a run folder: `load(run)(path)` is a `Message`."""
    return Speaker(run, device=device, weights=weights, hub_dir=hub_dir)


def _as_clip(clip: Clip | Path | str) -> Clip:
    """Return a video that is given by its path as a clip."""
    if isinstance(clip, Clip):
        return clip
    path = path_of(clip)
    return Clip(id=id_of_file(path.name), path=path)


def _steps(
    backbone: backbones.Backbone, source: CacheSource, batch: FrameBatch | None
) -> NDArray[Any]:
    """Return features (steps, dim) of a clip's frames, in the precision of a run's cache."""
    assert batch is not None
    pixels = backbone.preprocess(batch.frames)[None]
    steps = backbone.forward(pixels, reproducible=False)[0]  # nothing is stored
    return steps.numpy().astype(source.dtype)


def _fitting(source: CacheSource, caches: Sequence[Features], folder: Path) -> Features:
    """The cache that was made as this one of the run was; raises HeliographError without one."""
    refusals = []
    for features in caches:
        reason = _difference(source, features.fingerprint, features.sampler)
        if reason is None:
            return features
        refusals.append(reason)
    raise HeliographError(_refusal("this cache", folder, refusals[0]))


def _feature_extractor(
    source: CacheSource, folder: Path, where: Mapping[str, Any]
) -> tuple[backbones.Backbone, Sampling]:
    made = source.fingerprint
    if made.get("imported"):
        return _as_declared(source, folder, where)
    backbone = backbones.load_from_fingerprint(made, **where)
    reason = _difference(source, backbone.fingerprint, source.sampler)
    if reason is not None:
        raise HeliographError(_refusal("this video", folder, reason))
    return backbone, Sampling(**source.sampler)


def _as_declared(
    source: CacheSource, folder: Path, where: Mapping[str, Any]
) -> tuple[backbones.Backbone, Sampling]:
    """Return what `cache import --backbone --frames --preprocess` declared about the features."""
    imported = source.fingerprint
    if "backbone" not in imported or "frames" not in imported:
        raise HeliographError(
            f"{folder} was trained on imported features of unknown origin, so the "
            "same cannot be made from a new video: import them with --backbone and --frames"
        )
    backbone = backbones.load(
        imported["backbone"],
        preprocess=imported.get("preprocess", "official"),
        output=imported.get("output"),
        **where,
    )
    sampling = Sampling(frames=imported["frames"], pad=True)  # the paper pads
    made = (backbone.steps(sampling.frames), backbone.dim)
    if made != (source.steps, source.dim):
        raise HeliographError(
            f"{folder} was trained on {_shapes([(source.steps, source.dim)])}, but the declared "
            f"{backbone.name} with {counted(sampling.frames, 'frame')} gives {made[0]} of {made[1]}"
        )
    return backbone, sampling


def _difference(
    source: CacheSource, fingerprint: Mapping[str, Any], sampler: Mapping[str, Any]
) -> tuple[str, Difference] | None:
    """Return the first thing that is not as the run's cache was made: its kind, and the field."""
    for kind, here, there in (
        ("backbone", fingerprint, source.fingerprint),
        ("sampling", sampler, source.sampler),
    ):
        # A field that an older cache does not have counts as null.
        if found := first_difference(_without_nulls(there), _without_nulls(here)):
            return kind, found
    return None


def _without_nulls(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _refusal(what: str, folder: Path, difference: tuple[str, Difference]) -> str:
    kind, (path, there, here) = difference
    return (
        f"the features of {what} would come from another {kind} than those that {folder} was "
        f"trained on: its {'.'.join(path)} is {value_text(here)}, the run's {value_text(there)}"
    )


def _shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    """Shapes in words: "8 steps of 1024 features"."""
    return " and ".join(
        f"{counted(shape[0], 'step')} of {counted(shape[1], 'feature')}"
        if len(shape) == 2
        else f"shape {shape}"
        for shape in shapes
    )
