"""What a message is made of: one file per kind of channel, found by its file.

A channel decides what training sends, what a message finally is, and what a receiver reads of it.
`CHANNELS` holds every `Channel` class of this folder by its name.
"""

from __future__ import annotations

from data.discovery import find_classes
from data.errors import HeliographError
from pipeline.agents.channels.base import Channel
from pipeline.config import TrainConfig

CHANNELS = find_classes(__name__, Channel)  # type: ignore[type-abstract]


def build_channel(config: TrainConfig) -> Channel:
    """Return the channel of a configuration.

    Raises:
        HeliographError: If no channel has the name in `config.channel`.
    """
    if config.channel not in CHANNELS:
        raise HeliographError(f"no channel {config.channel!r}: choose one of {', '.join(CHANNELS)}")
    return CHANNELS[config.channel](config)
