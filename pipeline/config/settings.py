"""What a training run is made of: one dataclass, its presets, and the JSON beside the weights.

`published` is the recipe of arXiv 2604.03266 (its `_phase87_phys101.py` for one property, its
`_phase54*.py` and `_phase72*.py` for property grids); `stabilised` the one behind its 85.6 %
(`lr=3e-4`); `default` is ours: an epoch chosen on validation objects; for one property, leading
principal axes of the features, each message compared with many others, and a second training with
the validation objects (what each is worth: benchmarks/RESULTS.md).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data.datasets import tie_margins
from data.errors import HeliographError

DISCRETE, CONTINUOUS = "discrete", "continuous"
SIMULTANEOUS, STAGGERED = "simultaneous", "staggered"
CHOICES = {"channel": (DISCRETE, CONTINUOUS), "resets": (SIMULTANEOUS, STAGGERED)}


def _setting(default: Any, group: str, text: str) -> Any:
    """A field that is an option of `heliograph train`, in this group of its help."""
    return dataclasses.field(default=default, metadata={"group": group, "help": text})


AGENTS, GAME, OPTIMISER = "Agents and messages", "The game", "Optimiser"
SCHEDULE, ENCODERS, CLIPS = "Schedule", "Encoders", "Clips and features"


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that the mathematics of a run depends on, beside the features and the seeds.

    The help of a field is that of its option, with the source of the idea: "paper" is arXiv
    2604.03266 and its code.
    """

    properties: tuple[str, ...]
    preset: str = "default"
    split: str = _setting(
        "auto",
        CLIPS,
        "auto (cells-validated for a full grid of two properties, else objects), objects, kfold or "
        "kfold-K (seed s tests fold s mod K of the objects; K is 5), cells-validated, or the "
        "paper's own: published, cells.",
    )
    agents: int = 2
    sees: tuple[int, ...] = ()  # the number of each agent's cache; (): all see the only one
    heads: int = _setting(2, AGENTS, "Symbols that each agent says of a clip.")
    vocab: int = _setting(8, AGENTS, "Symbols to choose from.")
    hidden_dim: int = _setting(128, AGENTS, "Width of encoders and receivers.")
    channel: str = _setting(
        DISCRETE,
        AGENTS,
        "discrete (Gumbel-softmax symbols) or continuous (the control of equal width, the tanh of "
        "the heads' outputs: heads * vocab real numbers an agent; paper, phase 84c).",
    )
    logit_clamp: float = _setting(
        0.0, AGENTS, "Bound of a head's outputs; 0: none. Paper: 15 for one head of 64 symbols."
    )
    epochs: int = _setting(400, SCHEDULE, "Epochs of `training clips // batch` batches.")
    batch: int = _setting(32, OPTIMISER, "Pairs of clips in a batch.")
    pairings: int = _setting(
        1,
        OPTIMISER,
        "How often each message of a batch is compared: the paper's once, or also with the other "
        "pairs' clips. Ours; costs the senders nothing.",
    )
    sender_lr: float = _setting(1e-3, OPTIMISER, "Learning rate of the senders (Adam).")
    receiver_lr: float = _setting(3e-3, OPTIMISER, "Learning rate of the receivers (Adam).")
    weight_decay: float = _setting(0.0, OPTIMISER, "L2 penalty in Adam, of all nets.")
    tau_start: float = _setting(3.0, SCHEDULE, "Gumbel-softmax temperature in the first epoch.")
    tau_end: float = _setting(1.0, SCHEDULE, "That in the last epoch; linear between.")
    soft_epochs: int = _setting(
        30, SCHEDULE, "Epochs with soft symbols; hard (straight-through) ones after them."
    )
    receivers: int = _setting(3, GAME, "Receivers that hear the same senders (paper, phase 54e).")
    reset_interval: int = _setting(
        40, GAME, "Epochs after which receivers start afresh (iterated learning; paper, phase 54c)."
    )
    resets: str = _setting(
        SIMULTANEOUS,
        GAME,
        "simultaneous (all receivers afresh; paper, phase 54e) or staggered (one after the other; "
        "paper, phase 54d).",
    )
    grad_clip: float = _setting(1.0, OPTIMISER, "Largest norm of the gradient of a net.")
    entropy_threshold: float = _setting(
        0.1, GAME, "A head whose entropy is below this share of the largest gets the bonus."
    )
    entropy_bonus: float = _setting(
        0.03, GAME, "Weight of the bonus on the entropy of heads that hardly vary."
    )
    oracle_epochs: int = _setting(
        0,
        ENCODERS,
        "Epochs in which the encoders learn with both clips in plain sight (paper, phase 54).",
    )
    oracle_lr: float = _setting(1e-3, ENCODERS, "Learning rate in the oracle epochs (Adam).")
    tie_margins: tuple[float, ...] = ()  # per property: values that differ by no more are a tie
    train_on_ties: bool = _setting(
        False,
        GAME,
        'Teach a tie as "not more", as the paper\'s grids do, instead of leaving it out.',
    )
    axes: int = _setting(
        0,
        ENCODERS,
        "Leading principal axes of each cache's training features to keep, whitened; 0: the "
        "features as they are.",
    )
    shrinkage: float = _setting(
        0.0,
        ENCODERS,
        "Softens the whitening of the axes: this much of their mean variance is added to each.",
    )
    standardise: bool = _setting(
        False, ENCODERS, "Divide each dimension by its standard deviation before finding the axes."
    )
    refit: bool = _setting(
        False,
        CLIPS,
        "Once validation clips have chosen an epoch, train again with them among the training "
        "clips, and keep the state of that epoch.",
    )
    shuffle_labels: bool = _setting(
        False, CLIPS, "A control: training labels in another order, so there is nothing to learn."
    )

    def __post_init__(self) -> None:
        if not self.properties:
            raise HeliographError("a run needs at least one property")
        if len(set(self.properties)) < len(self.properties):
            raise HeliographError(f"a property is named twice: {', '.join(self.properties)}")
        margins = self.tie_margins
        if len(margins) != len(self.properties) or not all(0 <= m < math.inf for m in margins):
            raise HeliographError(
                f"needs one tie margin of at least 0 per property, got {self.tie_margins}"
            )
        for name, least in LEAST.items():
            value = getattr(self, name)
            if not value >= least:
                raise HeliographError(f"{name} must be at least {least}, got {value}")
        for name in ("tau_start", "tau_end", "grad_clip"):
            if not getattr(self, name) > 0:
                raise HeliographError(f"{name} must be above 0, got {getattr(self, name)}")
        for field in dataclasses.fields(self):
            if getattr(self, field.name) == math.inf:
                raise HeliographError(f"{field.name} must be finite, got inf")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise HeliographError(
                    f"no {name} {getattr(self, name)!r}: choose one of {', '.join(choices)}"
                )
        if self.pairings > self.batch:
            raise HeliographError(
                f"{self.pairings} pairings of a batch of {self.batch}: at most one with each pair"
            )
        if self.sees and len(self.sees) != self.agents:
            raise HeliographError(f"{self.agents} agents, but caches for {len(self.sees)} of them")

    @property
    def agent_caches(self) -> tuple[int, ...]:
        """The number of the cache that each agent sees, one per agent."""
        return self.sees or (0,) * self.agents

    @property
    def continuous(self) -> bool:
        """Whether messages are real numbers, not symbols."""
        return self.channel == CONTINUOUS

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON types; `from_json` reads it back."""
        return dataclasses.asdict(self) | {name: list(getattr(self, name)) for name in _TUPLES}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> TrainConfig:
        """Reads what `to_json` wrote; keys that an older version lacked take their defaults."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(stored) - known)
        if unknown:
            raise HeliographError(
                f"the run was made by a newer version: unknown settings {unknown}"
            )
        return cls(**stored | {name: tuple(stored[name]) for name in _TUPLES if name in stored})


_TUPLES = ("properties", "sees", "tie_margins")
LEAST = {
    "agents": 1,
    "heads": 1,
    "vocab": 2,
    "hidden_dim": 2,
    "logit_clamp": 0,
    "epochs": 1,
    "batch": 4,
    "pairings": 1,
    "sender_lr": 0,
    "receiver_lr": 0,
    "weight_decay": 0,
    "soft_epochs": 0,
    "receivers": 1,
    "reset_interval": 1,
    "entropy_threshold": 0,
    "entropy_bonus": 0,
    "oracle_epochs": 0,
    "oracle_lr": 0,
    "axes": 0,
    "shrinkage": 0,
}

_STABLE: dict[str, Any] = {"sender_lr": 3e-4, "receiver_lr": 1e-3, "weight_decay": 1e-5}
_GRID: dict[str, Any] = {"split": "cells", "oracle_epochs": 100, "train_on_ties": True}
_OURS: dict[str, Any] = {
    "axes": 64,
    "shrinkage": 1.0,
    "pairings": 16,
    "epochs": 160,
    "refit": True,
}

# preset -> (settings for one property, settings for several)
PRESETS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "published": ({"split": "published"}, _GRID),
    "stabilised": (_STABLE | {"split": "published"}, _STABLE | _GRID),
    "default": (_STABLE | _OURS, _STABLE | {"oracle_epochs": 100}),
}

# beside a holistic control both senders learn for as long as those of the published checkpoints
CONTROLLED: dict[str, Any] = {"epochs": 200, "receivers": 1}


MOST_SYMBOLS = 4096  # of a holistic control


def build_config(
    preset: str,
    properties: Sequence[str],
    *,
    tie_margin: dict[str, float] | None = None,
    **overrides: Any,
) -> TrainConfig:
    """The preset's settings for these properties; overrides that are None leave the preset's value.

    `tie_margin` replaces the margins of the properties that it names. Raises HeliographError for an
    unknown preset (naming the right ones) or a value out of range.
    """
    if preset not in PRESETS:
        raise HeliographError(f"no preset {preset!r}: choose one of {', '.join(PRESETS)}")
    known_margins = tie_margins()
    margins = {name: known_margins.get(name, 0.0) for name in properties} | (tie_margin or {})
    stray = sorted(set(margins) - set(properties))
    if stray:
        raise HeliographError(
            f"a tie margin for {stray[0]!r}, which is not a property of this run: "
            f"its properties are {', '.join(properties)}"
        )
    settings = preset_settings(preset, several=len(properties) > 1)
    settings["tie_margins"] = tuple(margins[name] for name in properties)
    given = {name: value for name, value in overrides.items() if value is not None}
    settings |= given
    if "pairings" not in given:  # a preset's own fits any batch
        most = settings.get("batch", TrainConfig.batch)
        settings["pairings"] = min(settings.get("pairings", TrainConfig.pairings), most)
    return TrainConfig(preset=preset, properties=tuple(properties), **settings)


def preset_settings(preset: str, *, several: bool) -> dict[str, Any]:
    """What a preset sets, for one property or for several at once."""
    return dict(PRESETS[preset][several])


def holistic(config: TrainConfig) -> TrainConfig:
    """The paper's holistic control of a run: one head with a symbol for every combination.

    Its outputs are clamped to +-15 and both its learning rates halved (`_phase54_*.py`).
    """
    symbols = config.vocab**config.heads
    if config.heads == 1 or config.continuous:
        kind = "a continuous channel" if config.continuous else "a single head"
        raise HeliographError(f"{kind} has no holistic control: it needs several heads of symbols")
    if symbols > MOST_SYMBOLS:
        raise HeliographError(
            f"a holistic control of {config.vocab}**{config.heads} = {symbols} symbols is too "
            f"large: {MOST_SYMBOLS} at most"
        )
    return dataclasses.replace(
        config,
        heads=1,
        vocab=symbols,
        logit_clamp=15.0,
        sender_lr=config.sender_lr / 2,
        receiver_lr=config.receiver_lr / 2,
    )


def with_control(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a run that a holistic control stands beside; what is given stays."""
    return CONTROLLED | {name: value for name, value in settings.items() if value is not None}


def matched_bandwidth(config: TrainConfig) -> TrainConfig:
    """The paper's control of equal bandwidth (phase 81): one agent with the heads of them all."""
    if len(set(config.agent_caches)) > 1:
        raise HeliographError("a single sender of matched bandwidth sees one cache, not several")
    return dataclasses.replace(config, agents=1, sees=(), heads=config.agents * config.heads)


def parse_agents(text: str) -> int | tuple[str, ...]:
    """Reads what `--agents` says.

    >>> parse_agents("4"), parse_agents("vjepa,dino")
    (4, ('vjepa', 'dino'))
    """
    if re.fullmatch(r"[+-]?\d+", text):
        if int(text) < 1:
            raise HeliographError(f"{text} agents: at least one has to speak")
        return int(text)
    names = tuple(re.split(r"[,+]", text))
    if not all(names):
        raise HeliographError(f"{text!r} leaves an agent without a cache")
    return names
