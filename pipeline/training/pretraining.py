"""Pre-trains the encoders as an oracle: receivers read what they put out, without a bottleneck.

The paper pre-trains the encoders of its property grids this way (`Oracle` of
`_phase54c_multiseed.py`, `MultiAgentOracle` of `_phase72_4agent_80seeds.py`) and hands those of the
first clip to the senders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.agents import AgentWindows, Stack, encode, part_of
from pipeline.game import PUBLISHED_DRAWS, ClipTable, Game, Rounds
from pipeline.training.graphs import StepGraph
from pipeline.training.optimizer import adam, backward

EVALUATE_EVERY = 10  # epochs


class Pretraining:
    """The training of the encoders of stacked senders, one stack for each side of a round.

    What stays in the first stack is the state of the best training accuracy, evaluated every ten
    epochs over 30 draws, the same each time. Nothing is drawn or sent in between, and the device is
    never waited for.
    """

    def __init__(
        self,
        game: Game,
        encoders: Sequence[Stack],
        receivers: Stack,
        windows: tuple[AgentWindows, AgentWindows | None],
        train: Sequence[np.ndarray],
        tables: Sequence[ClipTable],
        seeds: Sequence[int],
    ) -> None:
        """Build the optimiser, and draw what is evaluated.

        Args:
            game: What is played.
            encoders: A stack as `stack_senders` makes it for each of `game.sides`.
            receivers: As `game.oracle_receivers` makes them.
            windows: What senders and receivers see of all N clips.
            train: Training clip numbers of each seed.
            tables: What the game knows of the clips, for each seed.
            seeds: Seeds of the rounds that are drawn.
        """
        self.game, self.windows = game, windows
        self.train, self.tables, self.seeds = train, tables, seeds
        self._first = encoders[0]
        self.device = next(iter(self._first.values())).device
        oracle = {
            f"{side}.{name}": value
            for side, stack in enumerate(encoders)
            for name, value in stack.items()
            if "heads" not in name
        }
        oracle |= {f"receivers.{name}": value for name, value in receivers.items()}
        self.optimiser = adam(oracle, lr=game.config.oracle_lr)
        self._learning = {
            name: value.detach() for name, value in part_of(self.optimiser.stack, "0.").items()
        }
        self._kept = {name: value.clone() for name, value in self._learning.items()}
        self._best = torch.full((len(seeds),), -1, device=self.device)  # rounds that were right
        self.graph, self.judging = StepGraph(self.device), StepGraph(self.device)
        self._judged = self._draw()

    def run(self, progress: Callable[[int], None] | None = None) -> None:
        """Train in place; `progress` is called with the number of epochs done."""
        epochs = self.game.config.oracle_epochs
        played = self.game.play(
            [np.random.RandomState(seed) for seed in self.seeds],
            self.train,
            self.tables,
            epochs,
            self.device,
            oracle=True,
        )
        for epoch, batches in enumerate(played, 1):
            for rounds in batches:
                assert rounds.active is not None
                self.graph(self._step, (*rounds.arrays, rounds.active), key=None)
            if epoch == 1 or epoch % EVALUATE_EVERY == 0:
                self.judging(self._keep_better, (), key=None)
            if progress is not None:
                progress(epoch)
        with torch.no_grad():
            for name, value in self._kept.items():
                self._first[name].copy_(value)

    def _draw(self) -> list[Rounds[Tensor]]:
        """Return what is evaluated, 30 draws of training rounds, of all seeds side by side."""
        drawn = []
        for clips, table in zip(self.train, self.tables, strict=True):
            generator = np.random.RandomState(999)
            draws = [
                self.game.draw(generator, clips, self.game.config.batch, table).arrays
                for _ in range(PUBLISHED_DRAWS)
            ]
            stacked = [np.stack(arrays)[None] for arrays in zip(*draws, strict=True)]
            drawn.append(Rounds(*stacked))  # an epoch of 30 batches
        (batches,) = self.game.batches(drawn, self.device)
        return batches

    def _step(
        self, described: Tensor, shown: Tensor, answer: Tensor, weight: Tensor, active: Tensor
    ) -> tuple[Tensor, ...]:
        """Play a batch and step; nothing in it depends on a number of the device."""
        rounds = Rounds(described, shown, answer, weight, active=active)
        self.optimiser.step(backward(self.game.loss(self._predict(rounds), rounds), active))
        return ()

    def _predict(self, rounds: Rounds[Tensor]) -> Tensor:
        stack, seen = self.optimiser.parameters(), self.windows[0]
        sides = enumerate(rounds.described.chunk(self.game.sides, dim=1))
        encodings = [
            encode(part_of(stack, f"{side}."), seen.gather(clips), seen.groups)
            .transpose(1, 2)
            .flatten(2)
            for side, clips in sides
        ]  # of each side (S, B, A * hidden)
        reading = part_of(stack, "receivers.")
        together = torch.cat(encodings, dim=1)
        return self.game.oracle_predict(reading, together, rounds, self.windows[1])

    @torch.no_grad()
    def _keep_better(self) -> tuple[Tensor, ...]:
        """Keep the encoders of the seeds that answer more rounds right than before, all at once.

        The same rounds are asked each time, so that more of them are a better accuracy.
        """
        right = torch.zeros_like(self._best)
        for rounds in self._judged:
            asked = (rounds.weight > 0).all(dim=-1)  # (S, B)
            right += (self.game.right(self._predict(rounds), rounds)[:, 0] & asked).sum(dim=1)
        better = right > self._best
        torch.maximum(right, self._best, out=self._best)
        for name, value in self._learning.items():
            here = better.view(-1, *[1] * (value.ndim - 1))
            self._kept[name].copy_(torch.where(here, value, self._kept[name]))
        return ()
