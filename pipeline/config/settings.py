"""The settings of a training run, and the JSON that is stored next to the weights.

Options of `heliograph train`, keys of recipes and keys of `--sweep` follow from `TrainConfig`.
"""

from __future__ import annotations

import math
import re
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from data.errors import HeliographError, InvalidValueError
from pipeline.config.model import SettingsModel, setting

DISCRETE = "discrete"
CONVOLUTION, RIDGE = "convolution", "ridge"
BEST, LAST = "best", "last"
SIMULTANEOUS, STAGGERED = "simultaneous", "staggered"


Margin = Annotated[float, Field(allow_inf_nan=True)]  # checked together with the properties

MOST = 1_000_000
_COUNTS = ("agents", "heads", "vocab", "hidden_dim", "batch", "receivers")  # of what memory holds


class Group(StrEnum):
    """Headings of the settings in the help of `heliograph train`."""

    AGENTS = "Agents and messages"
    CLIPS = "Clips and features"
    SCHEDULE = "Schedule"
    OPTIMISER = "Optimiser"
    GAME = "The game"
    ENCODERS = "Encoders"


class TrainConfig(SettingsModel):
    """Everything that the mathematics of a run depends on, next to the features and the seeds.

    The description of a field is the help of its option, with the source of the idea: "paper" is
    arXiv 2604.03266 and its code.
    """

    properties: Annotated[tuple[str, ...], Field(strict=False)]
    preset: str = "default"
    split: str = setting(
        "auto",
        Group.CLIPS,
        "auto (cells-validated for a full grid of two properties, else objects), objects, kfold or "
        "kfold-K (seed s tests fold s mod K of the objects; K is 5), cells-validated, or the "
        "paper's own: published, cells.",
    )
    agents: int = Field(2, ge=1)
    sees: Annotated[tuple[int, ...], Field(strict=False)] = Field(
        (), description="The index of each agent's cache; (): all see the only one."
    )
    heads: int = setting(2, Group.AGENTS, "Symbols that each agent sends about a clip.", ge=1)
    vocab: int = setting(8, Group.AGENTS, "Symbols to choose from.", ge=2)
    hidden_dim: int = setting(128, Group.AGENTS, "Width of encoders and receivers.", ge=2)
    channel: str = setting(
        DISCRETE,
        Group.AGENTS,
        "discrete (Gumbel-softmax symbols) or continuous (the control of equal width, the tanh of "
        "the heads' outputs: heads * vocab real numbers per agent; paper, phase 84c).",
    )
    logit_clamp: float = setting(
        0.0,
        Group.AGENTS,
        "Bound of a head's outputs; 0: none. Paper: 15 for one head of 64 symbols.",
        ge=0,
    )
    epochs: int = setting(400, Group.SCHEDULE, "Epochs of `training clips // batch` batches.", ge=1)
    batch: int = setting(32, Group.OPTIMISER, "Pairs of clips in a batch.", ge=4)
    pairings: int = setting(
        1,
        Group.OPTIMISER,
        "How often each message of a batch is compared: once, as in the paper, or also with the "
        "clips of other pairs. Ours; costs the senders nothing.",
        ge=1,
    )
    sender_lr: float = setting(1e-3, Group.OPTIMISER, "Learning rate of the senders (Adam).", ge=0)
    receiver_lr: float = setting(
        3e-3, Group.OPTIMISER, "Learning rate of the receivers (Adam).", ge=0
    )
    weight_decay: float = setting(
        0.0, Group.OPTIMISER, "L2 penalty in Adam, for all networks.", ge=0
    )
    tau_start: float = setting(
        3.0, Group.SCHEDULE, "Gumbel-softmax temperature in the first epoch.", gt=0
    )
    tau_end: float = setting(
        1.0, Group.SCHEDULE, "Temperature in the last epoch; linear in between.", gt=0
    )
    soft_epochs: int = setting(
        30,
        Group.SCHEDULE,
        "Epochs with soft symbols; hard (straight-through) symbols after them.",
        ge=0,
    )
    receivers: int = setting(
        3, Group.GAME, "Receivers that read the same senders (paper, phase 54e).", ge=1
    )
    reset_interval: int = setting(
        40,
        Group.GAME,
        "Epochs after which receivers start again (iterated learning; paper, phase 54c).",
        ge=1,
    )
    resets: Literal["simultaneous", "staggered"] = setting(
        SIMULTANEOUS,
        Group.GAME,
        "simultaneous (all receivers at once; paper, phase 54e) or staggered (one after the "
        "other; paper, phase 54d).",
    )
    grad_clip: float = setting(
        1.0, Group.OPTIMISER, "Largest norm of the gradient of a network.", gt=0
    )
    entropy_threshold: float = setting(
        0.1,
        Group.GAME,
        "A head whose entropy is below this share of the largest gets the bonus.",
        ge=0,
    )
    entropy_bonus: float = setting(
        0.03, Group.GAME, "Weight of the bonus on the entropy of heads that hardly vary.", ge=0
    )
    oracle_epochs: int = setting(
        0,
        Group.ENCODERS,
        "Epochs in which the encoders learn with both clips visible (paper, phase 54).",
        ge=0,
    )
    oracle_lr: float = setting(
        1e-3, Group.ENCODERS, "Learning rate in the oracle epochs (Adam).", ge=0
    )
    tie_margins: Annotated[tuple[Margin, ...], Field(strict=False)] = Field(
        (), description="For each property: values that differ by no more are a tie."
    )
    train_on_ties: bool = setting(
        False,
        Group.GAME,
        'Teach a tie as "not more", as the paper\'s grids do, instead of leaving it out.',
    )
    axes: int = setting(
        0,
        Group.ENCODERS,
        "Leading principal axes of each cache's training features to keep, whitened; 0: the "
        "features as they are.",
        ge=0,
    )
    shrinkage: float = setting(
        0.0,
        Group.ENCODERS,
        "Softens the whitening of the axes: this much of their mean variance is added to each.",
        ge=0,
    )
    standardise: bool = setting(
        False,
        Group.ENCODERS,
        "Divide each dimension by its standard deviation before finding the axes.",
    )
    refit: bool = setting(
        False,
        Group.CLIPS,
        "Once validation clips have chosen an epoch, train again with them among the training "
        "clips, and keep the state of that epoch.",
    )
    kept_epoch: Literal["best", "last"] = setting(
        BEST,
        Group.CLIPS,
        "Which epoch's agents are kept: best (on validation clips, in the later half of the "
        "epochs) or last (nothing is chosen).",
    )
    shuffle_labels: bool = setting(
        False,
        Group.CLIPS,
        "A control: training labels in another order, so there is nothing to learn.",
    )
    game: str = setting(
        "comparison",
        Group.GAME,
        "comparison (which of two clips has more of a property; paper) or referential (which of "
        "several clips is meant). Settings of its own: `heliograph train --game NAME --help`.",
    )
    game_settings: dict[str, Any] = Field(
        {}, description="Settings that only this game has, by name."
    )
    encoder: Literal["convolution", "ridge"] = setting(
        CONVOLUTION,
        Group.ENCODERS,
        "convolution (learned with the messages; paper) or ridge (what the agent's steps add to a "
        "ridge regression of each property, which stays; symbols start as levels of it). Ours.",
    )
    keep_mean: bool = setting(
        False,
        Group.ENCODERS,
        "Let axes lie along the mean of the features, which of motion is how much moves, instead "
        "of at right angles to it.",
    )
    null: int = setting(
        0,
        Group.CLIPS,
        "A control: also train this many seeds, numbered after the others, on labels that are "
        "permuted by object. They are scored beside the run and are no part of it; the verdicts of "
        "`evaluate` need 39 of them.",
        ge=0,
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if not self.properties:
            raise InvalidValueError("a run needs at least one property")
        if len(set(self.properties)) < len(self.properties):
            raise InvalidValueError(f"a property is named twice: {', '.join(self.properties)}")
        margins = self.tie_margins
        if len(margins) != len(self.properties) or not all(0 <= m < math.inf for m in margins):
            raise InvalidValueError(
                f"needs one tie margin of at least 0 per property, got {self.tie_margins}"
            )
        for name in _COUNTS:
            if getattr(self, name) > MOST:
                raise InvalidValueError(
                    f"{name} must be at most {MOST:,}, got {getattr(self, name)}"
                )
        if self.pairings > self.batch:
            raise InvalidValueError(
                f"pairings must be at most batch, got {self.pairings} pairings of a batch of "
                f"{self.batch}"
            )
        if self.encoder == RIDGE and (self.axes or self.oracle_epochs):
            which = "axes" if self.axes else "oracle_epochs"
            raise InvalidValueError(
                f"the ridge encoder reads all features and learns before the messages do: {which} "
                f"must be 0 with it, got {getattr(self, which)}"
            )
        if self.sees and len(self.sees) != self.agents:
            raise InvalidValueError(
                f"{self.agents} agents, but caches for {len(self.sees)} of them"
            )
        return self

    @property
    def agent_caches(self) -> tuple[int, ...]:
        """The index of the cache that each agent sees, one per agent."""
        return self.sees or (0,) * self.agents

    def to_json(self) -> dict[str, Any]:
        """Return the settings; those that older trainings lack only where they say something."""
        stored = super().to_json()
        for name in ("keep_mean", "null", "encoder", "kept_epoch"):
            if stored[name] == type(self).model_fields[name].default:
                del stored[name]
        return stored

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> TrainConfig:
        """Read what `to_json` wrote; keys that an older version lacked take their defaults.

        Raises:
            HeliographError: a setting is unknown or wrong.
        """
        stored = {_RENAMED.get(name, name): value for name, value in stored.items()}
        unknown = sorted(set(stored) - set(cls.model_fields))
        if unknown:
            raise HeliographError(
                f"the run was made by a newer version: unknown settings {', '.join(unknown)}"
            )
        try:
            return cls(**stored)
        except InvalidValueError as error:  # nobody typed it
            raise HeliographError(str(error)) from None


_RENAMED = {"null_seeds": "null"}  # settings that older runs have by another name
_SYMBOLS = ("tau_start", "tau_end", "soft_epochs", "entropy_threshold", "entropy_bonus")
IDLE_WITH: dict[str, tuple[str, Any]] = {
    **dict.fromkeys(("shrinkage", "standardise", "keep_mean"), ("axes", 0)),
    "oracle_lr": ("oracle_epochs", 0),
    **dict.fromkeys(_SYMBOLS, ("channel", "continuous")),
    **dict.fromkeys(("pairings", "train_on_ties"), ("game", "referential")),
}
"""Settings that change nothing while another one has this value."""


def parse_agents(text: str) -> int | tuple[str, ...]:
    """Read a value of `--agents`: how many agents, or the cache of each.

    Raises:
        InvalidValueError: fewer than one agent, or an agent without a cache.

    >>> parse_agents("4"), parse_agents("vjepa,dino")
    (4, ('vjepa', 'dino'))
    """
    if re.fullmatch(r"[+-]?\d+", text):
        if int(text) < 1:
            raise InvalidValueError(f"--agents must be at least 1, got {text}")
        return int(text)
    names = tuple(re.split(r"[,+]", text))
    if not all(names):
        raise InvalidValueError(f"{text!r} leaves an agent without a cache")
    return names
