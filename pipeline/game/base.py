"""The contract of a game: who is asked what about which clips, and what counts as right.

Training, pre-training, fresh receivers, controls and evaluation all play the same `Game`. Add one
with a file in this folder that defines a subclass; its `Settings` become options and recipe keys.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.agents import (
    AgentFactory,
    AgentWindows,
    Stack,
    State,
    drawn_states,
    stack_sender_states,
    stacked_states,
)
from pipeline.config import SettingsModel, TrainConfig
from pipeline.game.rounds import Clips, ClipTable, Rounds, side_by_side
from pipeline.game.scoring import Accuracy

SEEDS_AT_ONCE = {"cpu": 1, "cuda": 32, "mps": 32}
"""Whose messages a device judges at once: on a CPU no seed's answers depend on its company, to the
bit; elsewhere it bounds the memory."""
MOST_BYTES = 1 << 26
"""Of rounds that are drawn at once: 80 seeds of 200 epochs of the paper's are 59 MiB."""


class NoSettings(SettingsModel):
    """The settings of a game that has none of its own."""


class Answers(ABC):
    """What receivers answer about n clips, each game's own form."""

    @abstractmethod
    def by_receiver(self) -> list[Answers]:
        """Return the answers of each receiver alone."""

    @abstractmethod
    def reordered(self, order: Clips) -> Answers:
        """Return the answers if clip i had the message of clip `order[i]`; `order` is (n,)."""


class Game(ABC):
    """A communication game over one configuration.

    Attributes:
        name: The value of `--game` that selects it.
        title: What is asked, in a few words.
        Settings: The settings that only this game has, each made by `config.setting`; their values
            are in `TrainConfig.game_settings`.
        sides: Clips that the senders describe in each round.
        receivers_see_clips: Whether receivers encode clips themselves.
        pairs: Whether its answers are about pairs of clips by property, so that baselines and
            interventions on pairs stand next to its accuracy.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    Settings: ClassVar[type[SettingsModel]] = NoSettings
    sides: ClassVar[int]
    receivers_see_clips: ClassVar[bool] = False
    pairs: ClassVar[bool] = False

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.settings: Any = self.Settings(**config.game_settings)

    @property
    def scored_properties(self) -> tuple[str, ...]:
        """Properties that have an accuracy of their own; () where a round has one question."""
        return ()

    def metrics(self) -> dict[str, Any]:
        """Return what training adds to `metrics.json` next to the accuracies."""
        return {}

    # --- what is played ---

    @abstractmethod
    def epochs(
        self,
        generator: np.random.RandomState,
        clips: Clips,
        table: ClipTable,
        count: int,
        *,
        oracle: bool = False,
    ) -> Rounds:
        """Draw epochs of one seed from its training clips: axes (count, batches, ...).

        They are those of as many calls for one. `oracle` is for pre-training, where nothing is sent
        that could be used more than once.
        """

    @abstractmethod
    def draw(
        self, generator: np.random.RandomState, clips: Clips, count: int, table: ClipTable
    ) -> Rounds:
        """Draw `count` rounds for one seed: no leading axes."""

    @abstractmethod
    def sample(
        self,
        generators: Sequence[np.random.Generator],
        clips: Sequence[Clips],
        count: int,
        table: ClipTable,
    ) -> Rounds:
        """Draw `count` rounds from each of several lists of clips: axes (lists, ...).

        Args:
            generators: One for each list.
            clips: The lists.
            count: Of rounds from each.
            table: Of all clips.
        """

    @abstractmethod
    def obstacles(self, table: ClipTable, clips: Clips) -> list[str]:
        """Return why these clips leave nothing to play, as predicates of "the ... clips"."""

    def play(
        self,
        generators: Sequence[np.random.RandomState],
        clips: Sequence[Clips],
        tables: Sequence[ClipTable],
        epochs: int,
        device: torch.device,
        *,
        oracle: bool = False,
    ) -> Iterator[list[Rounds[Tensor]]]:
        """Yield each of so many epochs as its batches, those of all seeds side by side.

        They are drawn and sent to the device together, as many as `MOST_BYTES` hold.

        Args:
            generators: Of each seed.
            clips: Training clips of each seed.
            tables: What the game knows of the clips, for each seed.
            epochs: How many.
            device: Where they are played.
            oracle: As for `epochs`.
        """
        one = self.epochs(np.random.RandomState(0), clips[0], tables[0], 1, oracle=oracle)
        size = len(clips) * sum(array.nbytes for array in one.arrays)
        together = max(1, MOST_BYTES // size)
        for done in range(0, epochs, together):
            count = min(together, epochs - done)
            drawn = [
                self.epochs(*of_seed, count, oracle=oracle)
                for of_seed in zip(generators, clips, tables, strict=True)
            ]
            yield from self.batches(drawn, device)

    def batches(
        self, epochs: Sequence[Rounds], device: torch.device
    ) -> Iterator[list[Rounds[Tensor]]]:
        """Lay epochs of every seed side by side: batches with axes (S, ...), on the device.

        A seed with fewer batches than the others repeats its last one, inactive.

        Args:
            epochs: Of each seed, with axes (epochs, batches, ...), as many epochs of each.
            device: Where the batches are wanted.
        """
        lengths = [rounds.described.shape[1] for rounds in epochs]
        stacked = [
            torch.from_numpy(side_by_side(arrays)).to(device)
            for arrays in zip(*(rounds.arrays for rounds in epochs), strict=True)
        ]
        lasting = torch.tensor(
            [[i < length for length in lengths] for i in range(max(lengths))], device=device
        )
        active = lasting & (stacked[-1] > 0).any(dim=-1).any(dim=-1)
        for of_epoch in zip(*stacked, active, strict=True):
            yield [
                Rounds(*arrays, active=playing) for *arrays, playing in zip(*of_epoch, strict=True)
            ]

    def baselines(
        self, caches: Sequence[NDArray[Any]], table: ClipTable, train: Clips, clips: Clips
    ) -> dict[str, Answers | None]:
        """Return what is answered about clips without agents, by the baseline's name.

        Args:
            caches: Features (N, T, D) of each cache.
            table: Of all N clips.
            train: Training clips of one seed.
            clips: The clips that are asked about.

        Returns:
            For each baseline its answers, or None where it has nothing to go by.
        """
        return {}

    # --- networks ---

    @abstractmethod
    def build_receiver(
        self, message_size: int, factory: AgentFactory, dims: Sequence[int] | None = None
    ) -> nn.Module:
        """Return a new receiver.

        Args:
            message_size: Length of what it reads.
            factory: Knows the configuration and the caches' shapes.
            dims: Replace the dimensions of the caches, where features are projected first.
        """

    def stack_receivers(
        self, receivers: Sequence[Sequence[nn.Module]], device: torch.device
    ) -> Stack:
        """Return R receivers of each of S seeds as a stack with axes S, R."""
        return self.stack_receiver_states(stacked_states(receivers, device))

    @abstractmethod
    def stack_receiver_states(self, states: Sequence[State]) -> Stack:
        """Return R receivers of each of S seeds as a stack with axes S, R.

        Args:
            states: The parameters of each of the R, by their names in the module: (S, ...).
        """

    @abstractmethod
    def unstack_receiver(self, stack: Stack, seed: int, number: int, receiver: Any) -> None:
        """Load one receiver of one seed into a module of the same sizes."""

    def fresh_receivers(
        self,
        message_size: int,
        factory: AgentFactory,
        draws: Sequence[int],
        device: torch.device,
        dims: Sequence[int] | None = None,
        count: int | None = None,
    ) -> Stack:
        """Return a stack of new receivers, `count` (or `config.receivers`) for each draw.

        Args:
            message_size: Length of what they read.
            factory: Knows the configuration and the caches' shapes.
            draws: A number for each seed, which seeds the weights of its receivers.
            device: Where the stack lives.
            dims: As for `build_receiver`.
            count: Receivers of each seed.
        """
        numbers = range(count or self.config.receivers)
        states = drawn_states(
            lambda: [self.build_receiver(message_size, factory, dims) for _ in numbers],
            draws,
            device,
        )
        return self.stack_receiver_states(states)

    def init_agents(
        self,
        factory: AgentFactory,
        dims: Sequence[int],
        groups: tuple[tuple[int, ...], ...],
        seeds: Sequence[int],
        device: torch.device,
    ) -> tuple[Stack, Stack]:
        """Return new senders and receivers, drawn in the order of the paper's code: senders first.

        Args:
            factory: Knows the configuration and the caches' shapes.
            dims: Dimensions of each cache.
            groups: Agents that share a product, as `AgentWindows` has them.
            seeds: Of the runs.
            device: Where the stacks live.
        """
        size, count = factory.channel.message_size, range(self.config.receivers)
        sender, *receivers = drawn_states(
            lambda: [
                factory.sender(dims),
                *(self.build_receiver(size, factory, dims) for _ in count),
            ],
            seeds,
            device,
        )
        return stack_sender_states(sender, groups), self.stack_receiver_states(receivers)

    @abstractmethod
    def oracle_receivers(
        self,
        encoding_size: int,
        factory: AgentFactory,
        dims: Sequence[int],
        seeds: Sequence[int],
        device: torch.device,
    ) -> Stack:
        """Return receivers of pre-training, which read the encoders' outputs: axes S, 1."""

    @abstractmethod
    def oracle_predict(
        self, receivers: Stack, encodings: Tensor, rounds: Rounds, windows: AgentWindows | None
    ) -> Tensor:
        """Return predictions as `predict` does, of the receivers of pre-training."""

    # --- training ---

    @abstractmethod
    def predict(
        self, receivers: Stack, messages: Tensor, rounds: Rounds, windows: AgentWindows | None
    ) -> Tensor:
        """Return the receivers' logits for a batch.

        Args:
            receivers: A stack with axes S, R.
            messages: Of `rounds.described`, float32 (S, sides * B, message_size).
            rounds: A batch with axes (S, ...).
            windows: What receivers see of every clip; None where they see none.

        Returns:
            float32 (S, R, rounds, ...).
        """

    @abstractmethod
    def round_losses(self, predicted: Tensor, rounds: Rounds) -> Tensor:
        """Return the loss of each question, 0 where it does not count: (S, R, rounds, Q)."""

    def loss(self, predicted: Tensor, rounds: Rounds) -> Tensor:
        """Return the loss of each seed, (S,).

        The mean over questions that count and over receivers, the sum over the Q questions.
        """
        losses = self.round_losses(predicted, rounds).sum(dim=2)  # (S, R, Q)
        counts = rounds.weight.sum(dim=1).clamp(min=1).unsqueeze(1)
        means = losses / counts
        return (means.sum(dim=2) if means.shape[2] > 1 else means.squeeze(2)).mean(dim=1)

    def played(self, rounds: Rounds) -> Tensor:
        """Return where a described clip of each side has a question that counts: (S, B)."""
        return rounds.weight.amax(dim=2)

    @abstractmethod
    def right(self, predicted: Tensor, rounds: Rounds) -> Tensor:
        """Return where all questions of a round are answered right at once: bool (S, R, rounds)."""

    # --- the judge ---

    def answer(
        self, receivers: Stack, messages: Tensor, clips: Clips, windows: AgentWindows | None
    ) -> Answers:
        """Let the receivers of one seed answer about clips.

        Args:
            receivers: A stack with axes (1, R).
            messages: What they read of these clips, float32 (n, message_size).
            clips: Numbers of the n clips.
            windows: What receivers see of every clip (S = 1); None where they see none.
        """
        return self.answer_each(receivers, [messages], [clips], windows)[0]

    @abstractmethod
    def answer_each(
        self,
        receivers: Stack,
        messages: Sequence[Tensor],
        clips: Sequence[Clips],
        windows: AgentWindows | None,
    ) -> Sequence[Answers]:
        """Let the receivers of each seed answer about clips of its own.

        Args:
            receivers: A stack with axes (S, R), of which the first seeds are asked.
            messages: What they read, float32 (n, message_size) of each seed.
            clips: Numbers of the n clips of each seed.
            windows: What receivers see of every clip, of all seeds; None where they see none.
        """

    @abstractmethod
    def judge(
        self, answers: Answers, table: ClipTable, clips: Clips
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Score answers about n clips by pair of clips.

        Returns:
            The share of right answers and which count, (n, n, columns) each: a column for each of
            `scored_properties`, then one for all at once. A game whose rounds are about single
            clips has them on the diagonal.
        """

    def accuracy(self, answers: Answers, table: ClipTable, clips: Clips) -> Accuracy:
        """Return the accuracy over everything that counts, the receivers pooled."""
        right, asked = self.judge(answers, table, clips)
        return Accuracy.of((right * asked).sum((0, 1)), asked.sum((0, 1)))

    def published_accuracy(
        self, answers: Answers, table: ClipTable, clips: Clips
    ) -> Accuracy | None:
        """Return the accuracy by the paper's protocol; None for a game that the paper lacks."""
        return None

    def scorer(
        self,
        clips: Sequence[Clips],
        tables: Sequence[ClipTable],
        device: torch.device,
        *,
        published: bool,
    ) -> PartScorer:
        """Return what scores the receivers of each seed on clips of its own, many times.

        Args:
            clips: Of each seed.
            tables: What the game knows of the clips, for each seed.
            device: Where the receivers are.
            published: Whether the accuracy by the paper's protocol is wanted as well.
        """
        return PartScorer(self, clips, tables, device, published=published)


class PartScorer:
    """Scores what the receivers of each seed answer about clips of its own; see `Game.scorer`."""

    def __init__(
        self,
        game: Game,
        clips: Sequence[Clips],
        tables: Sequence[ClipTable],
        device: torch.device,
        *,
        published: bool,
    ) -> None:
        self.game, self.clips, self.tables = game, clips, tables
        self.device, self.published = device, published

    def scores(
        self, receivers: Stack, messages: Sequence[Tensor], windows: AgentWindows | None
    ) -> list[tuple[Accuracy, Accuracy | None]]:
        """Return the accuracy of each seed, and that by the paper's protocol where it is wanted.

        Args:
            receivers: A stack with axes (S, R), of which the first seeds are asked.
            messages: What they read of the clips of each seed, float32 (n, message_size).
            windows: As for `Game.answer_each`.
        """
        game = self.game
        answers = game.answer_each(receivers, messages, self.clips, windows)
        return [
            (
                game.accuracy(*of_seed),
                game.published_accuracy(*of_seed) if self.published else None,
            )
            for of_seed in zip(answers, self.tables, self.clips, strict=True)
        ]
