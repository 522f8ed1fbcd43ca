"""The evaluation context of a run: clips, splits, messages and receivers of every seed.

Positions are the heads of all agents side by side, agent by agent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.errors import HeliographError
from data.memory import require_memory
from data.wording import counted
from pipeline.agents import AgentFactory, AgentWindows, Stack
from pipeline.config import CONVOLUTION, TrainConfig
from pipeline.dataset import (
    PARTS,
    Examples,
    Split,
    as_tensor,
    drawn,
    energy_axes,
    project,
    training_axes,
)
from pipeline.evaluation.pair_scores import PairScorer, Scores, count_pairs
from pipeline.game import Answers, ClipTable, Game, build_game, compare_vectors
from pipeline.runs import Run

MAX_TEST_CLIPS = 400
"""Of more test clips, this many are drawn with a fixed seed: pairs grow with the square."""

MAX_AXES = 256
"""Axes of the features that brief trainings read, where the run has none of its own."""

CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class EvaluationContext:
    """The clips of a run and the splits of its S seeds.

    Attributes:
        labels: float64 (N, properties), NaN where unknown.
        objects: the object of each clip, (N,).
        splits: of each seed.
        caches: features (N, T, D) of each cache.
    """

    config: TrainConfig
    seeds: tuple[int, ...]
    labels: NDArray[np.float64]
    objects: tuple[str, ...]
    splits: tuple[Split, ...]
    caches: tuple[NDArray[Any], ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        if len(self.seeds) != len(self.splits):
            raise ValueError(f"{len(self.seeds)} seeds, but {len(self.splits)} splits")
        if len(self.labels) != len(self.objects):
            raise ValueError(f"labels of {len(self.labels)} clips, objects of {len(self.objects)}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(labels={self.labels.shape}, {len(self.seeds)} seeds)"

    @classmethod
    def of(cls, run: Run, examples: Examples) -> EvaluationContext:
        """Return the context of a run."""
        splits = tuple(split_of(run, seed, examples) for seed in run.seeds)
        return EvaluationContext(
            run.config,
            run.seeds,
            examples.labels,
            examples.objects,
            splits,
            caches=examples.caches,
        )

    def generators(self, *key: int) -> list[np.random.Generator]:
        """Return one for each seed; what it draws does not depend on which other seeds there are.

        Args:
            key: Other numbers give other draws.
        """
        return [np.random.default_rng([*key, seed]) for seed in self.seeds]

    @cached_property
    def game(self) -> Game:
        """The game of the run."""
        return build_game(self.config)

    @cached_property
    def table(self) -> ClipTable:
        """What the game knows of the clips."""
        return ClipTable.of(self.labels, self.objects)

    @property
    def factory(self) -> AgentFactory:
        """Builds networks for the caches of the run, which learn from nothing."""
        shapes = [cache.shape[1:] for cache in self.caches]
        config = self.config.replace(encoder=CONVOLUTION)
        return AgentFactory(
            config, tuple(steps for steps, _ in shapes), tuple(dim for _, dim in shapes)
        )

    @cached_property
    def windows(self) -> AgentWindows | None:
        """What receivers see of every clip; None in a game where they see none."""
        if not self.game.receivers_see_clips:
            return None
        require_memory(
            4 * sum(features.size for features in self.caches),
            f"playing with {counted(len(self.labels), 'clip')}",
            "take fewer clips, or fewer dimensions",
        )
        return AgentWindows.whole([as_tensor(features) for features in self.caches])

    @cached_property
    def projected(self) -> list[Tensor]:
        """The features of each cache on each seed's axes, (S, N, T, axes), for brief trainings.

        The axes are those that the run itself used, or else the leading `MAX_AXES`.
        """
        trained = [split.train for split in self.splits]
        return [_project(features, trained, self.config) for features in self.caches]

    @cached_property
    def projected_windows(self) -> AgentWindows | None:
        """As `windows`, of the projected features."""
        return AgentWindows.whole(self.projected) if self.game.receivers_see_clips else None

    def rounds_per_step(self, count: int) -> int:
        """Return how many rounds a step of a brief training has.

        A quarter of `count` where receivers encode clips themselves, which costs many times as
        much.
        """
        return count // 4 if self.game.receivers_see_clips else count

    def score_answers(self, answers: Sequence[Answers]) -> Scores:
        """Score each seed's answers about its test clips by the judge of the game."""
        return self.scorer.score(
            [
                count_pairs(
                    *self.game.judge(of_seed, self.table, clips), self.scorer.objects[clips]
                )
                for of_seed, clips in zip(answers, self.tests, strict=True)
            ]
        )

    @property
    def properties(self) -> tuple[str, ...]:
        """The properties that the run is about."""
        return self.config.properties

    @property
    def margins(self) -> tuple[float, ...]:
        """The tie margin of each property."""
        return self.config.tie_margins

    @cached_property
    def tests(self) -> list[NDArray[np.int64]]:
        """The test clips of each seed, at most `MAX_TEST_CLIPS`."""
        return self.some_test_clips(MAX_TEST_CLIPS)

    def some_test_clips(self, most: int) -> list[NDArray[np.int64]]:
        """The test clips of each seed; of more than `most`, as many drawn."""
        return [drawn(split.test, most) for split in self.splits]

    @cached_property
    def scorer(self) -> PairScorer:
        """Scores the test clips of every seed."""
        return PairScorer(self.objects, self.tests)


@dataclass(frozen=True, eq=False, repr=False)
class MessageContext(EvaluationContext):
    """The messages of every seed, and the receivers that read them.

    Attributes:
        tokens: int64 (S, N, positions), of every clip.
        receivers: a stack with axes (S, 1): the receiver that each seed kept.
    """

    tokens: NDArray[np.int64]
    receivers: Stack

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokens.shape[:2] != (len(self.seeds), len(self.labels)):
            raise ValueError(
                f"tokens {self.tokens.shape} for {len(self.seeds)} seeds, {len(self.labels)} clips"
            )

    @classmethod
    def of(cls, run: Run, examples: Examples) -> MessageContext:
        """Read messages and receivers of every seed of a run."""
        by_seed = [run.tokens(seed) for seed in run.seeds]
        for seed, tokens_of in zip(run.seeds, by_seed, strict=True):
            if len(tokens_of) != len(examples):
                raise HeliographError(
                    f"{run.folder} is damaged: seed {seed} has messages of {len(tokens_of)} clips, "
                    f"its cache {len(examples)} clips"
                )
        tokens = np.stack(by_seed)  # (S, N, agents, heads)
        receivers = [[run.of_seed(seed).receiver()] for seed in run.seeds]
        return cls(
            **vars(EvaluationContext.of(run, examples)),
            tokens=tokens.reshape(*tokens.shape[:2], -1),
            receivers=run.game.stack_receivers(receivers, CPU),
        )

    @property
    def positions(self) -> list[tuple[int, int]]:
        """The agent and head, from 0, of each position."""
        heads = range(self.config.heads)
        return [(agent, head) for agent in range(self.config.agents) for head in heads]

    def receiver(self, number: int) -> Stack:
        """The receiver of the seed with this number: a stack with axes (1, 1)."""
        return {name: value.detach()[number : number + 1] for name, value in self.receivers.items()}


def split_of(run: Run, seed: int, examples: Examples) -> Split:
    """Return the split that a seed was trained on, from its messages, where they name any part.

    Older runs were split by older rules. What a refit trains on, its validation clips, is no
    validation in its messages either.
    """
    lines = run.messages(seed) if run.has(f"seeds/{seed}/messages.jsonl") else []
    known = recorded_split(lines) if len(lines) == len(examples) else None
    if known is not None:
        return known
    split = examples.split(run.config.split, seed)
    return split.joined() if run.config.refit else split


def recorded_split(lines: Sequence[Mapping[str, Any]]) -> Split | None:
    """Return the split that the lines of `messages.jsonl` name; None where they name none."""
    parts = np.array([line["part"] or "" for line in lines])
    if not (parts != "").any():
        return None
    clips = {name: np.flatnonzero(parts == name) for name in PARTS}
    return Split(**clips, generator=np.random.RandomState(0))


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute products of small matrices on one thread.

    More threads wait for each other longer than they work: with other work on two cores they took
    five times the CPU time and four times as long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compare_messages(
    receivers: Stack, messages: NDArray[np.int64], vocab: int
) -> NDArray[np.bool_]:
    """Return the answers about every ordered pair of messages: bool (R, U, U, properties).

    Args:
        receivers: a stack of one seed, axes (1, R).
        messages: (U, positions); the symbol `vocab` is silence, which is read as zeros.
        vocab: number of symbols.
    """
    return compare_vectors(receivers, [one_hot_tokens(messages, vocab).numpy()])[0]


def one_hot_tokens(messages: NDArray[np.int64], vocab: int) -> Tensor:
    """Words (..., positions) -> float32 (..., positions * vocab); `vocab` itself is all zeros."""
    hot = messages[..., None] == np.arange(vocab)
    return torch.from_numpy(hot.reshape(*messages.shape[:-1], -1).astype(np.float32))


def compare_clips(receivers: Stack, messages: NDArray[np.int64], vocab: int) -> NDArray[np.bool_]:
    """As `compare_messages`, for n clips: each distinct message is compared once."""
    distinct, inverse = np.unique(messages, axis=0, return_inverse=True)
    index = inverse.ravel()
    return compare_messages(receivers, distinct, vocab)[:, index[:, None], index]


def win_rates(says_more: NDArray[Any]) -> NDArray[np.float64]:
    """Return the share of the other clips that each clip is answered to exceed: (n, properties).

    `says_more` is (R, n, n, properties); both orders of a pair count.
    """
    more = np.asarray(says_more, dtype=np.float64).mean(0)
    return (more.mean(1) + 1 - more.mean(0)) / 2


def _project(
    features: NDArray[Any], trained: Sequence[NDArray[np.int64]], config: TrainConfig
) -> Tensor:
    """Return features (N, T, D) on the run's axes, or rotated to the leading `MAX_AXES`.

    Args:
        features: (N, T, D).
        trained: The training clips of each seed.
        config: Of the run.

    Returns:
        (S, N, T, axes).
    """
    kept = min(config.axes or MAX_AXES, features.shape[2])
    require_memory(
        8 * len(trained) * features.shape[0] * features.shape[1] * kept,  # and their windows
        f"reading {counted(len(features), 'clip')} on the {kept} axes of "
        f"{counted(len(trained), 'seed')}",
        "train with fewer --axes, fewer --seeds, or fewer clips",
    )
    axes = [
        training_axes(features, config, clips)
        if config.axes
        else energy_axes(features, MAX_AXES, clips=clips)
        for clips in trained
    ]
    return torch.from_numpy(project(features, axes))
