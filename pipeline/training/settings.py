"""Every setting that a training takes: those of all games, and those that one game has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

from data.errors import InvalidValueError
from pipeline.agents import CHANNELS
from pipeline.config import TrainConfig, parse_setting, setting_fields
from pipeline.game import GAMES

REGISTRIES: dict[str, Mapping[str, Any]] = {"channel": CHANNELS, "game": GAMES}
"""Settings whose values are the names in a registry."""


def known_settings() -> dict[str, FieldInfo]:
    """Return all settings by name: of `TrainConfig`, then of each game."""
    fields = setting_fields(TrainConfig)
    for game in GAMES.values():
        fields = setting_fields(game.Settings) | fields
    return {name: fields[name] for name in (*setting_fields(TrainConfig), *fields)}


def setting_choices(name: str) -> tuple[str, ...]:
    """Return the values that a setting may have, its default first; () where it is free."""
    if name not in REGISTRIES:
        return ()
    default = TrainConfig.model_fields[name].default
    return tuple(sorted(REGISTRIES[name], key=lambda choice: (choice != default, choice)))


def parse_known_setting(name: str, text: str) -> Any:
    """Return the value of a setting that was typed as text.

    Raises:
        InvalidValueError: the text is no value of the setting.
    """
    _check_choice(name, text)
    return parse_setting(name, known_settings()[name], text)


def group_game_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with those that only the game has under `game_settings`.

    Args:
        settings: by name; None stands for a default.

    Raises:
        InvalidValueError: an unknown game or channel, a setting of another game, or a value that
            the game refuses.
    """
    for name in REGISTRIES:
        _check_choice(name, settings.get(name))
    game = settings.get("game") or TrainConfig.model_fields["game"].default
    of_game = dict(settings.get("game_settings") or {})
    general = {name: value for name, value in settings.items() if name != "game_settings"}
    for name, owners in _owners().items():
        value = general.pop(name, None)
        if value is not None and game not in owners:
            raise InvalidValueError(
                f"{name} is no setting of the game {game}: it needs --game {' or '.join(owners)}"
            )
        if value is not None:
            of_game[name] = value
    checked = GAMES[game].Settings(**of_game).to_json()
    return general | ({"game_settings": checked} if checked else {})


def _owners() -> dict[str, list[str]]:
    """Return the games that have a setting, for each setting of a game."""
    owners: dict[str, list[str]] = {}
    for game in GAMES.values():
        for name in game.Settings.model_fields:
            owners.setdefault(name, []).append(game.name)
    return owners


def _check_choice(name: str, value: Any) -> None:
    choices = setting_choices(name)
    if value is not None and choices and value not in choices:
        raise InvalidValueError(f"no {name} {value!r}: choose one of {', '.join(choices)}")
