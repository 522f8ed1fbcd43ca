"""What a training run is made of: one dataclass, its presets, and the JSON beside the weights.

`published` is the recipe of arXiv 2604.03266 (its `_phase87_phys101.py` for one property, its
`_phase54*.py` and `_phase72*.py` for property grids); `stabilised` the one behind its 85.6 %
(`lr=3e-4`); `default` is ours: the stabilised recipe with a checkpoint chosen on validation
objects.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from data.errors import HeliographError


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that the mathematics of a run depends on, beside the features and the seeds."""

    properties: tuple[str, ...]
    preset: str = "default"
    split: str = "auto"  # a key of splits.SPLITS
    agents: int = 2
    heads: int = 2
    vocab: int = 8
    hidden_dim: int = 128
    epochs: int = 400
    batch: int = 32  # pairs
    sender_lr: float = 1e-3
    receiver_lr: float = 3e-3
    weight_decay: float = 0.0
    tau_start: float = 3.0
    tau_end: float = 1.0
    soft_epochs: int = 30  # hard (straight-through) symbols from this epoch on
    receivers: int = 3
    reset_interval: int = 40  # epochs after which every receiver starts afresh
    grad_clip: float = 1.0
    entropy_threshold: float = 0.1  # of log(vocab)
    entropy_bonus: float = 0.03
    oracle_epochs: int = 0  # epochs in which the encoder learns with both clips in plain sight
    oracle_lr: float = 1e-3
    tie_margins: tuple[float, ...] = ()  # per property: values that differ by no more are a tie
    train_on_ties: bool = False  # the paper's grids teach a tie as "not more"
    axes: int = (
        0  # principal axes of the training features that are kept; 0: the features as they are
    )
    shuffle_labels: bool = False  # the control that has nothing to learn

    def __post_init__(self) -> None:
        if not self.properties:
            raise HeliographError("a run needs at least one property")
        if len(set(self.properties)) < len(self.properties):
            raise HeliographError(f"a property is named twice: {', '.join(self.properties)}")
        if len(self.tie_margins) != len(self.properties) or min(self.tie_margins) < 0:
            raise HeliographError(
                f"needs one tie margin of at least 0 per property, got {self.tie_margins}"
            )
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value < least:
                raise HeliographError(f"{name} must be at least {least}, got {value}")

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
        return cls(**stored | {name: tuple(stored[name]) for name in _TUPLES})


_TUPLES = ("properties", "tie_margins")
_LEAST = {
    "agents": 1,
    "heads": 1,
    "vocab": 2,
    "hidden_dim": 1,
    "epochs": 1,
    "batch": 4,
    "sender_lr": 0,
    "receiver_lr": 0,
    "weight_decay": 0,
    "soft_epochs": 0,
    "receivers": 1,
    "reset_interval": 1,
    "oracle_epochs": 0,
    "axes": 0,
}

_STABLE: dict[str, Any] = {"sender_lr": 3e-4, "receiver_lr": 1e-3, "weight_decay": 1e-5}
_GRID: dict[str, Any] = {"oracle_epochs": 100, "train_on_ties": True}

# preset -> (settings for one property, further settings for several)
PRESETS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "published": ({"split": "published"}, _GRID | {"split": "cells"}),
    "stabilised": (_STABLE | {"split": "published"}, _GRID | {"split": "cells"}),
    "default": (_STABLE, {"oracle_epochs": 100}),
}

# grams; the paper leaves out pairs of 0.5 g or less
TIE_MARGINS = {"mass": 0.5}


def build_config(preset: str, properties: tuple[str, ...], **overrides: Any) -> TrainConfig:
    """The preset's settings for these properties; overrides that are None leave the preset's value.

    Raises HeliographError for an unknown preset (naming the right ones) or a value out of range.
    """
    if preset not in PRESETS:
        raise HeliographError(f"no preset {preset!r}: choose one of {', '.join(PRESETS)}")
    single, several = PRESETS[preset]
    settings = {**single, **(several if len(properties) > 1 else {})}
    settings["tie_margins"] = tuple(TIE_MARGINS.get(name, 0.0) for name in properties)
    settings |= {name: value for name, value in overrides.items() if value is not None}
    return TrainConfig(preset=preset, properties=properties, **settings)
