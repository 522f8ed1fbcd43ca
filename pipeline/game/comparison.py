"""The comparison game of the paper: which of two clips has more of a property?

Two clips a and b, their messages, and per property the question "has a more of it than b?". A pair
whose values differ by no more than the tie margin has no answer and does not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.agents import (
    AgentFactory,
    AgentWindows,
    CompositionalReceiver,
    Stack,
    State,
    drawn_states,
    receiver_logits,
    stack_layers,
    stack_receiver_states,
    stacked_linear,
    unstack_receiver,
)
from pipeline.game.answer_tables import BLOCK, compare_vectors, distinct_rows
from pipeline.game.base import Answers, Game, PartScorer
from pipeline.game.pair_scorer import PairScorer, label_levels
from pipeline.game.pairs import draw_batches, draw_pairs, paired, published_pairs
from pipeline.game.rounds import Clips, ClipTable, Rounds
from pipeline.game.scoring import Accuracy, beyond_margin, judge_pairs

Judged = tuple[NDArray[np.bool_], NDArray[np.bool_]]  # right (R, ..., columns) and asked
MOST_DISTINCT = 2048
"""Of so many distinct messages, or messages with labels, every pair is compared."""
MOST_LEVELS = 2048
"""Of so many distinct rows of labels, what is right of every two is kept."""
DRAWN_PAIRS = 1 << 20
"""Of more, so many pairs: an accuracy is within 0.001 of that of all pairs, 95 times in 100."""
PAIRS_AT_ONCE = 1 << 14


@dataclass(frozen=True)
class PairAnswers(Answers):
    """What R receivers answer about every ordered pair of n clips, by their distinct messages.

    Attributes:
        says_more: bool (R, U, U, P) over the U distinct messages.
        message: The number of each clip's message, (n,).
    """

    says_more: NDArray[np.bool_]
    message: NDArray[np.int64]

    def of(self, a: Clips, b: Clips) -> NDArray[np.bool_]:
        """Return the answers (R, pairs, P) for pairs of positions among the n clips."""
        return self.says_more[:, self.message[a], self.message[b]]

    def by_receiver(self) -> list[Answers]:
        """Return the answers of each receiver alone."""
        return [PairAnswers(answers[None], self.message) for answers in self.says_more]

    def reordered(self, order: Clips) -> PairAnswers:
        """Return the answers if clip i had the message of clip `order[i]`."""
        return PairAnswers(self.says_more, self.message[order])


@dataclass(frozen=True)
class AnswersOnDemand(Answers):
    """What R receivers would answer, asked pair by pair: too many messages for a table of all.

    Attributes:
        receivers: A stack with axes (1, R).
        vectors: What they read of U messages, float32 (U, message_size).
        message: The number of each clip's message, (n,).
    """

    receivers: Stack
    vectors: Tensor
    message: NDArray[np.int64]

    def of(self, a: Clips, b: Clips) -> NDArray[np.bool_]:
        """Return the answers (R, pairs, P) for pairs of positions among the n clips."""
        return compare_pairs(self.receivers, self.vectors, self.message[a], self.message[b])

    def by_receiver(self) -> list[Answers]:
        """Return the answers of each receiver alone."""
        count = self.receivers["heads.bias"].shape[1]
        stacks = [
            {name: value[:, number : number + 1] for name, value in self.receivers.items()}
            for number in range(count)
        ]
        return [AnswersOnDemand(stack, self.vectors, self.message) for stack in stacks]

    def reordered(self, order: Clips) -> AnswersOnDemand:
        """Return the answers if clip i had the message of clip `order[i]`."""
        return AnswersOnDemand(self.receivers, self.vectors, self.message[order])


class ComparisonGame(Game):
    """Which of two clips has more of each property (arXiv 2604.03266)."""

    name = "comparison"
    title = "which of two clips has more of a property"
    sides = 2
    pairs = True

    @property
    def scored_properties(self) -> tuple[str, ...]:
        """Every property of the run."""
        return self.config.properties

    # --- what is played ---

    def epochs(
        self,
        generator: np.random.RandomState,
        clips: Clips,
        table: ClipTable,
        count: int,
        *,
        oracle: bool = False,
    ) -> Rounds:
        """Draw epochs of training pairs: `max(1, len(clips) // batch)` batches in each.

        Answers and weights are those of `pairings * batch` pairs, in the order of `paired`. Where
        ties are left out, a batch with fewer than four answers for a property has none at all: the
        paper's code skips it.
        """
        config = self.config
        batches = max(1, len(clips) // config.batch)
        a, b = (
            side.reshape(count, batches, config.batch)
            for side in draw_batches(generator, clips, config.batch, count * batches)
        )
        rounds = self._rounds(a, b, 1 if oracle else config.pairings, table)
        if config.train_on_ties:
            return Rounds(*rounds.arrays[:3], np.ones_like(rounds.weight))
        enough = rounds.weight.sum(axis=-2, keepdims=True) >= 4
        return Rounds(*rounds.arrays[:3], rounds.weight * enough)

    def draw(
        self, generator: np.random.RandomState, clips: Clips, count: int, table: ClipTable
    ) -> Rounds:
        """Draw `count` pairs as the paper's `sample_pairs`."""
        return self._rounds(*draw_pairs(generator, clips, count), 1, table)

    def sample(
        self,
        generators: Sequence[np.random.Generator],
        clips: Sequence[Clips],
        count: int,
        table: ClipTable,
    ) -> Rounds:
        """Draw `count` pairs from each list of clips; a clip paired with itself does not count."""
        lists = list(zip(generators, clips, strict=True))
        a, b = (np.stack([rng.choice(part, count) for rng, part in lists]) for _ in range(2))
        return self._rounds(a, b, 1, table)

    def _rounds(self, a: Clips, b: Clips, pairings: int, table: ClipTable) -> Rounds:
        all_a = np.concatenate([a] * pairings, axis=-1)
        all_b = np.concatenate([np.roll(b, -n, axis=-1) for n in range(pairings)], axis=-1)
        first, second = table.labels[all_a], table.labels[all_b]
        return Rounds(
            np.concatenate([a, b], axis=-1),
            a[..., :0],
            (first > second).astype(np.float32),
            beyond_margin(first, second, self.config.tie_margins).astype(np.float32),
        )

    def obstacles(self, table: ClipTable, clips: Clips) -> list[str]:
        """Return for each property that the clips do not differ in, how alike they are."""
        values, config = table.labels[clips], self.config
        most, least = (values.max(0), values.min(0)) if len(clips) else np.zeros((2, 1))
        apart = beyond_margin(most, least, config.tie_margins)
        widths = np.broadcast_to(most - least, apart.shape)
        return [
            f"differ in {name} by {width:g} at most, which its tie margin of {margin:g} counts as "
            "equal (see --tie-margin)"
            if width
            else f"all have the same {name}"
            for name, margin, width, differ in zip(
                config.properties, config.tie_margins, widths, apart, strict=True
            )
            if not differ
        ]

    # --- networks ---

    def build_receiver(
        self, message_size: int, factory: AgentFactory, dims: Sequence[int] | None = None
    ) -> CompositionalReceiver:
        """Return a new receiver of two messages."""
        return CompositionalReceiver(message_size, self.config.hidden_dim, self.config.properties)

    def stack_receiver_states(self, states: Sequence[State]) -> Stack:
        """Return R receivers of each of S seeds as a stack with axes S, R."""
        return stack_receiver_states(states)

    def unstack_receiver(
        self, stack: Stack, seed: int, number: int, receiver: CompositionalReceiver
    ) -> None:
        """Load one receiver of one seed into a module of the same sizes."""
        unstack_receiver(stack, seed, number, receiver)

    def oracle_receivers(
        self,
        encoding_size: int,
        factory: AgentFactory,
        dims: Sequence[int],
        seeds: Sequence[int],
        device: torch.device,
    ) -> Stack:
        """Return the paper's comparing nets: one hidden layer for one agent, two for several."""
        width = self.config.hidden_dim
        hidden = [width] if self.config.agents == 1 else [2 * width, width]
        sizes = [2 * encoding_size, *hidden, len(self.config.properties)]
        names = [*(f"shared{number}" for number in range(len(hidden))), "heads"]

        (state,) = drawn_states(
            lambda: [nn.Sequential(*(nn.Linear(*pair) for pair in pairwise(sizes)))], seeds, device
        )
        layers = {
            name: (state[f"{number}.weight"], state[f"{number}.bias"])
            for number, name in enumerate(names)
        }
        return stack_layers([layers])

    def oracle_predict(
        self, receivers: Stack, encodings: Tensor, rounds: Rounds, windows: AgentWindows | None
    ) -> Tensor:
        """Return logits (S, 1, B, P) of encodings (S, 2B, size)."""
        x = torch.cat(encodings.chunk(2, dim=1), dim=-1).unsqueeze(1)
        for number in range(len(receivers) // 2 - 1):
            x = F.relu(stacked_linear(receivers, f"shared{number}", x))
        return stacked_linear(receivers, "heads", x)

    # --- training ---

    def predict(
        self, receivers: Stack, messages: Tensor, rounds: Rounds, windows: AgentWindows | None
    ) -> Tensor:
        """Return logits (S, R, pairs, P) of messages (S, 2B, size); above 0: a has more."""
        first, second = messages.chunk(2, dim=1)
        pairings = rounds.answer.shape[1] // first.shape[1]
        return receiver_logits(receivers, paired(first, second, pairings))

    def round_losses(self, predicted: Tensor, rounds: Rounds) -> Tensor:
        """Return the binary cross-entropy of each answer: (S, R, pairs, P)."""
        target = rounds.answer.unsqueeze(1).expand_as(predicted)
        loss = F.binary_cross_entropy_with_logits(predicted, target, reduction="none")
        return loss * rounds.weight.unsqueeze(1)

    def played(self, rounds: Rounds) -> Tensor:
        """Return where a pair is played in any of its pairings: (S, B)."""
        batch = rounds.described.shape[1] // 2
        return rounds.weight.unflatten(1, (-1, batch)).amax(dim=(1, 3))

    def right(self, predicted: Tensor, rounds: Rounds) -> Tensor:
        """Return where all properties are answered right at once: bool (S, R, pairs)."""
        return ((predicted > 0) == (rounds.answer > 0).unsqueeze(1)).all(dim=-1)

    # --- the judge ---

    def answer_each(
        self,
        receivers: Stack,
        messages: Sequence[Tensor],
        clips: Sequence[Clips],
        windows: AgentWindows | None,
    ) -> list[PairAnswers | AnswersOnDemand]:
        """Let the receivers of many seeds compare every two of their clips, each message once.

        More than `MOST_DISTINCT` messages of a seed are compared when their pair is asked about.
        The device is waited for once.
        """
        receivers = {name: value.detach() for name, value in receivers.items()}
        found = [distinct_rows(read.cpu().numpy()) for read in messages]
        is_few = [len(distinct) <= MOST_DISTINCT for distinct, _ in found]
        few = [
            distinct[: len(distinct) * is_one]
            for (distinct, _), is_one in zip(found, is_few, strict=True)
        ]
        return [
            PairAnswers(table, message)
            if is_few[n]
            else AnswersOnDemand(
                {name: value[n : n + 1] for name, value in receivers.items()},
                torch.from_numpy(distinct).to(receivers["heads.bias"].device),
                message,
            )
            for n, ((distinct, message), table) in enumerate(
                zip(found, compare_vectors(receivers, few), strict=True)
            )
        ]

    def scorer(
        self,
        clips: Sequence[Clips],
        tables: Sequence[ClipTable],
        device: torch.device,
        *,
        published: bool,
    ) -> PartScorer:
        """Return what scores all seeds at once, where there are not too many clips or labels."""
        few = max(map(len, clips)) <= MOST_DISTINCT
        few = few and len(label_levels(clips, tables)[0]) <= MOST_LEVELS
        kind = PairScorer if few else PartScorer
        return kind(self, clips, tables, device, published=published)

    def judge(
        self, answers: Answers, table: ClipTable, clips: Clips
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Score every ordered pair of the clips: (n, n, P + 1) each."""
        blocks = list(self._judged_blocks(answers, table, clips))
        return (
            np.concatenate([right.mean(0) for right, _ in blocks]),
            np.concatenate([asked for _, asked in blocks]),
        )

    def accuracy(self, answers: Answers, table: ClipTable, clips: Clips) -> Accuracy:
        """Return the accuracy over every ordered pair beyond the margin, the receivers pooled.

        Clips with the same message and labels are counted, not compared. Of more than
        `MOST_DISTINCT` others, `DRAWN_PAIRS` pairs are drawn, the same at any time.
        """
        if len(clips) <= MOST_DISTINCT:
            return _pooled(self._judged_blocks(answers, table, clips))
        assert isinstance(answers, PairAnswers | AnswersOnDemand)
        labels, margins = table.labels[clips], self.config.tie_margins
        rows = np.column_stack([answers.message, labels])
        _, first, counts = np.unique(rows, axis=0, return_index=True, return_counts=True)
        if len(first) <= MOST_DISTINCT:
            return _pooled(
                (
                    judge_pairs(
                        answers.of(a[:, None], first), labels[a, None], labels[first], margins
                    )
                    for a in _blocks(first, BLOCK)
                ),
                (weights[:, None] * counts for weights in _blocks(counts, BLOCK)),
            )
        pairs = np.random.default_rng(0).integers(len(clips), size=(DRAWN_PAIRS, 2))
        return _pooled(
            judge_pairs(answers.of(a, b), labels[a], labels[b], margins)
            for a, b in (some.T for some in _blocks(pairs, PAIRS_AT_ONCE))
        )

    def published_accuracy(
        self, answers: Answers, table: ClipTable, clips: Clips
    ) -> Accuracy | None:
        """Return the paper's accuracy: 30 draws of 32 pairs by `RandomState(999)`, pooled."""
        assert isinstance(answers, PairAnswers | AnswersOnDemand)
        if len(clips) < 2:
            return self.accuracy(answers, table, clips)
        a, b = published_pairs(len(clips))
        labels = table.labels[clips]
        return _pooled(
            [judge_pairs(answers.of(a, b), labels[a], labels[b], self.config.tie_margins)]
        )

    def _judged_blocks(self, answers: Answers, table: ClipTable, clips: Clips) -> Iterator[Judged]:
        """Judge some clips at a time against all of them, which bounds the memory."""
        assert isinstance(answers, PairAnswers | AnswersOnDemand)
        labels, positions = table.labels[clips], np.arange(len(clips))
        for start in range(0, max(1, len(clips)), BLOCK):
            a = positions[start : start + BLOCK, None]
            yield judge_pairs(
                answers.of(a, positions), labels[a], labels[None], self.config.tie_margins
            )


def _pooled(
    judged: Iterable[Judged], weights: Iterable[NDArray[np.int64] | None] = repeat(None)
) -> Accuracy:
    """Return the accuracy over answers (R, ..., columns) and which of them count.

    Args:
        judged: Blocks of them.
        weights: Of each block, how many pairs of clips each of its pairs stands for, (...); None
            where that is one.
    """
    rights, counts = [], []
    for (right, asked), weight in zip(judged, weights, strict=False):
        rights.append(_count(right & asked, weight))
        counts.append(len(right) * _count(asked, weight))
    return Accuracy.of(np.sum(rights, axis=0), np.sum(counts, axis=0))


def _count(flags: NDArray[np.bool_], weight: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Return how many of flags (..., columns) are set in each column, by weight."""
    if weight is not None:
        return (flags * weight[..., None]).reshape(-1, flags.shape[-1]).sum(0)
    return np.array([np.count_nonzero(flags[..., n]) for n in range(flags.shape[-1])])


def _blocks(rows: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Return rows (n, ...) cut into blocks of at most so many."""
    return np.split(rows, range(size, len(rows), size))


@torch.no_grad()
def compare_pairs(
    receivers: Stack, vectors: Tensor, a: NDArray[np.int64], b: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Let the receivers of one seed compare pairs of messages: bool (R, ..., P).

    Args:
        receivers: A stack with axes (1, R).
        vectors: What they read of U messages, float32 (U, message_size).
        a: Numbers of the first messages.
        b: Numbers of the second ones; the two are broadcast against each other to (...).
    """
    first, second = (torch.from_numpy(side.copy()) for side in np.broadcast_arrays(a, b))
    answers = [
        receiver_logits(receivers, torch.cat([vectors[one], vectors[two]], dim=-1)[None])[0] > 0
        for one, two in zip(
            first.flatten().to(vectors.device).split(PAIRS_AT_ONCE),
            second.flatten().to(vectors.device).split(PAIRS_AT_ONCE),
            strict=True,
        )
    ]
    return torch.cat(answers, dim=1).unflatten(1, first.shape).cpu().numpy()
