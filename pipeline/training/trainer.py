"""Trains several seeds side by side: their nets, their epochs, and a state to resume from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.agents import (
    AgentFactory,
    AgentWindows,
    Noise,
    RidgeEncoder,
    Sender,
    Stack,
    fold_axes,
    fresh_senders,
    sender_logits,
    unstack_sender,
)
from pipeline.config import DISCRETE, RIDGE, STAGGERED, TrainConfig
from pipeline.dataset import Examples
from pipeline.game import ClipTable, Rounds, build_game
from pipeline.runs import SeedResult
from pipeline.training.axes import axes_of_seeds, projected
from pipeline.training.callbacks import Progress
from pipeline.training.graphs import StepGraph
from pipeline.training.memory import require_training_memory
from pipeline.training.optimizer import adam, backward
from pipeline.training.pretraining import Pretraining
from pipeline.training.ridge_encoders import RidgeScores, fit_scores, quantise, score_tensors
from pipeline.training.selection import EVALUATE_EVERY, KeptNetworks, SeedCheckpoint, SeedTracker


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
        null: Mapping[int, Examples] = MappingProxyType({}),
    ) -> None:
        """Build the networks and optimisers of every seed.

        Args:
            examples: Features, labels and objects of all clips.
            config: Of the run.
            seeds: To train.
            width: Seeds that the kernels always see; the last one is repeated to fill it.
            device: To train on.
            chosen: The epoch that each seed keeps once its validation clips train too.
            null: Of seeds among them the same clips with other labels, which they learn from.
        """
        fill = max(0, width - len(seeds))
        self.real = len(seeds)
        self.seeds = [*seeds, *[seeds[-1]] * fill]
        self.null = null
        self.chosen = tuple(chosen)
        # a split of its own for each, or padding would draw from the last seed's generator
        self.splits = [null.get(s, examples).split(config.split, s) for s in self.seeds]
        if chosen:
            self.splits = [split.joined() for split in self.splits]
        self.config = config
        self.game = build_game(config)
        self.device = device
        shapes = [cache.shape[1:] for cache in examples.caches]
        self.factory = AgentFactory(
            config, tuple(steps for steps, _ in shapes), tuple(dim for _, dim in shapes)
        )
        self.channel = self.factory.channel
        require_training_memory(examples, config, len(self.seeds))
        table = ClipTable.of(examples.labels, examples.objects)
        self.tables = [
            ClipTable(null[seed].labels, table.objects) if seed in null else table
            for seed in self.seeds
        ]
        self.training_tables = [
            ClipTable(_shuffled(own.labels, split.train, seed), own.objects)
            if config.shuffle_labels
            else own
            for own, seed, split in zip(self.tables, self.seeds, self.splits, strict=True)
        ]
        self.axes = axes_of_seeds(examples, self.splits, config)
        self.scores = self._ridge_scores(examples) if config.encoder == RIDGE else []
        features = [
            projected(cache, [axes[n] for axes in self.axes] if config.axes else []).to(device)
            for n, cache in enumerate(examples.caches)
        ]
        self.windows = (
            AgentWindows.whole([of_agent.to(device) for of_agent in score_tensors(self.scores)])
            if self.scores
            else AgentWindows.of(features, config.agents, config.agent_caches)
        )
        self.receiver_windows = (
            AgentWindows.whole(features) if self.game.receivers_see_clips else None
        )
        self.dims = [cache.shape[-1] for cache in features]
        self.senders, self.receivers = self.game.init_agents(
            self.factory, self.dims, self.windows.groups, self.seeds, device
        )
        if self.scores and config.channel == DISCRETE:
            at_host = {name: value.detach().cpu() for name, value in self.senders.items()}
            quantise(
                at_host,  # number by number, and each would be a kernel of a GPU
                self.scores,
                [split.train for split in self.splits],
                [table.labels for table in self.training_tables],
                config,
            )
            for name, value in self.senders.items():
                value.detach().copy_(at_host[name])
        self.sender_adam = adam(self.senders, lr=config.sender_lr, weight_decay=config.weight_decay)
        self.receiver_adam = adam(
            self.receivers,
            lr=config.receiver_lr,
            weight_decay=config.weight_decay,
            lead=2 if config.resets == STAGGERED else 1,
        )
        self.senders, self.receivers = self.sender_adam.stack, self.receiver_adam.stack
        described = self.game.sides * config.batch
        heads = (config.agents, described, config.heads, self.channel.noise_size)
        self.noise = Noise(self.seeds, "channel", heads, device)
        self.graph, self._tau = StepGraph(device), torch.zeros((), device=device)
        self.skipped = torch.zeros(len(self.seeds), dtype=torch.int64, device=device)
        self.trackers = [
            SeedTracker(
                self.game,
                seed,
                split,
                self.tables[n],
                chosen_epoch=chosen[n] if chosen else None,
                windows=self.receiver_windows and self.receiver_windows.of_seed(n),
            )
            for n, (seed, split) in enumerate(zip(seeds, self.splits, strict=False))
        ]  # of the real seeds: nobody asks what becomes of padding
        real = slice(self.real)
        parts = [(split.validation, split.test) for split in self.splits[real]]
        self.scorers = [
            self.game.scorer(clips, self.tables[real], device, published=is_test)
            for clips, is_test in zip(zip(*parts, strict=True), (False, True), strict=True)
        ]  # of the clips of validation, and of those of the test
        self.networks = KeptNetworks(), KeptNetworks()  # the best, and those of the last epoch
        self.epoch = 0  # epochs done, those of the oracle not counted

    def run(
        self,
        progress: Callable[[Progress], None] | None = None,
        pause: Callable[[], None] | None = None,
    ) -> None:
        """Train to the last epoch; `pause` is called after each evaluation, with all at rest."""
        config = self.config
        seeds = tuple(self.seeds[: self.real])
        total = config.oracle_epochs + config.epochs
        told = [n for n, seed in enumerate(seeds) if seed not in self.null] or [*range(self.real)]

        def report(epoch: int, tau: float, loss: float) -> None:
            if progress is not None:
                oracle = config.oracle_epochs
                where = f"epoch {epoch - oracle} of {config.epochs}"
                if epoch <= oracle:
                    where = f"oracle epoch {epoch} of {oracle}"
                progress(Progress(seeds, epoch, total, tau, loss, self._validation(), where))

        if not self.epoch:
            self._pretrain_encoders(lambda epoch: report(epoch, math.nan, math.nan))
        steps = self._steps(self.epoch)
        for epoch in range(self.epoch + 1, config.epochs + 1):
            if epoch > 1 and (epoch - 1) % config.reset_interval == 0:
                self._reset_receivers(epoch)
            done = (epoch - 1) / max(1, config.epochs - 1)
            tau = config.tau_start + (config.tau_end - config.tau_start) * done
            losses = self._epoch(epoch, tau, steps)
            self.epoch = epoch
            evaluated = epoch == 1 or epoch % EVALUATE_EVERY == 0 or epoch == config.epochs
            if evaluated:
                self._evaluate(tau, losses)
            report(config.oracle_epochs + epoch, tau, float(losses[told].mean()))
            if evaluated and pause is not None:
                pause()

    def results(self) -> Iterator[SeedResult]:
        """Yield the result of each seed, once the last epoch is done."""
        skipped = self.skipped.tolist()
        for n, tracker in enumerate(self.trackers):
            kept = tracker.kept()
            assert tracker.last is not None
            has_validation = len(tracker.split.validation) > 0
            yield SeedResult(
                seed=tracker.seed,
                split=tracker.split,
                sender=self._sender_module(kept.senders, n),
                receiver=self._receiver_module(
                    kept.receivers, n, tracker.best_receiver(self.channel)
                ),
                tokens=kept.messages,
                epoch=kept.epoch,
                accuracy_validation=kept.validation if has_validation else None,
                accuracy_test=kept.test if has_validation or self.chosen else None,
                accuracy_last_epoch=tracker.last.test,
                accuracy_published_protocol=tracker.published,
                skipped_batches=skipped[n],
                history=tracker.history,
                labels=tracker.table.labels if tracker.seed in self.null else None,
            )

    # --- a state to resume from ---

    def state(self) -> dict[str, Any]:
        """Return all that the epochs to come and the results depend on, as tensors and values."""
        state = {
            "epoch": self.epoch,
            "skipped": self.skipped,
            "trackers": [tracker.to_state() for tracker in self.trackers],
        }
        if self.epoch == self.config.epochs:
            return state
        return state | {
            "senders": _detached(self.senders),
            "receivers": _detached(self.receivers),
            "sender_adam": self.sender_adam.state(),
            "receiver_adam": self.receiver_adam.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Resume where `state` was taken, by a trainer of the same seeds."""
        self.epoch = state["epoch"]
        self.skipped.copy_(state["skipped"])
        for tracker, saved in zip(self.trackers, state["trackers"], strict=True):
            tracker.restore(saved, self.device)
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

    # --- the start, and resets ---

    def _ridge_scores(self, examples: Examples) -> list[list[RidgeScores]]:
        """Return the scores of each agent in each seed; padding has those of the last seed."""
        found = [
            fit_scores(examples.caches, self.config, table.labels, table.objects, split.train)
            for table, split in zip(
                self.training_tables[: self.real], self.splits[: self.real], strict=True
            )
        ]
        return found + found[-1:] * (len(self.seeds) - self.real)

    def _pretrain_encoders(self, progress: Callable[[int], None]) -> None:
        if not self.config.oracle_epochs:
            return
        draws = [derived_seed(seed, 0) for seed in self.seeds]
        others = [
            fresh_senders(self.factory, self.dims, self.windows.groups, draws, self.device)
            for _ in range(self.game.sides - 1)
        ]
        Pretraining(
            self.game,
            [self.senders, *others],
            self.game.oracle_receivers(
                self.config.agents * self.config.hidden_dim,
                self.factory,
                self.dims,
                self.seeds,
                self.device,
            ),
            (self.windows, self.receiver_windows),
            [split.train for split in self.splits],
            self.training_tables,
            self.seeds,
        ).run(progress)

    def _reset_receivers(self, epoch: int) -> None:
        """Replace receivers and their optimisers by new ones: all of them, or the next in turn."""
        draws = [derived_seed(seed, epoch) for seed in self.seeds]
        fresh = self.game.fresh_receivers(
            self.channel.message_size, self.factory, draws, self.device, self.dims
        )
        turn = None
        if self.config.resets == STAGGERED:
            turn = ((epoch - 1) // self.config.reset_interval - 1) % self.config.receivers
        nets = slice(None) if turn is None else (slice(None), turn)
        for name, value in self.receivers.items():
            value.detach()[nets] = fresh[name].detach()[nets]
        self.receiver_adam.restart(turn)

    # --- an epoch ---

    def _steps(self, done: int) -> Iterator[Iterator[tuple[Rounds[Tensor], Tensor]]]:
        """Yield of each epoch after the first `done` its batches, each with its noise.

        The pairs of all of them are drawn: a generator goes through those that are done as well.
        """
        last = self.config.epochs
        noise: Iterator[Tensor] = iter(())
        generators = [split.generator for split in self.splits]
        clips = [split.train for split in self.splits]
        played = self.game.play(generators, clips, self.training_tables, last, self.device)
        for epoch, batches in enumerate(played, 1):
            if epoch == done + 1:
                noise = self.noise.steps(range(epoch, last + 1), len(batches))
            if epoch > done:
                yield zip(batches, noise, strict=False)

    def _epoch(
        self, epoch: int, tau: float, steps: Iterator[Iterator[tuple[Rounds[Tensor], Tensor]]]
    ) -> np.ndarray:
        """Play one epoch, the next of `steps`; return the mean loss of each seed, (S,)."""
        here: float | Tensor = tau if self.device.type == "cpu" else self._tau.fill_(tau)
        hard = epoch > self.config.soft_epochs
        losses, goods, active = [], [], []  # of each batch, (S,)
        for rounds, draws in next(steps):
            assert rounds.active is not None
            loss, good = self.graph(
                partial(self._step, tau=here, hard=hard),
                (*rounds.arrays, rounds.active, draws),
                key=hard,
            )
            losses.append(loss)
            goods.append(good)
            active.append(rounds.active)
        told = torch.where(torch.stack(goods), torch.stack(losses), math.nan)
        self.skipped += (torch.stack(active) & told.isnan()).sum(dim=0)
        return _means(told.cpu().numpy())

    def _step(
        self,
        described: Tensor,
        shown: Tensor,
        answer: Tensor,
        weight: Tensor,
        active: Tensor,
        noise: Tensor,
        *,
        tau: float | Tensor,
        hard: bool,
    ) -> tuple[Tensor, Tensor]:
        """Play a batch and step the networks; nothing in it depends on a number of the device.

        Returns:
            The loss of each seed, and whether it was stepped with, (S,) each.
        """
        config, game = self.config, self.game
        rounds = Rounds(described, shown, answer, weight, active=active)
        senders, receivers = self.sender_adam.parameters(), self.receiver_adam.parameters()
        logits = self._logits(senders, described)  # (S, A, M, heads, vocab)
        sent = self.channel.send(logits, noise, tau, hard=hard)
        messages = sent.transpose(1, 2).flatten(2)  # (S, M, message_size)
        predicted = game.predict(receivers, messages, rounds, self.receiver_windows)
        objective = loss = game.loss(predicted, rounds)
        penalty = self.channel.penalty(logits, game.played(rounds), game.sides)
        if penalty is not None:
            objective = loss + penalty
        good = backward(objective, active)
        self.sender_adam.clip(1, config.grad_clip)
        self.receiver_adam.clip(2, config.grad_clip)
        self.sender_adam.step(good)
        self.receiver_adam.step(good)
        return loss.detach(), good

    def _logits(self, senders: Stack, clips: Tensor) -> Tensor:
        """Return the logits (S, A, M, heads, vocab) of clips (S, M)."""
        config, windows = self.config, self.windows
        return sender_logits(
            senders, windows.gather(clips), config.heads, windows.groups, config.logit_clamp
        )

    # --- evaluation ---

    def _evaluate(self, tau: float, losses: np.ndarray) -> None:
        messages = self._final_messages()
        validation, test = (
            scorer.scores(self.receivers, self._read(messages, scorer.clips), self.receiver_windows)
            for scorer in self.scorers
        )
        is_last = self.epoch == self.config.epochs
        kept, last = [], []
        for n, tracker in enumerate(self.trackers):
            loss = float(losses[n])
            if tracker.evaluate(test[n], validation[n][0], epoch=self.epoch, tau=tau, loss=loss):
                kept.append(n)
            elif is_last:
                last.append(n)
        for networks, seeds in zip(self.networks, (kept, last), strict=True):
            if not seeds:
                continue
            taken = networks.take((self.senders, self.receivers), seeds)
            for n, (senders, receivers) in zip(seeds, taken, strict=True):
                state = SeedCheckpoint(
                    self.epoch, senders, receivers, messages[n], validation[n][0], test[n][0]
                )
                tracker = self.trackers[n]
                if seeds is kept:
                    tracker.best = state
                if is_last:
                    tracker.last = state

    def _read(self, messages: np.ndarray, clips: Sequence[np.ndarray]) -> Sequence[Tensor]:
        """Return what receivers read of messages (S, N, A, ...) of clips of each seed."""
        sizes = [len(own) for own in clips]
        seed = np.repeat(np.arange(len(clips)), sizes)
        asked = torch.from_numpy(messages[seed, np.concatenate([*clips])])
        return self.channel.read(asked).split(sizes)

    def _validation(self) -> tuple[float, ...]:
        """The latest validation accuracy of each real seed; NaN before the first, or of a null."""
        return tuple(
            tracker.history[-1].accuracy_validation
            if tracker.history and tracker.seed not in self.null
            else math.nan
            for tracker in self.trackers
        )

    @torch.no_grad()
    def _final_messages(self) -> np.ndarray:
        """Return the messages (S, N, A, ...) of all clips, in pieces as wide as a batch.

        They are copied into one tensor: small ones that stay between large ones that go hold the
        memory of these, at 100,000 clips 10 GB of it.
        """
        everyone = torch.arange(len(self.tables[0].labels), device=self.device)
        width = self.game.sides * self.config.batch
        messages = torch.empty(0, device=self.device)
        for start in range(0, len(everyone), width):
            piece = everyone[start : start + width]
            rows = torch.zeros(width, dtype=torch.int64, device=self.device)
            rows[: len(piece)] = piece
            logits = self._logits(self.senders, rows.expand(len(self.seeds), -1))
            sent = self.channel.final(logits)[:, :, : len(piece)]  # (S, A, n, ...)
            if not start:
                messages = sent.new_empty((*sent.shape[:2], len(everyone), *sent.shape[3:]))
            messages[:, :, start : start + width] = sent
        return messages.transpose(1, 2).cpu().numpy()

    def _sender_module(self, senders: Stack, n: int) -> Sender:
        sender = self.factory.sender(self.dims)
        unstack_sender(senders, 0, sender, self.windows.groups)
        if self.scores:
            for encoder, scores in zip(sender.encoders, self.scores[n], strict=True):
                assert isinstance(encoder, RidgeEncoder)
                scores.load_into(encoder)
            return sender.eval()
        if not self.config.axes:
            return sender.eval()
        axes = [self.axes[n][cache] for cache in self.config.agent_caches]
        folded = self.factory.sender()
        fold_axes(sender, axes, folded)
        return folded.eval()

    def _receiver_module(self, receivers: Stack, n: int, number: int) -> nn.Module:
        size = self.channel.message_size
        receiver = self.game.build_receiver(size, self.factory, self.dims)
        self.game.unstack_receiver(receivers, 0, number, receiver)
        if not (self.config.axes and self.game.receivers_see_clips):
            return receiver.eval()
        folded = self.game.build_receiver(size, self.factory)
        fold_axes(receiver, self.axes[n], folded)
        return folded.eval()


def _means(told: np.ndarray) -> np.ndarray:
    """Return the mean loss (S,) of the batches (B, S) that are not NaN, summed in their order."""
    counts = (~np.isnan(told)).sum(axis=0)
    sums = np.add.accumulate(np.nan_to_num(told).astype(np.float64), axis=0)[-1]
    return np.divide(sums, counts, out=np.full(len(sums), math.nan), where=counts > 0)


def _shuffled(labels: np.ndarray, train: np.ndarray, seed: int) -> np.ndarray:
    """Labels with the training clips' rows in another order: nothing left to learn."""
    shuffled = labels.copy()
    shuffled[train] = labels[np.random.RandomState(derived_seed(seed, 1)).permutation(train)]
    return shuffled


def derived_seed(seed: int, number: int) -> int:
    """A seed of its own for each numbered use of a seed."""
    return int(np.random.SeedSequence([seed, number + 2**31]).generate_state(1)[0])


def _detached(stack: Stack) -> Stack:
    return {name: value.detach() for name, value in stack.items()}
