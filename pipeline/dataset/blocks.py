"""Features of many clips a block at a time, so that no float32 copy of them all is made."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

BLOCK_NUMBERS = 1 << 25
"""Numbers of a block: 128 MiB as float32. What fits in one keeps the bits of one product."""


def clip_blocks(
    features: Any, clips: NDArray[np.int64] | None = None, numbers: int = 0
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield the features of clips, a block of clips after the other.

    Args:
        features: (N, ...), an array or `MappedRows`.
        clips: Numbers of clips (n,), in the order to read them; None: all.
        numbers: Of a block; 0: `BLOCK_NUMBERS`.

    Yields:
        Which of the n clips these are, and their features.
    """
    count = len(features) if clips is None else len(clips)
    width = max(1, math.prod(features.shape[1:]))
    step = max(1, (numbers or BLOCK_NUMBERS) // width)
    for start in range(0, count, step):
        where = slice(start, min(start + step, count))
        yield where, np.asarray(features[where if clips is None else clips[where]])


def drawn(clips: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return clips, of more than `most` as many of them, ascending.

    They are the same at any time, so that what a seed is measured on does not depend on the others.
    """
    if len(clips) <= most:
        return clips
    return np.sort(np.random.default_rng(0).choice(clips, most, replace=False))


def as_tensor(features: NDArray[Any]) -> torch.Tensor:
    """Return features as a tensor of the same memory, which is only read."""
    import torch

    with warnings.catch_warnings():  # those of a mapped file cannot be written
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(features)


def column_blocks(
    features: Sequence[Any],
) -> Iterator[NDArray[Any]]:
    """Yield the columns of features laid end to end, as blocks (N, columns) of all clips.

    Args:
        features: Arrays (N, ...) of the same clips.
    """
    count = max(1, len(features[0]))
    if sum(math.prod(part.shape) for part in features) <= BLOCK_NUMBERS:
        yield np.concatenate([np.asarray(part).reshape(len(part), -1) for part in features], axis=1)
        return
    for part in features:
        steps = part.reshape(len(part), 1, -1) if part.ndim < 3 else part
        step = max(1, BLOCK_NUMBERS // count)
        for number in range(steps.shape[1]):
            for start in range(0, steps.shape[2], step):
                yield steps[:, number, start : start + step]
