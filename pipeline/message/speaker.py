"""From a clip to its message: features as the run's caches have them, then the agents speak.

say = load("runs/spring")
said = say("new_clip.mp4")
print(said)                       # 3-7 | 1-2
said.gloss                        # (("heavy", "perhaps heavy"), ("light", "any mass"))
said.confidence                   # probability of each symbol, softmax at temperature 1
said.distance.unfamiliar          # whether the clip is unlike anything seen in training
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import backbones
from data.cache import Features
from data.clips import Clip
from data.differences import Difference, first_difference
from data.errors import HeliographError
from data.manifests import list_clips
from data.video import DecoderPool, Job, Sampling, VideoError
from pipeline.agents import FastSender, message_text
from pipeline.dataset import CacheSource, join_caches, load_finite_cache
from pipeline.message.lexicon import Lexicon, lexicon_of
from pipeline.message.novelty import Distance, Familiarity, strangest
from pipeline.runs import Run, load_inputs


@dataclass(frozen=True)
class Message:
    """What the agents say of one clip, how sure they are, and what it means.

    Attributes:
        clip: its id.
        tokens: int64 (agents, heads), each in 0 .. vocab - 1.
        confidence: float64 (agents, heads), the probability of each symbol: softmax over the
            vocabulary at temperature 1.
        gloss: a word or two for each symbol, from the run's lexicon.
        distance: from the training clips.
        missing: why `gloss` or `distance` is None, a sentence each.
    """

    clip: str
    tokens: NDArray[np.int64]
    confidence: NDArray[np.float64]
    gloss: tuple[tuple[str, ...], ...] | None = None
    distance: Distance | None = None
    missing: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        return message_text(self.tokens.tolist())

    @property
    def meaning(self) -> str:
        """The gloss as text: heads joined by commas, agents by ` | `; empty without one."""
        return " | ".join(", ".join(words) for words in self.gloss or ())

    def to_json(self) -> dict[str, Any]:
        """A line as `heliograph message --json` prints it; begins as one of `messages.jsonl`."""
        return {
            "clip": self.clip,
            "message": str(self),
            "tokens": self.tokens.tolist(),
            "confidence": self.confidence.round(6).tolist(),
            "gloss": self.gloss and [list(words) for words in self.gloss],
            "distance": self.distance and self.distance.to_json(),
            "missing": list(self.missing),
        }


class Speaker:
    """The agents of a run and, once a video needs them, the backbones that they were trained on."""

    def __init__(
        self,
        run: Run,
        *,
        device: str = "auto",
        weights: Path | str | None = None,
        hub_dir: Path | str | None = None,
    ) -> None:
        if run.config.continuous:
            raise HeliographError(
                f"{run.folder} says real numbers, not symbols: what it says of its clips stands in "
                "messages.jsonl"
            )
        self.run = run
        self._fast_sender = FastSender(run.sender())
        self._where: dict[str, Any] = {"device": device, "weights": weights, "hub_dir": hub_dir}
        self._decoders = DecoderPool(workers=1)
        weakref.finalize(self, self._decoders.close)

    def __repr__(self) -> str:
        return f"Speaker({self.run})"

    def __call__(self, clip: Clip | Path | str) -> Message:
        """The message for one video.

        Raises HeliographError where the video cannot be read, or where its features would not be
        those that the run was trained on.
        """
        if not isinstance(clip, Clip):
            clip = Clip(id=Path(clip).name, path=Path(clip))
        (message,) = self.messages([clip.id], [own[None] for own in self.features(clip)])
        return message

    def speak(
        self, features: NDArray[Any] | Sequence[NDArray[Any]]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Features (N, steps, dim) -> tokens int64 and confidence float64, (N, agents, heads).

        For a run on several caches: a list of the features of each, in the run's order. This is the
        agents alone, and quick.
        """
        given = [features] if isinstance(features, np.ndarray) else list(features)
        self._check_shapes(given)
        heard = [torch.from_numpy(np.ascontiguousarray(own)).float() for own in given]
        best, tokens = self._fast_sender(heard).softmax(-1).max(-1)
        shape = (len(heard[0]), self.run.config.agents, self.run.config.heads)
        return tokens.numpy().reshape(shape), best.double().numpy().reshape(shape)

    def messages(self, clips: Sequence[str], features: Sequence[NDArray[Any]]) -> Iterator[Message]:
        """The messages of clips by their ids, given the features (N, steps, dim) of each cache."""
        tokens, confidence = self.speak(features)
        lexicon, no_lexicon = self._lexicon
        known, unknown = self._familiarity
        apart: list[Distance | None] = [None] * len(clips)
        if known:
            measured = [own(given) for own, given in zip(known, features, strict=True)]
            apart = [strangest(own) for own in zip(*measured, strict=True)]
        missing = tuple(reason for reason in (no_lexicon, unknown) if reason)
        for number, clip in enumerate(clips):
            said = tokens[number]
            gloss = lexicon.gloss(said.tolist()) if lexicon else None
            yield Message(clip, said, confidence[number], gloss, apart[number], missing)

    def speak_of_caches(self, caches: Sequence[Features]) -> Iterator[Message]:
        """Messages for the clips of a cache that was made as the run's own was.

        For a run on several: of as many caches, in any order, the clips that stand in all.
        """
        ours = self.run.sources
        if len(caches) != len(ours):
            wanted = " and ".join(source.name for source in ours)
            raise HeliographError(f"{self.run.folder} needs a cache each for {wanted}")
        given = {
            source.name: _fitting(source, caches, self.run.folder) for source in self.run.sources
        }
        aligned = join_caches(given)
        return self.messages(aligned[0].clip_id, [own.features for own in aligned])

    def features(self, clip: Clip) -> list[NDArray[Any]]:
        """Features (steps, dim) of a video for each cache, in that cache's precision."""
        made = []
        for (backbone, sampling), source in zip(self.ears, self.run.sources, strict=True):
            job = Job(path=clip.path, sampling=sampling, start=clip.start, end=clip.end)
            (outcome,) = self._decoders.map([job])
            if outcome.batch is None:
                assert outcome.error is not None
                raise outcome.error
            found = backbone.forward(backbone.preprocess(outcome.batch.frames)[None])[0]
            made.append(found.numpy().astype(source.dtype))
        return made

    @cached_property
    def ears(self) -> list[tuple[backbones.Backbone, Sampling]]:
        """The backbone and sampling that each of the run's caches was made with, checked.

        Raises HeliographError where they cannot be had as they were.
        """
        return [_ear(source, self.run.folder, self._where) for source in self.run.sources]

    def _check_shapes(self, features: Sequence[NDArray[Any]]) -> None:
        """Raises HeliographError for features of another number or shape than the run's."""
        expected = [(source.steps, source.dim) for source in self.run.sources]
        given = [own.shape[1:] for own in features]
        if given != expected:
            raise HeliographError(
                f"{self.run.folder} was trained on {_shapes(expected)}, these have {_shapes(given)}"
            )

    @cached_property
    def _lexicon(self) -> tuple[Lexicon | None, str]:
        try:
            found = lexicon_of(self.run)
        except FileNotFoundError as error:
            return None, f"no gloss: {error.filename} is missing"
        return found, "" if found else "no gloss: no training clip has every label"

    @cached_property
    def _familiarity(self) -> tuple[list[Familiarity], str]:
        """A measure for each cache; none, and why, where the caches are no longer there."""
        try:
            inputs = load_inputs(self.run)
            lines = self.run.messages()
            train = [place for place, line in enumerate(lines) if line["part"] == "train"]
            clips = inputs.clips
            ids = [clips.clip_id[place] for place in train]
            objects = [clips.object[place] or clips.clip_id[place] for place in train]
            return [
                Familiarity(own.features[train], objects, ids, cache=source.name)
                for own, source in zip(inputs.caches, inputs.sources, strict=True)
            ], ""
        except HeliographError as error:
            return [], f"no distance from the training clips: {error}"
        except FileNotFoundError as error:
            return [], f"no distance from the training clips: {error.filename} is missing"


def speak_all(speaker: Speaker, paths: Sequence[Path]) -> Iterator[Message | HeliographError]:
    """Messages for videos, folders, manifests and caches; a clip that fails gives its error.

    What concerns every clip (a run on imported features, a cache of another backbone) is raised.
    """
    caches = [path for path in paths if path.suffix == ".h5"]
    together = len(speaker.run.sources)
    for first in range(0, len(caches), together):
        yield from speaker.speak_of_caches(
            [load_finite_cache(path) for path in caches[first : first + together]]
        )
    videos = [path for path in paths if path not in caches]
    clips = list_clips(videos) if videos else []
    if clips:
        _ = speaker.ears  # what it raises concerns every clip
    for clip in clips:
        try:
            yield speaker(clip)
        except VideoError as error:
            yield error


def load(
    run: Path | str,
    *,
    device: str = "auto",
    weights: Path | str | None = None,
    hub_dir: Path | str | None = None,
) -> Speaker:
    """Opens a run folder for speaking: `load(run)(path) -> Message`."""
    return Speaker(Run.open(run), device=device, weights=weights, hub_dir=hub_dir)


def _fitting(source: CacheSource, caches: Sequence[Features], folder: Path) -> Features:
    """The cache that was made as this one of the run was; raises HeliographError without one."""
    refusals = []
    for features in caches:
        reason = _difference(source, features.fingerprint, features.sampler)
        if reason is None:
            return features
        refusals.append(reason)
    raise HeliographError(_refusal("this cache", folder, refusals[0]))


def _ear(
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
    """What `cache import --backbone --frames --preprocess` said of the features."""
    imported = source.fingerprint
    if "backbone" not in imported or "frames" not in imported:
        raise HeliographError(
            f"{folder} was trained on imported features of unknown origin, so the "
            "same cannot be made from a new video: import them with --backbone and --frames"
        )
    backbone = backbones.load(
        imported["backbone"], preprocess=imported.get("preprocess", "official"), **where
    )
    sampling = Sampling(frames=imported["frames"], pad=True)  # the paper pads
    made = (sampling.frames // backbone.frames_per_step, backbone.dim)
    if made != (source.steps, source.dim):
        raise HeliographError(
            f"{folder} was trained on {_shapes([(source.steps, source.dim)])}, but the declared "
            f"{backbone.name} with {sampling.frames} frames gives {made[0]} of {made[1]}"
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
        f"trained on: its {'.'.join(path)} is {here!r}, the run's {there!r}"
    )


def _shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    """As people say it: "8 steps of 1024 features"."""
    return " and ".join(
        f"{shape[0]} steps of {shape[1]} features" if len(shape) == 2 else f"shape {shape}"
        for shape in shapes
    )
