"""How the features of a view are made: by which backbone, of which output, from which frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import backbones
from backbones import Backbone, Entry
from data import cache
from data.errors import HeliographError, InvalidValueError
from data.video import Sampling
from data.wording import counted
from pipeline.experiments.recipe import AgentView

EMBEDDED = "efficientnet_lite0"
STEPS = 8  # of a view that says nothing


@dataclass(frozen=True, kw_only=True)
class ViewFeatures:
    """What makes the features of a view; no model is loaded for it.

    Attributes:
        view: of the recipe.
        entry: the backbone.
        output: its full name; None is the usual one.
        weights: `random`, or None.
        frames: of a clip.
        steps: that they make.
    """

    view: AgentView
    entry: Entry
    output: str | None
    weights: str | None
    frames: int
    steps: int

    @classmethod
    def of(cls, view: AgentView, backbone: str | None) -> ViewFeatures:
        """Return how a view is seen by a backbone; None is the view's own, else the embedded one.

        Raises:
            HeliographError: there is no such backbone or output, or it cannot take these frames.
        """
        own = backbone is None or backbone == view.backbone
        entry = backbones.find_entry(backbone or view.backbone or EMBEDDED)
        try:
            output = backbones.find_output(entry.name, view.pool)
        except backbones.BackboneValueError as error:
            raise InvalidValueError(f"the view {view.name!r}: {error}") from error
        if entry.outputs is not None and output == entry.outputs.names[0]:
            output = None
        each, spanned = entry.frames_per_step, entry.frames_spanned(output)
        if view.still and each > 1:
            raise InvalidValueError(
                f"the view {view.name!r} is of one frame, and {entry.name} takes "
                f"{each} at once: name an image model for it in --backbone"
            )
        needed = ((view.steps or STEPS) - 1) * each + spanned
        frames = 1 if view.still else view.frames or needed
        steps = backbones.steps_of(frames, frames_per_step=each, frames_spanned=spanned)
        if steps < 1 or not steps.is_integer():
            raise InvalidValueError(
                f"the view {view.name!r} has {counted(frames, 'frame')}: {entry.name} takes "
                f"{spanned} for {output or 'a step'}, and {each} more for each step that follows"
            )
        return cls(
            view=view,
            entry=entry,
            output=output,
            weights=view.weights if own else None,
            frames=frames,
            steps=int(steps),
        )

    @property
    def sampling(self) -> Sampling:
        """Which frames of a clip are read."""
        name = "middle" if self.view.still else "uniform"
        return Sampling(name=name, frames=self.frames)

    @property
    def name(self) -> str:
        """The part of a file's name that no view of other features shares."""
        weights = [self.weights] if self.weights else []
        output = [self.output] if self.output else []
        kind = "still" if self.view.still else f"{self.steps}steps"
        return "-".join([self.entry.name, *weights, *output, kind])

    def __str__(self) -> str:
        """Return what it is in words, for the page."""
        weights = f" with {self.weights} weights" if self.weights else ""
        output = f"{self.output} of " if self.output else ""
        seen = "the middle frame" if self.view.still else counted(self.steps, "time step")
        frames = "" if self.view.still else f" ({counted(self.frames, 'frame')})"
        return f"{output}{seen}{frames}, {self.entry.name}{weights}"

    def load(self, *, device: str, hub_dir: Path | None) -> Backbone:
        """Load the backbone."""
        return backbones.load(
            self.entry.name,
            device=device,
            hub_dir=hub_dir,
            weights=self.weights,
            output=self.output,
        )

    def has_all(self, target: Path, clips: Sequence[Any]) -> bool:
        """Return whether a cache holds the features of every clip.

        Raises:
            HeliographError: it cannot be read, or its features were made otherwise.
        """
        if not target.exists():
            return False
        found = cache.info(target)
        made, steps = found["fingerprint"], found["steps"]
        output = self.output or made.get("output")
        told = (made.get("name"), made.get("output"), found["sampler"].get("frames"), steps)
        if told != (self.entry.name, output, self.frames, self.steps):
            raise HeliographError(
                f"{target} holds {counted(steps, 'step')} of {found['origin']}, not {self}: "
                "choose another --out"
            )
        return found["clips"] == len(clips)
