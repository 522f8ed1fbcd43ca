"""Accuracies over pairs of clips, of all seeds at once, where their receivers are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.agents import AgentWindows, Stack
from pipeline.game.answer_tables import BLOCK, compared, distinct_each
from pipeline.game.base import SEEDS_AT_ONCE, Game, PartScorer
from pipeline.game.pairs import published_pairs
from pipeline.game.rounds import Clips, ClipTable
from pipeline.game.scoring import Accuracy, Floats, judge_pairs

MOST_ANSWERS = 1 << 21
"""Answers that are judged at a time, which bounds the memory."""


def label_levels(
    clips: Sequence[Clips], tables: Sequence[ClipTable]
) -> tuple[Floats, NDArray[np.int64]]:
    """Return the distinct rows of labels (L, P), and the number of each clip's, seed after seed."""
    rows = np.concatenate([table.labels[own] for table, own in zip(tables, clips, strict=True)])
    distinct, number = np.unique(rows, axis=0, return_inverse=True)
    return distinct, number.reshape(-1)


class PairScorer(PartScorer):
    """Counts right answers on the device, which is waited for once.

    To the count they are what `ComparisonGame.accuracy` and `published_accuracy` find of each seed.
    """

    def __init__(
        self,
        game: Game,
        clips: Sequence[Clips],
        tables: Sequence[ClipTable],
        device: torch.device,
        *,
        published: bool,
    ) -> None:
        super().__init__(game, clips, tables, device, published=published)
        self._sizes = [len(own) for own in clips]
        distinct, number = label_levels(clips, tables)
        self._width = len(distinct) + 1  # of the tables below: the last level is that of padding
        levels = _padded(np.split(number, np.cumsum(self._sizes)[:-1]), len(distinct))
        more, asked = _tables_of(distinct, game.config.tie_margins)
        counts = [_asked_of_all(levels, asked)]
        if published:
            pairs = [
                published_pairs(size) if size > 1 else 2 * (np.empty(0, np.int64),)
                for size in self._sizes
            ]
            a, b = (_padded(sides, -1) for sides in zip(*pairs, strict=True))
            first, second = (np.take_along_axis(levels, side, 1) for side in (a, b))
            both = np.where(a < 0, self._width**2 - 1, first * self._width + second)
            counts.append(asked.reshape(self._width**2, -1)[both].sum(1))
            sides = [torch.from_numpy(side.clip(min=0)).to(device) for side in (a, b)]
            self._published = sides[0], sides[1], torch.from_numpy(both).to(device)
        self._asked_count = np.stack(counts, axis=1)  # (S, accuracies, columns)
        self._levels = torch.from_numpy(levels).to(device)  # (S, n)
        self._more, self._asked = (
            torch.from_numpy(table).flatten(0, 1).to(device) for table in (more, asked)
        )  # (width ** 2, columns)

    def scores(
        self, receivers: Stack, messages: Sequence[Tensor], windows: AgentWindows | None
    ) -> list[tuple[Accuracy, Accuracy | None]]:
        """Return the accuracy of each seed, and that by the paper's protocol where it is wanted."""
        at_once = SEEDS_AT_ONCE[self.device.type]
        right = torch.cat(
            [
                self._right(receivers, messages[start : start + at_once], start)
                for start in range(0, len(messages), at_once)
            ]
        )
        asked = self._asked_count * receivers["heads.bias"].shape[1]
        of_each = Accuracy.of_each(right.cpu().numpy(), asked)
        return [(own[0], own[1] if self.published else None) for own in of_each]

    @torch.no_grad()
    def _right(self, receivers: Stack, messages: Sequence[Tensor], start: int) -> Tensor:
        """Count the right answers of some seeds: int64 (S, accuracies, columns)."""
        seeds = slice(start, start + len(messages))
        columns = self._asked_count.shape[1:]
        if not any(map(len, messages)):
            return torch.zeros(len(messages), *columns, dtype=torch.int64, device=self.device)
        distinct, number = distinct_each(torch.cat([*messages]).numpy(), [*map(len, messages)])
        vectors, numbers = self._sent(distinct, number)
        table = compared({name: value[seeds] for name, value in receivers.items()}, vectors)
        says, size = table.flatten(2, 3), table.shape[3]  # (S, R, U * U, P)
        levels = self._levels[seeds, : numbers.shape[1]]
        right = torch.zeros(len(messages), columns[1], dtype=torch.int64, device=self.device)
        at_once = max(1, MOST_ANSWERS // (numbers.numel() * says.shape[1] * says.shape[3]))
        for rows, own in zip(numbers.split(at_once, 1), levels.split(at_once, 1), strict=True):
            pairs = _every_pair(rows, numbers, size)
            right += self._right_of(says, pairs, _every_pair(own, levels, self._width))
        if not self.published:
            return right.unsqueeze(1)
        a, b, both = (side[seeds] for side in self._published)
        pairs = numbers.gather(1, a) * size + numbers.gather(1, b)
        return torch.stack([right, self._right_of(says, pairs, both)], dim=1)

    def _right_of(self, says: Tensor, pairs: Tensor, levels: Tensor) -> Tensor:
        """Count right answers about pairs of clips: int64 (S, columns).

        Args:
            says: What R receivers say of pairs of messages, bool (S, R, U * U, P).
            pairs: The number of each pair's messages among them, (S, pairs).
            levels: The number of each pair's labels, (S, pairs).
        """
        places = pairs[:, None, :, None].expand(-1, says.shape[1], -1, says.shape[3])
        correct = says.gather(2, places) == self._more[levels].unsqueeze(1)  # (S, R, pairs, P)
        asked = self._asked[levels].unsqueeze(1)  # (S, 1, pairs, P + 1)
        together = correct.all(dim=-1, keepdim=True)
        return (torch.cat([correct, together], dim=-1) & asked).sum(dim=(1, 2))

    def _sent(
        self, distinct: NDArray[np.float32], number: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor]:
        """Return both on the device, in one copy for which the host does not wait."""
        if self.device.type == "cpu":
            return torch.from_numpy(distinct), torch.from_numpy(number)
        flat = distinct.reshape(len(distinct), -1)
        both = torch.from_numpy(np.concatenate([flat, number.astype(np.float32)], axis=1))
        if self.device.type == "cuda":
            both = both.pin_memory()
        sent = both.to(self.device, non_blocking=True)
        vectors, numbers = sent.split([flat.shape[1], number.shape[1]], dim=1)
        return vectors.unflatten(1, distinct.shape[1:]).contiguous(), numbers.long()


def _tables_of(
    labels: Floats, margins: Sequence[float]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return of every two levels, and of padding, which is more and what is asked.

    Args:
        labels: Of each level, (L, P).
        margins: Of each property.

    Returns:
        (L + 1, L + 1, P), and with a column for all at once (L + 1, L + 1, P + 1).
    """
    rows = range(0, max(1, len(labels)), BLOCK)
    blocks = [
        judge_pairs(True, labels[row : row + BLOCK, None], labels[None], margins) for row in rows
    ]
    padding = ((0, 1), (0, 1), (0, 0))
    right, asked = (np.pad(np.concatenate(parts), padding) for parts in zip(*blocks, strict=True))
    return right[..., :-1], asked


def _asked_of_all(levels: NDArray[np.int64], asked: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how many ordered pairs of clips are asked about, (S, columns), by levels (S, n)."""
    there = np.zeros((len(levels), len(asked)))
    np.add.at(there, (np.arange(len(levels))[:, None], levels), 1)  # float64: whole below 2 ** 53
    columns = [((there @ column) * there).sum(1) for column in np.moveaxis(asked, 2, 0)]
    return np.stack(columns, axis=1).astype(np.int64)


def _every_pair(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    """Return the numbers of the pairs of rows (S, m) and columns (S, n), (S, m * n)."""
    return (rows.unsqueeze(2) * width + columns.unsqueeze(1)).flatten(1)


def _padded(numbers: Sequence[NDArray[Any]], filling: int) -> NDArray[np.int64]:
    """Return numbers of each seed as one array, (S, the most of them)."""
    padded = np.full((len(numbers), max(map(len, numbers))), filling)
    for row, own in zip(padded, numbers, strict=True):
        row[: len(own)] = own
    return padded
