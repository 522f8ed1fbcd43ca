"""The rules, once: rounds, receivers, loss and judge of each game, found by its file.

`GAMES` holds every `Game` class of this folder by its name.
"""

from __future__ import annotations

from data.discovery import find_classes
from data.errors import HeliographError
from pipeline.config import TrainConfig
from pipeline.game.base import Answers, Game, NoSettings
from pipeline.game.comparison import PairAnswers, compare_vectors
from pipeline.game.pairs import PUBLISHED_DRAWS, draw_pairs
from pipeline.game.rounds import ClipTable, Rounds
from pipeline.game.scoring import Accuracy, beyond_margin, judge_pairs

GAMES = find_classes(__name__, Game)  # type: ignore[type-abstract]


def build_game(config: TrainConfig) -> Game:
    """Return the game of a configuration.

    Raises:
        HeliographError: If no game has the name in `config.game`, or its settings are wrong.
    """
    if config.game not in GAMES:
        raise HeliographError(f"no game {config.game!r}: choose one of {', '.join(GAMES)}")
    return GAMES[config.game](config)


__all__ = [
    "GAMES",
    "PUBLISHED_DRAWS",
    "Accuracy",
    "Answers",
    "ClipTable",
    "Game",
    "NoSettings",
    "PairAnswers",
    "Rounds",
    "beyond_margin",
    "build_game",
    "compare_vectors",
    "draw_pairs",
    "judge_pairs",
]
