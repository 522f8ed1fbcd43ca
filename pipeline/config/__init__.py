"""TODO"""

from pipeline.config.settings import (
    AGENTS,
    CHOICES,
    CONTROLLED,
    GAME,
    LEAST,
    PRESETS,
    STAGGERED,
    TrainConfig,
    build_config,
    holistic,
    matched_bandwidth,
    parse_agents,
    preset_settings,
    with_control,
)

__all__ = [
    "AGENTS",
    "CHOICES",
    "CONTROLLED",
    "GAME",
    "LEAST",
    "PRESETS",
    "STAGGERED",
    "TrainConfig",
    "build_config",
    "holistic",
    "matched_bandwidth",
    "parse_agents",
    "preset_settings",
    "with_control",
]
