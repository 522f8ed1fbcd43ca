"""Features as a dataset of PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


class FeatureDataset(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor, str]]):
    """Clips as (features, labels, clip id): float32 (T, D), float32 (P,) and text.

    `DataLoader` makes batches of it: (B, T, D), (B, P), and B ids.

    Attributes:
        label_names: The P labels, in the order of the second tensor; NaN where unknown.
        clip_id: Ids of the clips.
        objects: Object of each clip.
    """

    def __init__(
        self,
        features: Any,
        rows: NDArray[np.int64],
        labels: NDArray[np.float64],
        label_names: Sequence[str],
        clip_id: Sequence[str],
        objects: Sequence[str],
    ) -> None:
        self._features, self._rows = features, rows
        self._labels = torch.from_numpy(labels[rows].astype(np.float32))
        self.label_names = tuple(label_names)
        self.clip_id = [clip_id[row] for row in rows]
        self.objects = [objects[row] for row in rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor, str]:
        features = np.array(self._features[self._rows[number]], dtype=np.float32)
        return torch.from_numpy(features), self._labels[number], self.clip_id[number]

    def __repr__(self) -> str:
        labels = ", ".join(self.label_names) or "none"
        return f"FeatureDataset({len(self)} clips, labels {labels})"
