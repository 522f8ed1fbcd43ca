"""Rounds of a game, drawn or on a device, and what is known of the clips in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Clips = NDArray[np.int64]
_Array = TypeVar("_Array", np.ndarray, Tensor)


@dataclass(frozen=True)
class ClipTable:
    """What a game knows of all N clips of a run.

    Attributes:
        labels: float64 (N, P), NaN where unknown.
        objects: Number of each clip's object, int64 (N,).
    """

    labels: NDArray[np.float64]
    objects: NDArray[np.int64]

    @classmethod
    def of(cls, labels: NDArray[np.float64], objects: Sequence[str]) -> ClipTable:
        """Number the objects (N names) and put them next to the labels (N, P)."""
        return cls(labels, np.unique(np.asarray(objects), return_inverse=True)[1].reshape(-1))


@dataclass(frozen=True)
class Rounds(Generic[_Array]):
    """Rounds to play, drawn (numpy) or on a device (torch), with the same leading axes.

    Attributes:
        described: Clips that the senders describe, int64 (..., sides * B): side after side.
        shown: Clips that receivers see for themselves, int64 (..., n); n is 0 in many games.
        answer: What the right answers are, (..., rounds, ...), each game's own.
        weight: float32 (..., rounds, Q) for Q questions in a round, 1 where one counts, else 0.
        active: bool (S,), False for a seed that sits this batch out: it has fewer batches, or no
            question in it. None before the seeds are laid side by side.
    """

    described: _Array
    shown: _Array
    answer: _Array
    weight: _Array
    active: Tensor | None = field(default=None, kw_only=True)

    def as_epoch(self) -> Rounds[_Array]:
        """Return the same as the only batch of a single epoch: axes (1, 1, ...)."""
        return Rounds(*(array[None, None] for array in self.arrays))

    def tensors(self) -> Rounds[Tensor]:
        """Return the same as tensors."""
        return Rounds(*(torch.from_numpy(array) for array in self.arrays))

    @property
    def arrays(self) -> tuple[_Array, _Array, _Array, _Array]:
        """The four arrays, in their order."""
        return self.described, self.shown, self.answer, self.weight


def side_by_side(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return arrays (epochs, batches, ...) of S seeds as one, (epochs, most batches, S, ...)."""
    first = arrays[0]
    most = max(array.shape[1] for array in arrays)
    laid = np.empty((len(first), most, len(arrays), *first.shape[2:]), first.dtype)
    for seed, array in enumerate(arrays):
        laid[:, : array.shape[1], seed] = array
        laid[:, array.shape[1] :, seed] = array[:, -1:]
    return laid
