"""What a training holds in memory: known before it begins."""

from __future__ import annotations

from collections.abc import Sequence

from data.memory import require_memory
from data.wording import counted
from pipeline.agents import agent_views
from pipeline.config import RIDGE, TrainConfig
from pipeline.dataset import Examples
from pipeline.game import build_game

FIRST_OUTPUTS = 256
"""Numbers that the first convolution makes of each step."""
COPIES = 6
"""Of its weights: themselves, gradients, two moments, what is kept, and what the oracle keeps."""


def require_training_memory(examples: Examples, config: TrainConfig, seeds: int) -> None:
    """Check that the features which so many seeds read at once fit into memory, and their weights.

    The weights are those of the first layers, then those of heads and receivers with a batch.

    Raises:
        OutOfMemoryError: They do not; the sentence gives the sizes and what to do.
    """
    way_out = (
        f"lower --axes ({config.axes})" if config.axes else "read fewer numbers with --axes 64"
    )
    shapes = [features.shape for features in examples.caches]
    require_memory(
        training_bytes(shapes, config, seeds),
        f"training on {' and '.join(' x '.join(map(str, shape)) for shape in shapes)} features",
        f"{way_out}, or take fewer clips",
    )
    symbols = config.agents * config.heads * config.vocab
    weights = symbols * config.hidden_dim * (1 + 2 * config.receivers)
    require_memory(
        4 * seeds * (COPIES * weights + 2 * config.batch * symbols),
        f"training {counted(config.agents, 'agent')} of {counted(config.heads, 'head')} with "
        f"{config.vocab:,} symbols, and {counted(config.receivers, 'receiver')}",
        "lower --agents, --heads, --vocab, --receivers, --hidden-dim or --batch",
    )


def training_bytes(shapes: Sequence[tuple[int, ...]], config: TrainConfig, seeds: int) -> int:
    """Return how many bytes the features and the first layers of so many seeds take, in float32.

    With axes each seed has features of its own, of so many dimensions, and a ridge encoder has its
    scores; else all seeds read the features as they are stored, and hold no copy.

    Args:
        shapes: Of the features of each cache, (N, T, D).
        config: Of the run.
        seeds: That train at once.
    """
    if config.encoder == RIDGE:  # what is left of them is a few scores; a kernel says its memory
        shapes = [(*shape[:2], len(config.properties)) for shape in shapes]
    steps = [shape[1] for shape in shapes]
    dims = [min(config.axes, shape[2]) if config.axes else shape[2] for shape in shapes]
    views = agent_views(steps, config.agent_caches)
    if build_game(config).receivers_see_clips:  # all of each
        views += agent_views(steps, range(len(steps)))
    numbers = sum(
        COPIES * seeds * min(3, len(view.window)) * dims[view.cache] * FIRST_OUTPUTS
        for view in views
    )
    if config.axes or config.encoder == RIDGE:
        numbers += sum(
            seeds * shape[0] * shape[1] * dim for shape, dim in zip(shapes, dims, strict=True)
        )
    return 4 * numbers
