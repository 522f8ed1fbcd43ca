"""Presets of a training run, and the settings of its controls.

`published` is the recipe of arXiv 2604.03266 (its `_phase87_phys101.py` for one property, its
`_phase54*.py` and `_phase72*.py` for property grids); `stabilised` the one behind its 85.6 %
(`lr=3e-4`); `default` is ours: an epoch chosen on validation objects; for one property, leading
principal axes of the features, each message compared with many others, and a second training with
the validation objects (what each is worth: benchmarks/RESULTS.md); `ridge` has senders whose
encoders share out one ridge regression and whose symbols start as levels of their parts of it, and
keeps the last epoch: few validation clips choose worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data.datasets import tie_margins
from data.errors import InvalidValueError
from pipeline.config.settings import DISCRETE, IDLE_WITH, LAST, RIDGE, TrainConfig

_STABLE: dict[str, Any] = {"sender_lr": 3e-4, "receiver_lr": 1e-3, "weight_decay": 1e-5}
_GRID: dict[str, Any] = {"split": "cells", "oracle_epochs": 100, "train_on_ties": True}
_OURS: dict[str, Any] = {
    "axes": 64,
    "shrinkage": 1.0,
    "pairings": 16,
    "epochs": 160,
    "refit": True,
}
_RIDGE: dict[str, Any] = {
    "encoder": RIDGE,
    "sender_lr": 1e-4,
    "receiver_lr": 3e-3,
    "weight_decay": 1e-5,
    "tau_start": 1.0,
    "soft_epochs": 0,
    "pairings": 16,
    "epochs": 40,
    "refit": True,
    "kept_epoch": LAST,
}

# preset -> (settings for one property, settings for several)
PRESETS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "published": ({"split": "published"}, _GRID),
    "stabilised": (_STABLE | {"split": "published"}, _STABLE | _GRID),
    "default": (_STABLE | _OURS, _STABLE | {"oracle_epochs": 100}),
    "ridge": (_RIDGE, _RIDGE),
}

# next to a holistic control both senders train for as long as those of the published checkpoints
CONTROLLED: dict[str, Any] = {"epochs": 200, "receivers": 1}

MOST_SYMBOLS = 4096  # of a holistic control


def build_config(
    preset: str,
    properties: Sequence[str],
    *,
    tie_margin: dict[str, float] | None = None,
    **overrides: Any,
) -> TrainConfig:
    """Return the preset's settings for these properties.

    Args:
        preset: a key of `PRESETS`.
        properties: labels of the caches.
        tie_margin: replaces the margins of the properties that it names.
        overrides: replace the preset's values; None leaves one as it is.

    Raises:
        InvalidValueError: the preset or a setting is unknown, a value is out of range, or one that
            is given changes nothing.
    """
    if preset not in PRESETS:
        raise InvalidValueError(f"no preset {preset!r}: choose one of {', '.join(PRESETS)}")
    known_margins = tie_margins()
    margins = {name: known_margins.get(name, 0.0) for name in properties} | (tie_margin or {})
    stray = sorted(set(margins) - set(properties))
    if stray:
        raise InvalidValueError(
            f"a tie margin for {stray[0]!r}, which is not a property of this run: "
            f"its properties are {', '.join(properties)}"
        )
    settings = preset_settings(preset, several=len(properties) > 1)
    settings["tie_margins"] = tuple(margins[name] for name in properties)
    given = {name: value for name, value in overrides.items() if value is not None}
    settings |= given
    if "pairings" in settings and "pairings" not in given:  # a preset's own fits any batch
        batch = settings.get("batch", TrainConfig.model_fields["batch"].default)
        settings["pairings"] = min(settings["pairings"], batch)
    config = TrainConfig(preset=preset, properties=tuple(properties), **settings)
    _refuse_idle(config, given)
    return config


def _refuse_idle(config: TrainConfig, given: dict[str, Any]) -> None:
    """Raise InvalidValueError for a setting that is given, and changes nothing beside another."""
    for name, (other, value) in IDLE_WITH.items():
        plain = TrainConfig.model_fields[name].default
        if getattr(config, other) == value and given.get(name, plain) != plain:
            raise InvalidValueError(
                f"{name} changes nothing where {other} is {value}: leave it out, or give another "
                f"{other}"
            )


def preset_settings(preset: str, *, several: bool) -> dict[str, Any]:
    """Return what a preset sets, for one property or for several at once."""
    return dict(PRESETS[preset][several])


def holistic(config: TrainConfig) -> TrainConfig:
    """Return the paper's holistic control of a run: one head with a symbol for every combination.

    Its outputs are clamped to +-15 and both its learning rates halved (`_phase54_*.py`).

    Raises:
        InvalidValueError: the run has no such control.
    """
    symbols = config.vocab**config.heads
    if config.heads == 1 or config.channel != DISCRETE:
        kind = f"a {config.channel} channel" if config.channel != DISCRETE else "a single head"
        raise InvalidValueError(
            f"{kind} has no holistic control: it needs several heads of symbols"
        )
    if symbols > MOST_SYMBOLS:
        raise InvalidValueError(
            f"a holistic control of {config.vocab}**{config.heads} = {symbols} symbols is too "
            f"large: {MOST_SYMBOLS} at most"
        )
    return config.replace(
        heads=1,
        vocab=symbols,
        logit_clamp=0.0 if config.encoder == RIDGE else 15.0,  # its symbols start far apart
        sender_lr=config.sender_lr / 2,
        receiver_lr=config.receiver_lr / 2,
    )


def with_control(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a run that has a holistic control; values that are given stay."""
    return CONTROLLED | {name: value for name, value in settings.items() if value is not None}


def matched_bandwidth(config: TrainConfig) -> TrainConfig:
    """Return the paper's control of equal bandwidth (phase 81): one agent with the heads of all.

    Raises:
        InvalidValueError: the agents see several caches.
    """
    if len(set(config.agent_caches)) > 1:
        raise InvalidValueError("a single sender of matched bandwidth sees one cache, not several")
    return config.replace(agents=1, sees=(), heads=config.agents * config.heads)
