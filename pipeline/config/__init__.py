"""Settings of a training run: one typed model, its presets and its controls.

What another room may need of it: `TrainConfig` and `build_config`, and for models of its own
`SettingsModel` with `setting`.
"""

from pipeline.config.model import (
    SettingsModel,
    StrictModel,
    group_of,
    parse_setting,
    sentence,
    setting,
    setting_fields,
)
from pipeline.config.presets import (
    CONTROLLED,
    PRESETS,
    build_config,
    holistic,
    matched_bandwidth,
    preset_settings,
    with_control,
)
from pipeline.config.settings import (
    CONVOLUTION,
    DISCRETE,
    IDLE_WITH,
    LAST,
    RIDGE,
    SIMULTANEOUS,
    STAGGERED,
    Group,
    TrainConfig,
    parse_agents,
)

__all__ = [
    "CONTROLLED",
    "CONVOLUTION",
    "DISCRETE",
    "IDLE_WITH",
    "LAST",
    "PRESETS",
    "RIDGE",
    "SIMULTANEOUS",
    "STAGGERED",
    "Group",
    "SettingsModel",
    "StrictModel",
    "TrainConfig",
    "build_config",
    "group_of",
    "holistic",
    "matched_bandwidth",
    "parse_agents",
    "parse_setting",
    "preset_settings",
    "sentence",
    "setting",
    "setting_fields",
    "with_control",
]
