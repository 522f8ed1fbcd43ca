"""Seeds that train side by side: their nets, their epochs, and a state to go on from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.agents import (
    AgentFactory,
    AgentWindows,
    CompositionalReceiver,
    Sender,
    Stack,
    fold_axes,
    fresh_receivers,
    fresh_senders,
    init_agents,
    receiver_logits,
    sender_logits,
    unstack_receiver,
    unstack_sender,
)
from pipeline.config import STAGGERED, TrainConfig
from pipeline.dataset import Examples, Split, principal_axes
from pipeline.game import (
    comparison_loss,
    entropy_bonus,
    epoch_pairs,
    final_messages,
    gumbel_softmax,
    paired,
    seed_batches,
)
from pipeline.runs import SeedResult
from pipeline.training.callbacks import Progress
from pipeline.training.optimizer import Optimiser, adam, backward, clip_each
from pipeline.training.pretraining import pretrain
from pipeline.training.selection import EVALUATE_EVERY, SeedTracker


class MultiSeedTrainer:
    """The training of some seeds side by side; where there are fewer than `width`, padded.

    `run` trains; `state` and `restore` carry a training over the death of its process, to the bit.
    """

    def __init__(
        self,
        examples: Examples,
        config: TrainConfig,
        seeds: Sequence[int],
        *,
        width: int,
        device: torch.device,
        chosen: Sequence[int] = (),
    ) -> None:
        """`chosen` is the epoch that each seed keeps once its validation clips teach too."""
        fill = max(0, width - len(seeds))
        self.real = len(seeds)
        self.seeds = [*seeds, *[seeds[-1]] * fill]
        self.chosen = tuple(chosen)
        # a split of its own for each, or padding would draw from the last seed's generator
        self.splits = [examples.split(config.split, seed) for seed in self.seeds]
        if chosen:
            self.splits = [split.joined() for split in self.splits]
        self.config = config
        self.labels = examples.labels
        self.device = device
        shapes = [own.shape[1:] for own in examples.caches]
        self.agent_factory = AgentFactory(
            config, tuple(steps for steps, _ in shapes), tuple(dim for _, dim in shapes)
        )
        self.axes = [_axes(examples, split, config) for split in self.splits]
        features = [
            _projected(own, [axes[number] for axes in self.axes] if config.axes else []).to(device)
            for number, own in enumerate(examples.caches)
        ]
        self.views = AgentWindows.of(features, config.agents, config.agent_caches)
        self.dims = [own.shape[-1] for own in features]
        self.taught = [
            _shuffled(examples.labels, split.train, seed) if config.shuffle_labels else self.labels
            for seed, split in zip(self.seeds, self.splits, strict=True)
        ]
        self.senders, self.receivers = init_agents(
            self.agent_factory, self.dims, self.views.groups, self.seeds, device
        )
        self.sender_adam = adam(self.senders, lr=config.sender_lr, weight_decay=config.weight_decay)
        self.receiver_adam = self._receiver_adam()
        self.skipped = torch.zeros(len(self.seeds), dtype=torch.int64, device=device)
        self.records = [
            SeedTracker(seed, split, chosen[number] if chosen else None)
            for number, (seed, split) in enumerate(zip(seeds, self.splits, strict=False))
        ]  # of the real ones: nobody asks what becomes of padding
        self.epoch = 0  # epochs done, those of the oracle not counted

    def run(
        self,
        progress: Callable[[Progress], None] | None = None,
        pause: Callable[[], None] | None = None,
    ) -> None:
        """Trains to the last epoch; `pause` is called after each look, with all at rest."""
        config = self.config
        seeds = tuple(self.seeds[: self.real])
        total = config.oracle_epochs + config.epochs

        def tell(epoch: int, tau: float, loss: float) -> None:
            if progress is not None:
                progress(Progress(seeds, epoch, total, tau, loss, self._validation()))

        if not self.epoch:
            self._pretrain_encoders(lambda epoch: tell(epoch, math.nan, math.nan))
        for epoch in range(self.epoch + 1, config.epochs + 1):
            if epoch > 1 and (epoch - 1) % config.reset_interval == 0:
                self._reset_receivers(epoch)
            done = (epoch - 1) / max(1, config.epochs - 1)
            tau = config.tau_start + (config.tau_end - config.tau_start) * done
            losses = self._epoch(epoch, tau)
            self.epoch = epoch
            looked = epoch == 1 or epoch % EVALUATE_EVERY == 0 or epoch == config.epochs
            if looked:
                self._look(tau, losses)
            tell(config.oracle_epochs + epoch, tau, float(losses[: self.real].mean()))
            if looked and pause is not None:
                pause()

    def results(self) -> Iterator[SeedResult]:
        """What came of each seed, once the last epoch is done."""
        skipped = self.skipped.tolist()
        for number, record in enumerate(self.records):
            kept = record.kept()
            assert record.last is not None
            assert record.published is not None
            has_validation = len(record.split.validation) > 0
            yield SeedResult(
                seed=record.seed,
                split=record.split,
                sender=self._sender_module(kept.senders, number),
                receiver=self._receiver_module(
                    kept.receivers, record.best_receiver(self.labels, self.config)
                ),
                tokens=kept.tokens,
                epoch=kept.epoch,
                accuracy_validation=kept.validation if has_validation else None,
                accuracy_test=kept.test if has_validation or self.chosen else None,
                accuracy_last_epoch=record.last.test,
                accuracy_published_protocol=record.published,
                skipped_batches=skipped[number],
                history=record.history,
            )

    # --- a state to go on from ---

    def state(self) -> dict[str, Any]:
        """All that the epochs to come and the results depend on: tensors and plain values."""
        state = {
            "epoch": self.epoch,
            "skipped": self.skipped,
            "records": [record.to_state() for record in self.records],
        }
        if self.epoch == self.config.epochs:
            return state
        return state | {
            "senders": _detached(self.senders),
            "receivers": _detached(self.receivers),
            "sender_adam": self.sender_adam.state(),
            "receiver_adam": self.receiver_adam.state(),
            "generators": [_generator_state(split.generator) for split in self.splits],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on where `state` was taken, by a chunk of the same seeds."""
        self.epoch = state["epoch"]
        self.skipped.copy_(state["skipped"])
        for record, saved in zip(self.records, state["records"], strict=True):
            record.restore(saved, self.device)
        if self.epoch == self.config.epochs:
            return
        for stack, values in (
            (self.senders, state["senders"]),
            (self.receivers, state["receivers"]),
        ):
            for name, value in stack.items():
                value.detach().copy_(values[name])
        self.sender_adam.load(state["sender_adam"])
        self.receiver_adam.load(state["receiver_adam"])
        for split, saved in zip(self.splits, state["generators"], strict=True):
            _restore_generator(split.generator, saved)

    # --- beginning, and beginning again ---

    def _pretrain_encoders(self, progress: Callable[[int], None]) -> None:
        if not self.config.oracle_epochs:
            return
        draws = [_derived(seed, 0) for seed in self.seeds]
        pretrain(
            self.senders,
            fresh_senders(self.agent_factory, self.dims, self.views.groups, draws, self.device),
            self.views,
            [split.train for split in self.splits],
            self.taught,
            self.config,
            self.seeds,
            progress,
        )

    def _reset_receivers(self, epoch: int) -> None:
        """Fresh receivers with fresh optimisers: all of them, or the next in turn."""
        draws = [_derived(seed, epoch) for seed in self.seeds]
        fresh = fresh_receivers(self.agent_factory, draws, self.device)
        if self.config.resets == STAGGERED:
            turn = ((epoch - 1) // self.config.reset_interval - 1) % self.config.receivers
            for name, value in self.receivers.items():
                value.detach()[:, turn] = fresh[name].detach()[:, turn]
            self.receiver_adam.restart(turn)
        else:
            self.receivers = fresh
            self.receiver_adam = self._receiver_adam()

    def _receiver_adam(self) -> Optimiser:
        config = self.config
        lead = 2 if config.resets == STAGGERED else 1
        return adam(
            self.receivers, lr=config.receiver_lr, weight_decay=config.weight_decay, lead=lead
        )

    # --- an epoch ---

    def _epoch(self, epoch: int, tau: float) -> np.ndarray:
        """Plays one epoch; returns the mean loss of each seed, (S,)."""
        config = self.config
        played = [
            epoch_pairs(split.generator, split.train, labels, config)
            for split, labels in zip(self.splits, self.taught, strict=True)
        ]
        noise = self._noise(epoch, max(len(pairs.a) for pairs in played))
        totals, counts = torch.zeros(
            2, len(self.seeds), dtype=torch.float64, device=self.device
        ).unbind()
        for batch, exponential in zip(seed_batches(played, self.device), noise, strict=True):
            x = self.views.gather(torch.cat([batch.a, batch.b], dim=1))
            logits = self._logits(x)  # (S, A, 2B, heads, vocab)
            if config.continuous:
                symbols = torch.tanh(logits)
            else:
                symbols = gumbel_softmax(logits, exponential, tau, hard=epoch > config.soft_epochs)
            messages = symbols.transpose(1, 2).flatten(2)  # (S, 2B, A * heads * vocab)
            first, second = messages.chunk(2, dim=1)
            said = paired(first, second, config.pairings)
            predicted = receiver_logits(self.receivers, *said)
            loss = comparison_loss(predicted, batch.answer, batch.weight)
            objective = loss
            if not config.continuous:
                counted = batch.weight.unflatten(1, (config.pairings, -1)).amax(dim=(1, 3))
                objective = loss - entropy_bonus(logits, counted, config)
            good = backward(objective, batch.active)
            clip_each(self.senders, 1, config.grad_clip)
            clip_each(self.receivers, 2, config.grad_clip)
            self.sender_adam.step(good)
            self.receiver_adam.step(good)
            totals += torch.where(good, loss.detach().double(), 0.0)
            counts += good
            self.skipped += batch.active & ~good
        return torch.where(counts > 0, totals / counts, math.nan).cpu().numpy()

    def _logits(self, x: list[Tensor]) -> Tensor:
        config = self.config
        return sender_logits(self.senders, x, config.heads, self.views.groups, config.logit_clamp)

    def _noise(self, epoch: int, batches: int) -> Tensor:
        """Exp(1) draws (batches, S, A, 2B, heads, vocab) of this epoch, each seed's its own."""
        config = self.config
        if config.continuous:
            return torch.empty(batches, 0)
        shape = (config.agents, 2 * config.batch, config.heads, config.vocab)
        noise = torch.empty(batches, len(self.seeds), *shape)
        for number, seed in enumerate(self.seeds):
            generator = torch.Generator().manual_seed(_derived(seed, -epoch))
            for own in noise:  # so that a seed's draws do not depend on the batches of others
                own[number].exponential_(generator=generator)
        return noise.to(self.device)

    # --- looking ---

    def _look(self, tau: float, losses: np.ndarray) -> None:
        tokens = self._speak()
        for number, record in enumerate(self.records):
            senders, receivers = (
                {name: value.detach()[number : number + 1] for name, value in stack.items()}
                for stack in (self.senders, self.receivers)
            )
            record.look(
                (senders, receivers),
                tokens[number],
                self.labels,
                self.config,
                epoch=self.epoch,
                tau=tau,
                loss=float(losses[number]),
            )

    def _validation(self) -> tuple[float, ...]:
        """Validation accuracy of each real seed at its latest look; NaN before the first."""
        return tuple(
            record.history[-1].accuracy_validation if record.history else math.nan
            for record in self.records
        )

    @torch.no_grad()
    def _speak(self) -> np.ndarray:
        """What is said (S, N, A, ...) of all clips, in pieces as wide as a training batch."""
        everyone = torch.arange(len(self.labels), device=self.device)
        pieces = []
        for piece in everyone.split(2 * self.config.batch):
            rows = torch.zeros(2 * self.config.batch, dtype=torch.int64, device=self.device)
            rows[: len(piece)] = piece
            logits = self._logits(self.views.gather(rows.expand(len(self.seeds), -1)))
            said = final_messages(logits, continuous=self.config.continuous)
            pieces.append(said[:, :, : len(piece)])
        return torch.cat(pieces, dim=2).transpose(1, 2).cpu().numpy()

    def _sender_module(self, senders: Stack, number: int) -> Sender:
        sender = self.agent_factory.sender(self.dims)
        unstack_sender(senders, 0, sender, self.views.groups)
        if not self.config.axes:
            return sender.eval()
        axes = self.axes[number]
        folded = self.agent_factory.sender()
        fold_axes(sender, [axes[cache] for cache in self.config.agent_caches], folded)
        return folded.eval()

    def _receiver_module(self, receivers: Stack, number: int) -> CompositionalReceiver:
        receiver = self.agent_factory.receiver()
        unstack_receiver(receivers, 0, number, receiver)
        return receiver.eval()


def _axes(examples: Examples, split: Split, config: TrainConfig) -> list[np.ndarray]:
    """The principal axes (D, axes) of each cache's training features; none where all are kept."""
    if not config.axes:
        return []
    return [
        principal_axes(
            own[split.train], config.axes, config.shrinkage, standardise=config.standardise
        )
        for own in examples.caches
    ]


def _projected(features: np.ndarray, axes: Sequence[np.ndarray]) -> Tensor:
    """Features (N, T, D) on each seed's axes: (S, N, T, axes), or (1, N, T, D) without."""
    if not axes:
        return torch.from_numpy(features).unsqueeze(0)
    rows = features.astype(np.float32)
    return torch.stack([torch.from_numpy(rows @ own.astype(np.float32)) for own in axes])


def _shuffled(labels: np.ndarray, train: np.ndarray, seed: int) -> np.ndarray:
    """Labels with the training clips' rows in another order: nothing left to learn."""
    shuffled = labels.copy()
    shuffled[train] = labels[np.random.RandomState(_derived(seed, 1)).permutation(train)]
    return shuffled


def _derived(seed: int, number: int) -> int:
    """A seed of its own for each numbered use of a seed."""
    return int(np.random.SeedSequence([seed, number + 2**31]).generate_state(1)[0])


def _detached(stack: Stack) -> Stack:
    return {name: value.detach() for name, value in stack.items()}


def _generator_state(generator: np.random.RandomState) -> list[Any]:
    name, keys, *rest = generator.get_state(legacy=True)
    return [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest]


def _restore_generator(generator: np.random.RandomState, state: list[Any]) -> None:
    name, keys, *rest = state
    generator.set_state((name, keys.numpy().astype(np.uint32), *rest))
