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

from pipeline.agents import AgentWindows, Stack, encode
from pipeline.game import PUBLISHED_DRAWS, ClipTable, Game, Rounds
from pipeline.training.optimizer import adam, backward

EVALUATE_EVERY = 10  # epochs


def pretrain(
    game: Game,
    encoders: Sequence[Stack],
    receivers: Stack,
    windows: tuple[AgentWindows, AgentWindows | None],
    train: Sequence[np.ndarray],
    tables: Sequence[ClipTable],
    seeds: Sequence[int],
    progress: Callable[[int], None] | None = None,
) -> None:
    """Train the encoders of stacked senders in place, one stack for each side of a round.

    What stays in the first is the state of the best training accuracy, evaluated every ten epochs.

    Args:
        game: What is played.
        encoders: A stack as `stack_senders` makes it for each of `game.sides`.
        receivers: As `game.oracle_receivers` makes them.
        windows: What senders and receivers see of all N clips.
        train: Training clip numbers of each seed.
        tables: What the game knows of the clips, for each seed.
        seeds: Seeds of the rounds that are drawn.
        progress: Called with the number of epochs done.
    """
    first = encoders[0]
    device = next(iter(first.values())).device
    config = game.config
    oracle = {
        f"{side}.{name}": value
        for side, stack in enumerate(encoders)
        for name, value in stack.items()
        if "heads" not in name
    }
    oracle |= {f"receivers.{name}": value for name, value in receivers.items()}
    optimiser = adam(oracle, lr=config.oracle_lr)
    learning = _part(optimiser.stack, "0")
    generators = [np.random.RandomState(seed) for seed in seeds]
    best = np.full(len(seeds), -1.0)
    kept = {name: value.detach().clone() for name, value in learning.items()}

    def predict(rounds: Rounds[Tensor]) -> Tensor:
        stack = optimiser.parameters()
        sides = enumerate(rounds.described.chunk(game.sides, dim=1))
        encodings = [
            encode(_part(stack, str(side)), windows[0].gather(clips), windows[0].groups)
            .transpose(1, 2)
            .flatten(2)
            for side, clips in sides
        ]  # of each side (S, B, A * hidden)
        reading = _part(stack, "receivers")
        return game.oracle_predict(reading, torch.cat(encodings, dim=1), rounds, windows[1])

    played = game.play(generators, train, tables, config.oracle_epochs, device, oracle=True)
    for epoch, batches in enumerate(played, 1):
        for rounds in batches:
            assert rounds.active is not None
            optimiser.step(backward(game.loss(predict(rounds), rounds), rounds.active))
        if epoch == 1 or epoch % EVALUATE_EVERY == 0:
            accuracy = _training_accuracy(game, predict, train, tables, device)
            for seed in np.flatnonzero(accuracy > best).tolist():
                best[seed] = accuracy[seed]
                for name, value in learning.items():
                    kept[name][seed] = value.detach()[seed]
        if progress is not None:
            progress(epoch)
    with torch.no_grad():
        for name, value in kept.items():
            first[name].copy_(value)


def _part(stack: Stack, name: str) -> Stack:
    """Return what the names of a stack have before their first point, without it."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): v for key, v in stack.items() if key.startswith(prefix)}


@torch.no_grad()
def _training_accuracy(
    game: Game,
    predict: Callable[[Rounds[Tensor]], Tensor],
    train: Sequence[np.ndarray],
    tables: Sequence[ClipTable],
    device: torch.device,
) -> np.ndarray:
    """Return how often all questions are right at once, over 30 draws of training rounds: (S,)."""
    counts = np.zeros((2, len(train)))
    generators = [np.random.RandomState(999) for _ in train]
    for _ in range(PUBLISHED_DRAWS):
        drawn = [
            game.draw(generator, clips, game.config.batch, table)
            for generator, clips, table in zip(generators, train, tables, strict=True)
        ]
        ((rounds,),) = game.batches([draw.as_epoch() for draw in drawn], device)
        asked = (rounds.weight > 0).all(dim=-1)  # (S, B)
        right = game.right(predict(rounds), rounds)[:, 0] & asked
        counts += torch.stack([right.sum(dim=1), asked.sum(dim=1)]).cpu().numpy()
    return counts[0] / counts[1].clip(min=1)
