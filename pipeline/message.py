"""From a clip to its message: features as the run's cache has them, then the agents speak.

say = load("runs/spring")
print(say("new_clip.mp4"))        # 3-7 | 1-2
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import backbones
from data import cache
from data.clips import Clip, find
from data.errors import HeliographError
from data.features import Features
from data.sampling import Sampling
from data.sandbox import DecoderPool, Job
from data.video import VideoError
from pipeline.agents import message_text
from pipeline.run import Run


@dataclass(frozen=True)
class Message:
    """What the agents say of one clip: int64 tokens (agents, heads), each in 0 .. vocab - 1."""

    clip: str
    tokens: np.ndarray

    def __str__(self) -> str:
        return message_text(self.tokens.tolist())

    def to_json(self) -> dict[str, Any]:
        """A line of `messages.jsonl`."""
        return {"clip": self.clip, "message": str(self), "tokens": self.tokens.tolist()}


class Speaker:
    """The agents of a run and, once a video needs it, the backbone that they were trained on."""

    def __init__(
        self,
        run: Run,
        *,
        device: str = "auto",
        weights: Path | str | None = None,
        hub_dir: Path | str | None = None,
    ) -> None:
        self.run = run
        self._sender = run.sender()
        self._where: dict[str, Any] = {"device": device, "weights": weights, "hub_dir": hub_dir}
        self._decoders = DecoderPool(workers=1)
        weakref.finalize(self, self._decoders.close)
        self._prepared: tuple[backbones.Backbone, Sampling] | None = None

    def __repr__(self) -> str:
        return f"Speaker({self.run})"

    def __call__(self, clip: Clip | Path | str) -> Message:
        """The message for one video.

        Raises HeliographError where the video cannot be read, or where its features would not be
        those that the run was trained on.
        """
        if not isinstance(clip, Clip):
            clip = Clip(id=Path(clip).name, path=Path(clip))
        return Message(clip.id, self.speak(self.features(clip)[None])[0])

    def speak(self, features: np.ndarray) -> np.ndarray:
        """Features (N, steps, dim) -> tokens int64 (N, agents, heads)."""
        source = self.run.source
        if features.shape[1:] != (source.steps, source.dim):
            raise HeliographError(
                f"{self.run.folder} was trained on {source.steps} steps of {source.dim} features, "
                f"these have {features.shape[1]} of {features.shape[2]}"
            )
        with torch.inference_mode():
            tokens = self._sender(torch.from_numpy(np.ascontiguousarray(features)).float()).numpy()
        return tokens.reshape(len(features), self.run.config.agents, self.run.config.heads)

    def speak_of_cache(self, features: Features) -> list[Message]:
        """Messages for the clips of a cache, which must have been made as the run's own was."""
        self._refuse_other(features.fingerprint, features.sampler, "this cache")
        tokens = self.speak(features.features)
        return [Message(clip, own) for clip, own in zip(features.clip_id, tokens, strict=True)]

    def features(self, clip: Clip) -> np.ndarray:
        """Features (steps, dim) of a video, in the precision of the run's cache."""
        backbone, sampling = self.prepare()
        job = Job(path=clip.path, sampling=sampling, start=clip.start, end=clip.end)
        (outcome,) = self._decoders.map([job])
        if outcome.batch is None:
            assert outcome.error is not None
            raise outcome.error
        features = backbone.forward(backbone.preprocess(outcome.batch.frames)[None])[0]
        return features.numpy().astype(self.run.source.dtype)

    def prepare(self) -> tuple[backbones.Backbone, Sampling]:
        """The backbone and sampling that the run's cache was made with, checked once."""
        if self._prepared is None:
            trained_on = self.run.source.fingerprint
            if trained_on.get("imported"):
                self._prepared = self._as_declared(trained_on)
            else:
                backbone = backbones.load(
                    trained_on["name"],
                    precision=trained_on["precision"],
                    preprocess=trained_on["preprocess"]["name"],
                    output=trained_on["output"],
                    **self._where,
                )
                self._refuse_other(backbone.fingerprint, self.run.source.sampler, "this video")
                self._prepared = backbone, Sampling(**self.run.source.sampler)
        return self._prepared

    def _as_declared(self, imported: Mapping[str, Any]) -> tuple[backbones.Backbone, Sampling]:
        """What `cache import --backbone --frames --preprocess` said of the features."""
        missing = [name for name in ("backbone", "frames") if name not in imported]
        if missing:
            raise HeliographError(
                f"{self.run.folder} was trained on imported features of unknown origin, so the "
                "same cannot be made from a new video: import them with --backbone and --frames"
            )
        backbone = backbones.load(
            imported["backbone"],
            preprocess=imported.get("preprocess", "official"),
            **self._where,
        )
        sampling = Sampling(frames=imported["frames"], pad=True)  # the paper pads
        made = (sampling.frames // backbone.frames_per_step, backbone.dim)
        if made != (self.run.source.steps, self.run.source.dim):
            raise HeliographError(
                f"{self.run.folder} was trained on {self.run.source.steps} steps of "
                f"{self.run.source.dim} features, but the declared {backbone.name} with "
                f"{sampling.frames} frames gives {made[0]} of {made[1]}"
            )
        return backbone, sampling

    def _refuse_other(
        self, fingerprint: Mapping[str, Any], sampler: Mapping[str, Any], what: str
    ) -> None:
        trained_on = self.run.source
        for kind, here, there in (
            ("backbone", fingerprint, trained_on.fingerprint),
            ("sampling", sampler, trained_on.sampler),
        ):
            field = next((k for k in [*there, *here] if here.get(k) != there.get(k)), None)
            if field is not None:
                raise HeliographError(
                    f"the features of {what} would come from another {kind} than those that "
                    f"{self.run.folder} was trained on: its {field} is {here.get(field)!r}, "
                    f"the run's {there.get(field)!r}"
                )


def speak_all(speaker: Speaker, paths: Sequence[Path]) -> Iterator[Message | HeliographError]:
    """Messages for videos, folders, manifests and caches; a clip that fails gives its error.

    What concerns every clip (a run on imported features, a cache of another backbone) is raised.
    """
    caches = [path for path in paths if path.suffix == ".h5"]
    for path in caches:
        yield from speaker.speak_of_cache(cache.load(path))
    videos = [path for path in paths if path not in caches]
    clips = find(videos) if videos else []
    if clips:
        speaker.prepare()
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
