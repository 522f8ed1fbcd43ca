"""The referential game: which of K + 1 candidate clips is meant (EGG's discrimination game).

The receiver reads a message and sees the candidates for itself: the clip that the message describes
and K distractors. The K + 1 candidates are of different objects: other trials of one object have
the same properties, so nothing that the properties say could tell them apart, and a sender that
names the trial would be rewarded. Target and distractors are of one part of the split.

In training the candidates of a batch come from a pool, the batch's targets and one clip of each of
K + 1 objects, so that receivers encode each clip once, however often it is a candidate.

The judge plays `SETS` rounds for each clip, drawn with a fixed seed; chance is 1 / (K + 1). Labels
play no part in it: they are only what the metrics of language compare messages with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.spatial.distance import cdist
from torch import Tensor, nn

from data.errors import InvalidValueError
from pipeline.agents import (
    AgentFactory,
    AgentWindows,
    Stack,
    State,
    TemporalEncoder,
    encode_shared,
    encoder_layers,
    part_of,
    stack_layers,
    stacked_linear,
    unstack_encoder,
)
from pipeline.config import Group, SettingsModel, TrainConfig, setting
from pipeline.dataset import BLOCK_NUMBERS, column_blocks
from pipeline.game.base import SEEDS_AT_ONCE, Answers, Game
from pipeline.game.rounds import Clips, ClipTable, Rounds

SETS = 20
"""Candidate sets that the judge draws for each clip."""
TIE = 1e-5
"""Scores closer than this share of the largest are equal: the candidates share the guess."""
BLOCK = 64
"""Clips of each seed that the judge encodes at a time, which bounds the memory."""
MOST_SCORES = 1 << 26
"""Of all receivers of the seeds that are judged at once."""
MOST_TRAINED = 2048
"""Training clips of which the axes of very large features are found."""


class ReferentialSettings(SettingsModel):
    """The settings of the referential game."""

    distractors: int = setting(
        3, Group.GAME, "Candidates in a round next to the clip that is meant.", ge=1
    )


class ReferentialReceiver(nn.Module):
    """Scores candidate clips by a message: the dot product of two embeddings.

    It has a `TemporalEncoder` over all the steps of each cache, whose outputs laid end to end
    become the embedding of a clip, and two layers that embed a message.
    """

    def __init__(
        self, message_size: int, hidden_dim: int, steps: Sequence[int], dims: Sequence[int]
    ) -> None:
        super().__init__()
        lasting = [count if count > 1 else max(steps) for count in steps]
        self.encoders = nn.ModuleList(
            TemporalEncoder(hidden_dim, dim, count)
            for dim, count in zip(dims, lasting, strict=True)
        )
        self.steps = lasting
        self.clip = nn.Linear(len(dims) * hidden_dim, hidden_dim)
        self.message = nn.Sequential(
            nn.Linear(message_size, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, hidden_dim)
        )

    def forward(self, message: Tensor, candidates: Sequence[Tensor]) -> Tensor:
        """Score candidates.

        Args:
            message: (batch, message_size).
            candidates: Of each cache (batch, K + 1, steps, dim).

        Returns:
            Logits (batch, K + 1).
        """
        parts = []
        for encoder, features, steps in zip(self.encoders, candidates, self.steps, strict=True):
            clips = features.flatten(0, 1).expand(-1, steps, -1)  # static features repeat over time
            parts.append(encoder(clips))
        clips = self.clip(torch.cat(parts, dim=-1)).unflatten(0, candidates[0].shape[:2])
        scores = (clips * self.message(message).unsqueeze(1)).sum(-1)
        return scores / clips.shape[-1] ** 0.5


@dataclass(frozen=True)
class CandidateScores(Answers):
    """How well each clip fits the message of each clip: float32 (R, n messages, n clips)."""

    scores: NDArray[np.float32]

    def by_receiver(self) -> list[Answers]:
        """Return the scores of each receiver alone."""
        return [CandidateScores(scores[None]) for scores in self.scores]

    def reordered(self, order: Clips) -> CandidateScores:
        """Return the scores if clip i had the message of clip `order[i]`."""
        return CandidateScores(self.scores[:, order])


class ReferentialGame(Game):
    """Which of K + 1 candidate clips does the message describe?"""

    name = "referential"
    title = "which of several clips is meant"
    Settings = ReferentialSettings
    sides = 1
    receivers_see_clips = True

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        for name in ("shuffle_labels", "null"):
            if getattr(config, name):
                raise InvalidValueError(
                    "the referential game learns from no labels: "
                    f"--{name.replace('_', '-')} is no control of it"
                )

    @property
    def candidates(self) -> int:
        """K + 1."""
        return self.settings.distractors + 1

    @property
    def chance(self) -> float:
        """The accuracy of a guess."""
        return 1 / self.candidates

    def metrics(self) -> dict[str, Any]:
        """Return the entry `game`: name and chance."""
        return {"game": {"name": self.name, "chance": self.chance}}

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
        """Draw epochs of rounds: `max(1, len(clips) // batch)` batches in each."""
        batch = self.config.batch
        lead = (count, max(1, len(clips) // batch))
        drawn = [self.draw(generator, clips, batch, table) for _ in np.ndindex(lead)]
        return Rounds(
            *(
                np.stack(arrays).reshape(*lead, *arrays[0].shape)
                for arrays in zip(*(rounds.arrays for rounds in drawn), strict=True)
            )
        )

    def draw(
        self, generator: np.random.RandomState, clips: Clips, count: int, table: ClipTable
    ) -> Rounds:
        """Draw `count` rounds for one seed; targets with replacement."""
        return self._rounds(generator, clips, count, table)

    def sample(
        self,
        generators: Sequence[np.random.Generator],
        clips: Sequence[Clips],
        count: int,
        table: ClipTable,
    ) -> Rounds:
        """Draw `count` rounds from each list of clips."""
        lists = zip(generators, clips, strict=True)
        drawn = [self._rounds(rng, part, count, table).arrays for rng, part in lists]
        return Rounds(*map(np.stack, zip(*drawn, strict=True)))

    def _rounds(
        self,
        generator: np.random.RandomState | np.random.Generator,
        clips: Clips,
        count: int,
        table: ClipTable,
    ) -> Rounds:
        """Draw targets, a pool of candidates, and each round's candidates as rows of the pool."""
        targets = generator.choice(clips, count)
        objects = generator.permutation(np.unique(table.objects[clips]))[: self.candidates]
        others = [generator.choice(clips[table.objects[clips] == each]) for each in objects]
        pool = np.concatenate([targets, others])
        here = ClipTable(table.labels[pool], table.objects[pool])
        rows = self._candidates(generator, np.arange(len(pool)), np.arange(count), here)
        return Rounds(targets, pool, rows, np.ones((count, 1), np.float32))

    def _candidates(
        self,
        generator: np.random.RandomState | np.random.Generator,
        clips: Clips,
        targets: Clips,
        table: ClipTable,
    ) -> Clips:
        """Draw candidates (rounds, K + 1) for targets (rounds,), which come first.

        The others are of K other objects among `clips`, all equally likely, a random clip of each.
        """
        order = np.argsort(table.objects[clips], kind="stable")
        objects, starts, sizes = np.unique(
            table.objects[clips][order], return_index=True, return_counts=True
        )
        keys = generator.random((len(targets), len(objects)))
        target_objects = np.searchsorted(objects, table.objects[targets])
        keys[np.arange(len(targets)), target_objects] = 2  # last in the order
        others = np.argsort(keys, axis=1)[:, : self.settings.distractors]
        picked = (generator.random(others.shape) * sizes[others]).astype(np.int64)
        return np.concatenate([targets[:, None], clips[order][starts[others] + picked]], axis=1)

    def obstacles(self, table: ClipTable, clips: Clips) -> list[str]:
        """Return whether the clips show too few objects for a round."""
        count = len(np.unique(table.objects[clips]))
        if count >= self.candidates:
            return []
        noun = "object" if count == 1 else "objects"
        return [
            f"show {count} {noun}, and a round with {self.settings.distractors} distractors needs "
            f"{self.candidates} (see --distractors)"
        ]

    # --- networks ---

    def build_receiver(
        self, message_size: int, factory: AgentFactory, dims: Sequence[int] | None = None
    ) -> ReferentialReceiver:
        """Return a new receiver."""
        return ReferentialReceiver(
            message_size, self.config.hidden_dim, factory.steps, dims or factory.dims
        )

    def stack_receiver_states(self, states: Sequence[State]) -> Stack:
        """Return R receivers of each of S seeds as a stack with axes S, R.

        The layers of the encoder of cache c are named `c:conv1` and so on.
        """
        return stack_layers([_layers_of(state) for state in states])

    def unstack_receiver(
        self, stack: Stack, seed: int, number: int, receiver: ReferentialReceiver
    ) -> None:
        """Load one receiver of one seed into a module of the same sizes."""
        weights = {name: value.detach()[seed, number] for name, value in stack.items()}
        for name, layer in _linear_layers(receiver).items():
            layer.load_state_dict(
                {"weight": weights[f"{name}.weight"].T, "bias": weights[f"{name}.bias"]}
            )
        for cache, encoder in enumerate(receiver.encoders):
            assert isinstance(encoder, TemporalEncoder)
            unstack_encoder(_of_cache(weights, cache), encoder)

    def oracle_receivers(
        self,
        encoding_size: int,
        factory: AgentFactory,
        dims: Sequence[int],
        seeds: Sequence[int],
        device: torch.device,
    ) -> Stack:
        """Return receivers that read the encoders' outputs in place of messages."""
        return self.fresh_receivers(encoding_size, factory, seeds, device, dims, count=1)

    def oracle_predict(
        self, receivers: Stack, encodings: Tensor, rounds: Rounds, windows: AgentWindows | None
    ) -> Tensor:
        """Return logits (S, 1, B, K + 1) of encodings (S, B, size)."""
        return self.predict(receivers, encodings, rounds, windows)

    # --- training ---

    def predict(
        self, receivers: Stack, messages: Tensor, rounds: Rounds, windows: AgentWindows | None
    ) -> Tensor:
        """Return logits (S, R, B, K + 1) of messages (S, B, size); the target is the first."""
        assert windows is not None
        meant = embed_messages(receivers, messages)  # (S, R, B, hidden)
        shown = embed_clips(receivers, rounds.shown, windows)  # (S, R, pool, hidden)
        scores = meant @ shown.transpose(2, 3) / meant.shape[-1] ** 0.5  # (S, R, B, pool)
        candidates = rounds.answer.unsqueeze(1).expand(-1, scores.shape[1], -1, -1)
        return scores.gather(3, candidates)

    def round_losses(self, predicted: Tensor, rounds: Rounds) -> Tensor:
        """Return the cross-entropy of each round: (S, R, B, 1)."""
        return -F.log_softmax(predicted, dim=-1)[..., :1] * rounds.weight.unsqueeze(1)

    def right(self, predicted: Tensor, rounds: Rounds) -> Tensor:
        """Return where the target has the largest logit: bool (S, R, B)."""
        return predicted[..., 0] > predicted[..., 1:].amax(dim=-1)

    # --- the judge ---

    @torch.no_grad()
    def answer_each(
        self,
        receivers: Stack,
        messages: Sequence[Tensor],
        clips: Sequence[Clips],
        windows: AgentWindows | None,
    ) -> list[CandidateScores]:
        """Let the receivers of many seeds score every clip by the message of every clip.

        The device is waited for once.
        """
        assert windows is not None
        device, sizes = receivers["clip.bias"].device, [len(own) for own in clips]
        most, count = max(sizes, default=0), receivers["clip.bias"].shape[1]
        at_once = max(1, min(SEEDS_AT_ONCE[device.type], MOST_SCORES // max(1, count * most**2)))
        found = []
        for start in range(0, len(clips), at_once):
            some = slice(start, start + at_once)
            width = max(sizes[some])
            rows = np.zeros((len(sizes[some]), width), np.int64)  # padded with the first clip
            read = messages[0].new_zeros((len(rows), width, messages[0].shape[1]))
            for n, (own, said) in enumerate(zip(clips[some], messages[some], strict=True)):
                rows[n, : len(own)], read[n, : len(own)] = own, said
            scores = _scores(
                {n: value.detach()[start : start + len(rows)] for n, value in receivers.items()},
                read.to(device),
                torch.from_numpy(rows).to(device),
                windows.of_seeds(start, start + len(rows)),
            ).cpu()
            found += [
                CandidateScores(table[:, :size, :size].numpy())
                for table, size in zip(scores, sizes[some], strict=True)
            ]
        return found

    def judge(
        self, answers: Answers, table: ClipTable, clips: Clips
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Score the rounds of each clip: its share right is on the diagonal of (n, n, 1)."""
        assert isinstance(answers, CandidateScores)
        count = len(clips)
        right = np.zeros((count, count, 1))
        asked = np.zeros((count, count, 1), bool)
        if count and not self.obstacles(table, clips):
            sets = self.candidate_sets(table, clips)  # (n, SETS, K + 1)
            positions = np.arange(count)
            scores = answers.scores[:, positions[:, None, None], sets]  # (R, n, SETS, K + 1)
            right[positions, positions, 0] = share_of_guess(scores).mean(axis=(0, 2))
            asked[positions, positions] = True
        return right, asked

    def baselines(
        self, caches: Sequence[NDArray[Any]], table: ClipTable, train: Clips, clips: Clips
    ) -> dict[str, Answers | None]:
        """Return `clusters` and `other_trial`.

        - `clusters`: a code of the same capacity without learning. Principal axes and k-means are
          fitted on the training clips, with as many clusters as there are messages (at most one
          for two training clips); a clip's message is its cluster, and the candidates in it share
          the guess.
        - `other_trial`: the raw features of another trial of the same object in place of a
          message, compared with those of the candidates: what could be told apart by knowing the
          object alone. The raw features of the clip itself would always be right.
        """
        axes = _leading_axes(caches, train)
        cells = self._clusters(axes, train)[clips]
        same = (cells[:, None] == cells).astype(np.float32)
        return {
            "clusters": CandidateScores(same[None]),
            "other_trial": _siblings(axes, table, clips),
        }

    def _clusters(self, axes: NDArray[np.float64], train: Clips) -> NDArray[np.int64]:
        """Return the cluster of each of N clips."""
        config = self.config
        symbols = config.agents * config.heads * np.log(config.vocab)
        count = int(min(np.exp(min(symbols, 20.0)) + 0.5, max(1, len(train) // 2)))
        centres, _ = kmeans2(axes[train], count, minit="++", seed=0)
        return cdist(axes, centres).argmin(axis=1)

    def candidate_sets(self, table: ClipTable, clips: Clips) -> Clips:
        """Return the judge's candidates as positions among n clips: (n, SETS, K + 1).

        The target of row i is i itself, and comes first. The draws depend on the clips alone.
        """
        here = ClipTable(table.labels[clips], table.objects[clips])
        positions = np.arange(len(clips))
        targets = np.repeat(positions, SETS)
        drawn = self._candidates(np.random.RandomState(999), positions, targets, here)
        return drawn.reshape(len(clips), SETS, -1)


def _scores(receivers: Stack, messages: Tensor, rows: Tensor, windows: AgentWindows) -> Tensor:
    """Return how well each of n clips (S, n) fits the message of each: (S, R, n, n)."""
    shown = [embed_clips(receivers, block, windows) for block in rows.split(BLOCK, dim=1)]
    meant = embed_messages(receivers, messages)  # (S, R, n, hidden)
    return meant @ torch.cat(shown, dim=2).transpose(2, 3) / meant.shape[-1] ** 0.5


def _leading_axes(
    caches: Sequence[NDArray[Any]], train: Clips, most: int = 32
) -> NDArray[np.float64]:
    """Return all clips on the leading principal axes of the training clips: (N, axes).

    Of features that do not fit in one block the axes are found by the products of training clips,
    of many those of evenly spaced ones, a block of columns at a time.
    """
    if sum(own.size for own in caches) <= BLOCK_NUMBERS:
        (columns,) = column_blocks(caches)
        rows = columns.astype(np.float64)
        rows -= rows[train].mean(axis=0)
        _, sizes, directions = np.linalg.svd(rows[train], full_matrices=False)
        known = sizes[:most] > 1e-9 * sizes[0]
        return rows @ directions[:most][known].T
    train = train[:: -(-len(train) // MOST_TRAINED)]

    def centred() -> Iterator[NDArray[np.float64]]:
        for columns in column_blocks(caches):
            yield columns.astype(np.float64) - columns[train].mean(axis=0, dtype=np.float64)

    products = sum((rows[train] @ rows[train].T for rows in centred()), np.zeros(2 * train.shape))
    squares, mixtures = np.linalg.eigh(products)
    squares, mixtures = squares[::-1][:most], mixtures[:, ::-1][:, :most]
    known = squares > 1e-14 * squares[0]
    mixtures = mixtures[:, known] / np.sqrt(squares[known])
    blocks = (rows @ (rows[train].T @ mixtures) for rows in centred())
    return sum(blocks, np.zeros((len(caches[0]), known.sum())))


def _siblings(axes: NDArray[np.float64], table: ClipTable, clips: Clips) -> CandidateScores | None:
    """Score clips by their distance from another trial of each clip's object, the next in order.

    None where an object has a single clip.
    """
    objects, here = table.objects[clips], axes[clips]
    siblings = np.empty(len(clips), np.int64)
    for each in np.unique(objects):
        members = np.flatnonzero(objects == each)
        if len(members) < 2:
            return None
        siblings[members] = np.roll(members, -1)
    distances = cdist(here[siblings], here)
    distances[np.arange(len(clips)), siblings] = np.inf  # itself is never a candidate
    return CandidateScores(-distances[None].astype(np.float32))


def share_of_guess(scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the probability that a guess among the best candidates is the first: (...,).

    Candidates whose scores (..., K + 1) are equal up to rounding share the guess.

    >>> share_of_guess(np.array([[2.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])).tolist()
    [1.0, 0.5, 0.0]
    """
    largest = scores.max(axis=-1, keepdims=True)
    margin = TIE * np.abs(scores).max(axis=-1, keepdims=True)
    best = scores >= largest - margin
    return best[..., 0] / best.sum(axis=-1).clip(min=1)


def embed_messages(receivers: Stack, messages: Tensor) -> Tensor:
    """Embed messages (S, rows, size) by each receiver: (S, R, rows, hidden)."""
    count = receivers["message0.weight"].shape[1]
    h = messages.unsqueeze(1).expand(-1, count, -1, -1)
    h = F.relu(stacked_linear(receivers, "message0", h))
    return stacked_linear(receivers, "message2", h)


def embed_clips(receivers: Stack, clips: Tensor, windows: AgentWindows) -> Tensor:
    """Embed clips (S, rows), given by number, by each receiver: (S, R, rows, hidden)."""
    parts: dict[int, Tensor] = {}
    for group, inputs in zip(windows.groups, windows.gather(clips), strict=True):
        for column, cache in enumerate(group):
            parts[cache] = encode_shared(_of_cache(receivers, cache), inputs[:, column])
    h = torch.cat([parts[cache] for cache in sorted(parts)], dim=-1)
    return stacked_linear(receivers, "clip", h)


def _linear_layers(receiver: ReferentialReceiver) -> dict[str, nn.Linear]:
    layers = {
        "message0": receiver.message[0],
        "message2": receiver.message[2],
        "clip": receiver.clip,
    }
    return {name: layer for name, layer in layers.items() if isinstance(layer, nn.Linear)}


def _layers_of(state: State) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the layers of receivers of S seeds, given by their parameters (S, ...)."""
    layers = {
        name: (state[f"{module}.weight"], state[f"{module}.bias"])
        for name, module in (("message0", "message.0"), ("message2", "message.2"), ("clip", "clip"))
    }
    caches = {int(name.split(".")[1]) for name in state if name.startswith("encoders.")}
    for cache in sorted(caches):
        encoder = encoder_layers(part_of(state, f"encoders.{cache}."))
        layers |= {f"{cache}:{name}": layer for name, layer in encoder.items()}
    return layers


def _of_cache(stack: Stack, cache: int) -> Stack:
    return part_of(stack, f"{cache}:")
