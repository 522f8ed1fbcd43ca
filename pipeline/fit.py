"""Trains the agents of many seeds at once on cached features.

A seed's result depends on nothing but its own number: seeds are trained in chunks of a fixed size,
filled up where there are fewer, so that every kernel always sees the same shapes; each seed has its
own generators, its own optimiser, and its own failures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data.errors import HeliographError
from pipeline.agents import (
    CompositionalReceiver,
    CompositionalSender,
    MultiAgentSender,
    build_sender,
)
from pipeline.config import TrainConfig
from pipeline.game import (
    Accuracy,
    Verdicts,
    comparison_loss,
    entropy_bonus,
    epoch_pairs,
    gumbel_softmax,
    hear,
    pooled_accuracy,
    published_accuracy,
    seed_batches,
)
from pipeline.optimise import SeedAdam, backward, clip_each, fast_float32
from pipeline.oracle import pretrain
from pipeline.population import (
    Stack,
    Views,
    receiver_logits,
    sender_logits,
    stack_receivers,
    stack_senders,
    unstack_receiver,
    unstack_sender,
)
from pipeline.records import Examples, HistoryRow, Progress, SeedResult
from pipeline.reduce import fold, principal_axes
from pipeline.splits import Split

SEEDS_PER_CHUNK = 5
EVALUATE_EVERY = 10  # epochs
PUBLISHED_EVERY = 50  # epochs; the paper looks at its test objects at epochs 1, 50, 100, ...


def fit(
    examples: Examples,
    config: TrainConfig,
    seeds: Sequence[int],
    *,
    device: str | torch.device = "cpu",
    progress: Callable[[Progress], None] | None = None,
) -> Iterator[SeedResult]:
    """Trains every seed; yields results in the order of the seeds, a chunk at a time.

    Raises HeliographError where the clips cannot be split, or their labels leave nothing to
    compare.
    """
    place = torch.device(device)
    splits = [examples.split(config.split, seed) for seed in seeds]
    for seed, split in zip(seeds, splits, strict=True):
        _check_split(examples, config, seed, split)
    for start in range(0, len(seeds), SEEDS_PER_CHUNK):
        chunk = list(seeds[start : start + SEEDS_PER_CHUNK])
        with fast_float32(place):
            trainer = _Chunk(examples, config, chunk, splits[start : start + len(chunk)], place)
            trainer.run(progress)
            yield from trainer.results()


def _check_split(examples: Examples, config: TrainConfig, seed: int, split: Split) -> None:
    for part, clips in (("training", split.train), ("test", split.test)):
        values = examples.labels[clips]
        spread = np.ptp(values, axis=0) if len(clips) > 1 else np.zeros(len(config.properties))
        for name, margin, width in zip(config.properties, config.tie_margins, spread, strict=True):
            if not width > margin:
                raise HeliographError(
                    f"seed {seed}: the {len(clips)} {part} clips all have the same {name}: "
                    "nothing to compare"
                )


class _Chunk:
    """The training of a fixed number of seeds side by side; the last ones may be padding."""

    def __init__(
        self,
        examples: Examples,
        config: TrainConfig,
        seeds: list[int],
        splits: list[Split],
        device: torch.device,
    ) -> None:
        fill = SEEDS_PER_CHUNK - len(seeds)
        self.real = len(seeds)
        self.seeds = [*seeds, *[seeds[-1]] * fill]
        # a generator of its own for each, or padding would draw from the last seed's
        self.splits = splits + [examples.split(config.split, seeds[-1]) for _ in range(fill)]
        self.config = config
        self.labels = examples.labels
        self.device = device
        self.steps, self.dim = examples.features.shape[1:]
        self.axes = [
            principal_axes(examples.features[split.train], config.axes) if config.axes else None
            for split in self.splits
        ]
        features = _projected(examples.features, self.axes).to(device)
        self.views = Views.of(features, config.agents)
        self.input_dim = features.shape[-1]
        self.message_dim = config.agents * config.heads * config.vocab
        self.taught = [
            _shuffled(examples.labels, split.train, seed) if config.shuffle_labels else self.labels
            for seed, split in zip(self.seeds, self.splits, strict=True)
        ]
        self.senders, self.receivers = self._begin()
        self.sender_adam = self._adam(self.senders, config.sender_lr)
        self.receiver_adam = self._adam(self.receivers, config.receiver_lr)
        self.skipped = np.zeros(len(self.seeds), int)
        self.history: list[list[HistoryRow]] = [[] for _ in self.seeds]
        self.best: list[_Checkpoint | None] = [None for _ in self.seeds]
        self.last: list[_Checkpoint | None] = [None for _ in self.seeds]
        self.published: list[Accuracy | None] = [None for _ in self.seeds]

    def run(self, progress: Callable[[Progress], None] | None) -> None:
        config = self.config
        seeds = tuple(self.seeds[: self.real])
        total = config.oracle_epochs + config.epochs

        def tell(epoch: int, tau: float, loss: float, validation: float) -> None:
            if progress is not None:
                progress(Progress(seeds, epoch, total, tau, loss, validation))

        self._pretrain_encoders(lambda epoch: tell(epoch, math.nan, math.nan, math.nan))
        validation = math.nan
        for epoch in range(1, config.epochs + 1):
            if epoch > 1 and (epoch - 1) % config.reset_interval == 0:
                self.receivers = self._fresh_receivers(epoch)
                self.receiver_adam = self._adam(self.receivers, config.receiver_lr)
            done = (epoch - 1) / max(1, config.epochs - 1)
            tau = config.tau_start + (config.tau_end - config.tau_start) * done
            losses = self._epoch(epoch, tau)
            if epoch == 1 or epoch % EVALUATE_EVERY == 0 or epoch == config.epochs:
                rows = self._look(epoch, tau, losses)
                validation = float(np.mean([row.accuracy_validation for row in rows[: self.real]]))
            tell(config.oracle_epochs + epoch, tau, float(losses[: self.real].mean()), validation)

    def results(self) -> Iterator[SeedResult]:
        for number in range(self.real):
            last, published = self.last[number], self.published[number]
            assert last is not None  # the last epoch is always looked at
            assert published is not None
            kept = self.best[number] or last
            has_validation = len(self.splits[number].validation) > 0
            yield SeedResult(
                seed=self.seeds[number],
                split=self.splits[number],
                sender=self._sender_module(kept, self.axes[number]),
                receiver=self._best_receiver(kept, number),
                tokens=kept.tokens,
                epoch=kept.epoch,
                accuracy_validation=kept.validation if has_validation else None,
                accuracy_test=kept.test if has_validation else None,
                accuracy_last_epoch=last.test,
                accuracy_published_protocol=published,
                skipped_batches=int(self.skipped[number]),
                history=self.history[number],
            )

    # --- beginning ---

    def _begin(self) -> tuple[Stack, Stack]:
        """Fresh weights, drawn in the order of the paper's code: senders, then receivers."""
        senders, receivers = [], []
        for seed in self.seeds:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                senders.append(self._new_sender(self.input_dim))
                receivers.append(self._new_receivers())
        return stack_senders(senders, self.device), stack_receivers(receivers, self.device)

    def _fresh_receivers(self, epoch: int) -> Stack:
        receivers = []
        for seed in self.seeds:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(_derived(seed, epoch))
                receivers.append(self._new_receivers())
        return stack_receivers(receivers, self.device)

    def _pretrain_encoders(self, progress: Callable[[int], None]) -> None:
        if not self.config.oracle_epochs:
            return
        second = []
        for seed in self.seeds:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(_derived(seed, 0))
                second.append(self._new_sender(self.input_dim))
        pretrain(
            self.senders,
            stack_senders(second, self.device),
            self.views,
            [split.train for split in self.splits],
            self.taught,
            self.config,
            self.seeds,
            progress,
        )

    def _new_sender(self, input_dim: int) -> CompositionalSender | MultiAgentSender:
        config = self.config
        return build_sender(
            input_dim=input_dim,
            steps=self.steps,
            agents=config.agents,
            heads=config.heads,
            vocab=config.vocab,
            hidden_dim=config.hidden_dim,
        )

    def _new_receivers(self) -> list[CompositionalReceiver]:
        config = self.config
        return [
            CompositionalReceiver(self.message_dim, config.hidden_dim, config.properties)
            for _ in range(config.receivers)
        ]

    def _adam(self, stack: Stack, lr: float) -> SeedAdam:
        return SeedAdam(stack, lr=lr, weight_decay=self.config.weight_decay)

    # --- an epoch ---

    def _epoch(self, epoch: int, tau: float) -> np.ndarray:
        """Plays one epoch; returns the mean loss of each seed, (S,)."""
        config = self.config
        played = [
            epoch_pairs(split.generator, split.train, labels, config)
            for split, labels in zip(self.splits, self.taught, strict=True)
        ]
        noise = self._noise(epoch, max(len(pairs.a) for pairs in played))
        totals, counts = np.zeros((2, len(self.seeds)))
        for batch, exponential in zip(seed_batches(played, self.device), noise, strict=True):
            x = self.views.gather(torch.cat([batch.a, batch.b], dim=1))
            logits = sender_logits(self.senders, x, config.heads)  # (S, A, 2B, heads, vocab)
            symbols = gumbel_softmax(logits, exponential, tau, hard=epoch > config.soft_epochs)
            messages = symbols.transpose(1, 2).flatten(2)  # (S, 2B, A * heads * vocab)
            predicted = receiver_logits(self.receivers, *messages.chunk(2, dim=1))
            loss = comparison_loss(predicted, batch.answer, batch.weight)
            counted = batch.weight.amax(dim=-1)
            stepped = backward(loss - entropy_bonus(logits, counted, config), batch.active)
            clip_each(self.senders, 1, config.grad_clip)
            clip_each(self.receivers, 2, config.grad_clip)
            self.sender_adam.step(stepped)
            self.receiver_adam.step(stepped)
            totals[stepped] += loss.detach().cpu().numpy()[stepped]
            counts[stepped] += 1
            self.skipped += batch.active.cpu().numpy()
            self.skipped[stepped] -= 1
        return np.divide(totals, counts, out=np.full(len(counts), np.nan), where=counts > 0)

    def _noise(self, epoch: int, batches: int) -> Tensor:
        """Exp(1) draws (batches, S, A, 2B, heads, vocab) of this epoch, each seed's its own."""
        config = self.config
        shape = (config.agents, 2 * config.batch, config.heads, config.vocab)
        noise = torch.empty(batches, len(self.seeds), *shape)
        for number, seed in enumerate(self.seeds):
            generator = torch.Generator().manual_seed(_derived(seed, -epoch))
            for own in noise:  # so that a seed's draws do not depend on the batches of others
                own[number].exponential_(generator=generator)
        return noise.to(self.device)

    # --- looking ---

    def _look(self, epoch: int, tau: float, losses: np.ndarray) -> list[HistoryRow]:
        """Scores every seed, and keeps what is best on validation, and the last."""
        tokens = self._speak()
        rows = []
        for number, split in enumerate(self.splits):
            senders, receivers = (
                {name: value.detach()[number : number + 1] for name, value in stack.items()}
                for stack in (self.senders, self.receivers)
            )
            margins = self.config.tie_margins
            validation, test = (
                (hear(receivers, tokens[number, clips], self.config.vocab), self.labels[clips])
                for clips in (split.validation, split.test)
            )
            state = _Checkpoint(
                epoch,
                senders,
                receivers,
                tokens[number],
                pooled_accuracy(*validation, margins),
                pooled_accuracy(*test, margins),
            )
            published = published_accuracy(*test, margins)
            if epoch == 1 or epoch % PUBLISHED_EVERY == 0 or epoch == self.config.epochs:
                before = self.published[number]
                if before is None or published.together > before.together:
                    self.published[number] = published
            best = self.best[number]
            settled = epoch > self.config.epochs // 2  # before, a good look is mostly luck
            if (
                settled
                and len(split.validation)
                and (best is None or state.validation.together >= best.validation.together)
            ):
                self.best[number] = state.copied()
            if epoch == self.config.epochs:
                self.last[number] = state.copied()
            rows.append(
                HistoryRow(
                    self.seeds[number],
                    epoch,
                    tau,
                    float(losses[number]),
                    state.validation.together,
                    state.test.together,
                    published.together,
                )
            )
            self.history[number].append(rows[-1])
        return rows

    @torch.no_grad()
    def _speak(self) -> np.ndarray:
        """Tokens int64 (S, N, A, heads) of all clips, in pieces as wide as a training batch."""
        everyone = torch.arange(len(self.labels), device=self.device)
        pieces = []
        for piece in everyone.split(2 * self.config.batch):
            rows = torch.zeros(2 * self.config.batch, dtype=torch.int64, device=self.device)
            rows[: len(piece)] = piece
            x = self.views.gather(rows.expand(len(self.seeds), -1))
            logits = sender_logits(self.senders, x, self.config.heads)
            pieces.append(logits.argmax(-1)[:, :, : len(piece)])
        return torch.cat(pieces, dim=2).transpose(1, 2).cpu().numpy()

    def _sender_module(
        self, kept: _Checkpoint, axes: np.ndarray | None
    ) -> CompositionalSender | MultiAgentSender:
        sender = self._new_sender(self.input_dim)
        unstack_sender(kept.senders, 0, sender)
        if axes is None:
            return sender.eval()
        folded = self._new_sender(self.dim)
        fold(sender, axes, folded)
        return folded.eval()

    def _best_receiver(self, kept: _Checkpoint, number: int) -> CompositionalReceiver:
        """The receiver that does best on validation; the first where nothing can choose."""
        clips = self.splits[number].validation
        best = 0
        if len(clips):
            verdicts = hear(kept.receivers, kept.tokens[clips], self.config.vocab)
            scores = [
                pooled_accuracy(
                    Verdicts(says[None], verdicts.message),
                    self.labels[clips],
                    self.config.tie_margins,
                ).together
                for says in verdicts.says_more
            ]
            best = int(np.argmax(scores))
        receiver = self._new_receivers()[best]
        unstack_receiver(kept.receivers, 0, best, receiver)
        return receiver.eval()


@dataclass(frozen=True)
class _Checkpoint:
    """One seed at one epoch: stacks with S = 1."""

    epoch: int
    senders: Stack
    receivers: Stack
    tokens: np.ndarray
    validation: Accuracy
    test: Accuracy

    def copied(self) -> _Checkpoint:
        """The same, no longer following the training."""
        senders = {name: value.clone() for name, value in self.senders.items()}
        receivers = {name: value.clone() for name, value in self.receivers.items()}
        return _Checkpoint(self.epoch, senders, receivers, self.tokens, self.validation, self.test)


def _projected(features: np.ndarray, axes: list[np.ndarray | None]) -> Tensor:
    """Features (N, T, D) on each seed's axes: (S, N, T, axes), or (1, N, T, D) without."""
    if any(own is None for own in axes):
        return torch.from_numpy(features).unsqueeze(0)
    rows = features.astype(np.float32)
    return torch.stack(
        [torch.from_numpy(rows @ own.astype(np.float32)) for own in axes if own is not None]
    )


def _shuffled(labels: np.ndarray, train: np.ndarray, seed: int) -> np.ndarray:
    """Labels with the training clips' rows in another order: nothing left to learn."""
    shuffled = labels.copy()
    shuffled[train] = labels[np.random.RandomState(_derived(seed, 1)).permutation(train)]
    return shuffled


def _derived(seed: int, number: int) -> int:
    """A seed of its own for each numbered use of a seed."""
    return int(np.random.SeedSequence([seed, number + 2**31]).generate_state(1)[0])
