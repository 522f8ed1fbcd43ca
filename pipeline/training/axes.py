"""Features on the axes of each seed: found on its training clips, as tensors for all seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.config import TrainConfig
from pipeline.dataset import Examples, Split, as_tensor, project, training_axes


def axes_of_seeds(
    examples: Examples, splits: Sequence[Split], config: TrainConfig
) -> list[list[np.ndarray]]:
    """For each split the axes (D, axes) of each cache's training features; none without axes."""
    found: dict[bytes, list[np.ndarray]] = {}  # padding has the split of the last seed
    for split in splits:
        known = split.train.tobytes()
        if known not in found:
            found[known] = [
                training_axes(features, config, split.train)
                for features in examples.caches
                if config.axes
            ]
    return [found[split.train.tobytes()] for split in splits]


def projected(features: np.ndarray, axes: Sequence[np.ndarray]) -> Tensor:
    """Features (N, T, D) on each seed's axes: (S, N, T, axes), or (1, N, T, D) without."""
    if axes:
        return torch.from_numpy(project(features, axes))
    return as_tensor(features).unsqueeze(0)
