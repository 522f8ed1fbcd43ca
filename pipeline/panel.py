"""A run as evaluation sees it: what every seed says of every clip, and the receivers that listen.

Positions are the heads of all agents side by side, agent by agent.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config import TrainConfig
from pipeline.population import Stack, stack_receivers, stacked_linear
from pipeline.records import Examples
from pipeline.run import Run
from pipeline.splits import Split
from pipeline.tally import Resampler

MAX_TEST_CLIPS = 400
"""Of more test clips, this many are drawn with a fixed seed: pairs grow with the square."""

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Panel:
    """The messages, splits and receivers of S seeds.

    Attributes:
        tokens: int64 (S, N, positions), of every clip of the cache.
        labels: float64 (N, properties), NaN where unknown.
        objects: the object of each clip, (N,).
        splits: of each seed.
        receivers: a stack with axes (S, 1): the receiver that each seed kept.
    """

    config: TrainConfig
    seeds: tuple[int, ...]
    tokens: NDArray[np.int64]
    labels: NDArray[np.float64]
    objects: tuple[str, ...]
    splits: tuple[Split, ...]
    receivers: Stack

    def __post_init__(self) -> None:
        seeds, clips = self.tokens.shape[:2]
        if not seeds == len(self.splits) == len(self.seeds):
            raise ValueError(f"tokens of {seeds} seeds, but {len(self.splits)} splits")
        if not clips == len(self.labels) == len(self.objects):
            raise ValueError(f"tokens of {clips} clips, but {len(self.labels)} labels")

    def __repr__(self) -> str:
        return f"Panel(tokens={self.tokens.shape}, labels={self.labels.shape})"

    @classmethod
    def of(cls, run: Run, examples: Examples) -> Panel:
        """Reads messages and receivers of every seed of a run."""
        config = run.config
        tokens = np.stack([run.tokens(seed) for seed in run.seeds])  # (S, N, agents, heads)
        return cls(
            config,
            run.seeds,
            tokens.reshape(*tokens.shape[:2], -1),
            examples.labels,
            examples.objects,
            tuple(examples.split(config.split, seed) for seed in run.seeds),
            stack_receivers([[seed_run(run, seed).receiver()] for seed in run.seeds], CPU),
        )

    @property
    def positions(self) -> list[tuple[int, int]]:
        """The agent and head, from 0, of each position."""
        return [(agent, head) for agent in range(self.config.agents) for head in self.heads]

    @property
    def heads(self) -> range:
        return range(self.config.heads)

    @cached_property
    def tests(self) -> list[NDArray[np.int64]]:
        """The test clips of each seed, at most `MAX_TEST_CLIPS`."""
        return [self.some_test_clips(number, MAX_TEST_CLIPS) for number in range(len(self.seeds))]

    def some_test_clips(self, number: int, most: int) -> NDArray[np.int64]:
        """The test clips of the seed with this number; of more than `most`, as many drawn."""
        clips = self.splits[number].test
        if len(clips) <= most:
            return clips
        return np.sort(np.random.default_rng(0).choice(clips, most, replace=False))

    @cached_property
    def resampler(self) -> Resampler:
        """Draws the objects and the seeds again, the same for everything about this run."""
        return Resampler(self.objects, self.tests)

    def receiver(self, number: int) -> Stack:
        """The receiver of the seed with this number: a stack with axes (1, 1)."""
        return {name: value.detach()[number : number + 1] for name, value in self.receivers.items()}


def seed_run(run: Run, seed: int) -> Run:
    """The run whose model and messages are those of one seed."""
    return dataclasses.replace(run, folder=run.folder / "seeds" / str(seed))


@torch.no_grad()
def verdicts(receivers: Stack, words: NDArray[np.int64], vocab: int) -> NDArray[np.bool_]:
    """What receivers say of every ordered pair of words: bool (R, U, U, properties).

    Args:
        receivers: a stack of one seed, axes (1, R).
        words: (U, positions); the symbol `vocab` is silence, which a receiver hears as zeros.
    """
    spoken = one_hot_words(words, vocab).unsqueeze(0)  # (1, U, msg)
    length = spoken.shape[-1]
    first = receivers["shared0.weight"]  # (1, R, 2 * msg, hidden)
    heard = [
        torch.matmul(spoken.unsqueeze(1), side)[0] for side in first.split(length, dim=2)
    ]  # two of (R, U, hidden)
    bias = receivers["shared0.bias"][0].unsqueeze(1).unsqueeze(1)  # (R, 1, 1, hidden)
    blocks = []
    for block in heard[0].split(64, dim=1):  # some rows of the table at a time bound the memory
        hidden = torch.relu(block.unsqueeze(2) + heard[1].unsqueeze(1) + bias).unsqueeze(0)
        hidden = torch.relu(stacked_linear(receivers, "shared2", hidden))
        blocks.append(stacked_linear(receivers, "heads", hidden)[0] > 0)  # (R, rows, U, P)
    return torch.cat(blocks, dim=1).numpy()


def one_hot_words(words: NDArray[np.int64], vocab: int) -> Tensor:
    """Words (..., positions) -> float32 (..., positions * vocab); `vocab` itself is all zeros."""
    hot = words[..., None] == np.arange(vocab)
    return torch.from_numpy(hot.reshape(*words.shape[:-1], -1).astype(np.float32))


def verdicts_of_clips(receivers: Stack, words: NDArray[np.int64], vocab: int) -> NDArray[np.bool_]:
    """As `verdicts`, for the words (n, positions) of n clips: each distinct word is heard once."""
    distinct, own = np.unique(words, axis=0, return_inverse=True)
    own = own.ravel()
    return verdicts(receivers, distinct, vocab)[:, own[:, None], own]


def standing(says_more: NDArray[Any]) -> NDArray[np.float64]:
    """A score of each clip, (n, properties): the share of the others that it is said to exceed.

    `says_more` is (R, n, n, properties); both orders of a pair count.
    """
    more = np.asarray(says_more, dtype=np.float64).mean(0)
    return (more.mean(1) + 1 - more.mean(0)) / 2
