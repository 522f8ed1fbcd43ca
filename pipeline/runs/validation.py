"""Checks of what stands in a run folder, for files that somebody edited or broke."""

from __future__ import annotations

from typing import Any

from pipeline.config import TrainConfig


def is_message(tokens: Any, config: TrainConfig) -> bool:
    """Whether agents of this configuration can say this."""
    agents = tokens if isinstance(tokens, list) else []
    return len(agents) == config.agents and all(
        isinstance(own, list)
        and len(own) == config.heads
        and all(isinstance(symbol, int) and 0 <= symbol < config.vocab for symbol in own)
        for own in agents
    )


def reason(error: Exception) -> str:
    """What is wrong with a file, from the exception that reading it raised."""
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)
