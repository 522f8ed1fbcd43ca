"""What receivers answer about every two distinct messages, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.agents import Stack, stacked_linear
from pipeline.game.base import SEEDS_AT_ONCE

BLOCK = 64  # rows of a table of pairs that are computed at a time, which bounds the memory


def distinct_rows(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the distinct of rows (n, size), in order, and for each row the number of its own.

    As `np.unique` along an axis, which takes ten times as long for a hundred rows.

    >>> distinct_rows(np.array([[0, 1], [1, 0], [0, 1]]))[1].tolist()
    [0, 1, 0]
    """
    order = np.lexsort(rows.T[::-1])
    ordered = rows[order]
    is_first = np.ones(len(rows), dtype=bool)
    is_first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    number = np.empty(len(rows), np.int64)
    number[order] = np.cumsum(is_first) - 1
    return ordered[is_first], number


def distinct_each(
    rows: NDArray[np.float32], sizes: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the distinct rows of each of S seeds, and the number of each row's own.

    Args:
        rows: Of all seeds, one seed after the other, (sum of sizes, size).
        sizes: Rows of each seed.

    Returns:
        The distinct ones in the order of `distinct_rows`, padded with zeros, (S, U, size); the
        number of each, padded with zeros, (S, n).
    """
    seed = np.repeat(np.arange(len(sizes)), sizes)
    words = _words(rows)
    order = np.lexsort((*words.T[::-1], seed))
    ordered = words[order]
    is_first = np.ones(len(rows), dtype=bool)
    is_first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1) | (seed[1:] != seed[:-1])
    kept = order[is_first]
    counts = np.bincount(seed[kept], minlength=len(sizes))  # (S,)
    before = np.cumsum(counts) - counts
    own = np.empty(len(rows), np.int64)
    own[order] = np.cumsum(is_first) - 1
    distinct = np.zeros((len(sizes), counts.max(), rows.shape[1]), np.float32)
    distinct[seed[kept], np.arange(len(kept)) - before[seed[kept]]] = rows[kept]
    numbers = np.zeros((len(sizes), max(sizes)), np.int64)
    numbers[np.arange(numbers.shape[1]) < np.asarray(sizes)[:, None]] = own - before[seed]
    return distinct, numbers


def _words(rows: NDArray[np.float32]) -> NDArray[Any]:
    """Return rows (n, size) in fewer columns of the same order, where they are of 0 and 1."""
    is_one = rows == 1
    if not (is_one | (rows == 0)).all():
        return rows
    packed = np.packbits(is_one, axis=1)  # (n, bytes)
    whole = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8)))
    return whole.view(">u8").astype(np.uint64)


@torch.no_grad()
def compare_vectors(
    receivers: Stack, vectors: Sequence[NDArray[np.float32]]
) -> list[NDArray[np.bool_]]:
    """Let the receivers of each seed compare every two of its messages: bool (R, U, U, P) each.

    Args:
        receivers: A stack with axes (S, R), of which the first seeds are asked.
        vectors: What those of each seed read of U messages, float32 (U, message_size).
    """
    device = receivers["heads.bias"].device
    at_once = SEEDS_AT_ONCE[device.type]
    parts = []
    for start in range(0, len(vectors), at_once):
        some = vectors[start : start + at_once]
        padded = np.zeros((len(some), max(map(len, some)), some[0].shape[-1]), np.float32)
        for filled, own in zip(padded, some, strict=True):
            filled[: len(own)] = own
        stack = {name: value[start : start + len(some)] for name, value in receivers.items()}
        parts.append(compared(stack, torch.from_numpy(padded).to(device)))
    tables = [table for part in parts for table in part.cpu().numpy()]
    return [table[:, : len(own), : len(own)] for table, own in zip(tables, vectors, strict=True)]


def compared(receivers: Stack, vectors: Tensor) -> Tensor:
    """Compare every two of the messages (S, U, size) of S seeds: bool (S, R, U, U, P)."""
    first = receivers["shared0.weight"]  # (S, R, 2 * size, hidden)
    halves = [vectors.unsqueeze(1) @ half for half in first.split(vectors.shape[-1], dim=2)]
    bias = receivers["shared0.bias"][:, :, None, None]  # (S, R, 1, 1, hidden)
    blocks = []
    for block in halves[0].split(BLOCK, dim=2):
        hidden = block.unsqueeze(3) + halves[1].unsqueeze(2)
        hidden = hidden.add_(bias).relu_()  # large, so that copies cost time
        hidden = stacked_linear(receivers, "shared2", hidden).relu_()
        blocks.append(stacked_linear(receivers, "heads", hidden) > 0)  # (S, R, rows, U, P)
    return torch.cat(blocks, dim=2)
