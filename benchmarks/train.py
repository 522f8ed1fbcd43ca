"""Training speed: ours, all seeds at once, next to a plain loop over seeds.

    python benchmarks/train.py CACHE [--property mass] [--seeds 20] [--rounds 5] [--full]
    python benchmarks/train.py --wide [--epochs 10] [--rounds 3]
    python benchmarks/train.py --host [--presets published] [--rounds 3]

CACHE is the paper's spring features, imported (`heliograph cache import`). The plain loop is the
published recipe written the ordinary way: a module per agent and receiver, one seed after another,
batches of 32 pairs, PyTorch's defaults. Contestants take turns; each prints milliseconds per seed
and epoch (median over the rounds), and how many times faster than the plain loop *in the same
round* it is (median). A turn is a whole training of `--epochs` epochs, with its evaluations on
validation and test clips, of one seed for the plain loop and of all `--seeds` for ours.

`--full` also trains every preset to its end, and prints its honest accuracy and the time that it
takes, in multiples of the plain loop's for as many seeds (its speed times its 400 epochs). On two
cores that takes about half an hour. `--device cuda` runs all of them on a GPU.

`--wide` needs no cache: 200 made clips of 15 steps on a grid of two properties, four agents, five
seeds, features of 112, 1,008 and 3,584 numbers a step. The features as they are and 64 axes of them
train in turns with `default`, as many oracle epochs as epochs.

`--host` needs no cache either: the CPU seconds of the host itself for 80 seeds of made clips in one
chunk, as on a GPU, to the preset's end. What a GPU computes is replaced by numbers that are ready:
noise, steps, messages, the receivers' answers and how many are right. Drawing and laying out pairs
is in it, new receivers, and what else is not a kernel; what a GPU copies in place counts, too.

Expected on 2 CPU cores: `published` at least 1.5, `default` at least 4, at no lower accuracy.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F

from data import cache
from pipeline.agents import CompositionalReceiver, MultiAgentSender, build_sender
from pipeline.config import PRESETS, build_config
from pipeline.dataset import Examples, build_examples
from pipeline.runs import SeedResult, summarise
from pipeline.training import fit

SHAPE = {"agents": 2, "heads": 2, "vocab": 5}
RECEIVERS = 3
WIDTHS = (112, 1008, 3584)  # motion, motion3, and grid4+motion4 of efficientnet_lite0


def plain(
    features: torch.Tensor, labels: np.ndarray, objects: list[str], seed: int, epochs: int
) -> float:
    """The published recipe for one seed; returns the best of its looks at the test pairs."""
    device = features.device
    generator = np.random.RandomState(1000 * seed + 42)
    names = sorted(set(objects))
    held_out = generator.choice(names, max(4, len(names) // 5), replace=False)
    is_test = np.isin(objects, held_out)
    train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    torch.manual_seed(seed)
    steps, dim = features.shape[1:]
    sender = build_sender(input_dim=dim, steps=steps, **SHAPE).to(device)
    width = SHAPE["agents"] * SHAPE["heads"] * SHAPE["vocab"]

    def fresh() -> list[CompositionalReceiver]:
        return [CompositionalReceiver(width, 128, ("mass",)).to(device) for _ in range(RECEIVERS)]

    def speak(clips: np.ndarray, tau: float, hard: bool) -> tuple[torch.Tensor, torch.Tensor]:
        logits = sender.logits(features[torch.from_numpy(clips).to(device)])
        return F.gumbel_softmax(logits, tau, hard=hard).flatten(1), logits

    receivers = fresh()
    sender_adam = torch.optim.Adam(sender.parameters(), lr=1e-3)
    adams = [torch.optim.Adam(receiver.parameters(), lr=3e-3) for receiver in receivers]
    best = 0.0
    for epoch in range(epochs):
        if epoch and epoch % 40 == 0:
            receivers = fresh()
            adams = [torch.optim.Adam(receiver.parameters(), lr=3e-3) for receiver in receivers]
        tau = 3.0 - 2.0 * epoch / max(1, epochs - 1)
        for _ in range(max(1, len(train) // 32)):
            a, b = generator.choice(train, 32), generator.choice(train, 32)
            keep = (a != b) & (np.abs(labels[a] - labels[b]) > 0.5)
            a, b = a[keep], b[keep]
            answer = torch.from_numpy((labels[a] > labels[b]).astype(np.float32)).to(device)
            (message_a, logits_a), (message_b, logits_b) = (
                speak(c, tau, epoch >= 30) for c in (a, b)
            )
            losses = [
                F.binary_cross_entropy_with_logits(receiver(message_a, message_b)[:, 0], answer)
                for receiver in receivers
            ]
            loss = torch.stack(losses).mean()
            for logits in (logits_a, logits_b):
                for head in logits.flatten(1, 2).unbind(1):
                    entropy = -(head.softmax(-1) * head.log_softmax(-1)).sum(-1).mean()
                    if entropy < 0.1 * np.log(SHAPE["vocab"]):
                        loss = loss - 0.03 * entropy
            sender_adam.zero_grad()
            for adam in adams:
                adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(sender.parameters(), 1.0)
            for receiver in receivers:
                torch.nn.utils.clip_grad_norm_(receiver.parameters(), 1.0)
            sender_adam.step()
            for adam in adams:
                adam.step()
        if epoch == 0 or (epoch + 1) % 50 == 0:
            best = max(best, evaluate(sender, receivers, features, labels, test))
    return best


@torch.no_grad()
def evaluate(
    sender: MultiAgentSender,
    receivers: list[CompositionalReceiver],
    features: torch.Tensor,
    labels: np.ndarray,
    clips: np.ndarray,
) -> float:
    """The paper's evaluation: 30 draws of 32 pairs, receivers pooled."""
    generator = np.random.RandomState(999)
    tokens = sender(features[torch.from_numpy(clips).to(features.device)])
    messages = F.one_hot(tokens, SHAPE["vocab"]).float().flatten(1)
    right: list[np.ndarray] = []
    for _ in range(30):
        a, b = generator.choice(len(clips), 32), generator.choice(len(clips), 32)
        asked = np.abs(labels[clips[a]] - labels[clips[b]]) > 0.5
        more = (labels[clips[a]] > labels[clips[b]])[asked]
        for receiver in receivers:
            answers = receiver(messages[a], messages[b])[:, 0].cpu().numpy() > 0
            right.append(answers[asked] == more)
    return float(np.concatenate(right).mean())


def timed(job: Callable[[], object]) -> float:
    start = time.perf_counter()
    job()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def made_examples(width: int) -> Examples:
    """Clips on a grid of two properties, float16 (200, 15, width), which vary less and less."""
    rng = np.random.default_rng(0)
    levels = np.tile(np.indices((5, 5)).reshape(2, -1).T, (8, 1)).astype(float)  # (200, 2)
    seen = np.pad(levels, ((0, 0), (0, 62))) + rng.normal(size=(200, 64))
    steps = seen[:, None] + rng.normal(size=(200, 15, 64))
    features = steps * np.geomspace(1, 0.01, 64) @ rng.normal(size=(64, width))
    objects = tuple(f"e{row:.0f}_f{column:.0f}" for row, column in levels)
    return Examples((features.astype(np.float16),), levels, objects)


def train_wide(epochs: int, rounds: int, device: str) -> None:
    """Print the time of wide features as they are and on axes, in turns."""
    seeds, properties = range(5), ("elasticity", "friction")
    lengths = {"epochs": epochs, "oracle_epochs": epochs, "agents": 4, "vocab": 5}
    print(f"{device}, five seeds, four agents, {epochs} epochs and as many of the oracle")
    print(f"{'numbers':12}{'ms per seed and epoch':>24}{'on axes':>12}{'times as fast':>16}")
    for width in WIDTHS:
        examples = made_examples(width)

        def spent(axes: int, examples: Examples = examples) -> float:
            shrinkage = 1000.0 if axes else None
            config = build_config("default", properties, **lengths, axes=axes, shrinkage=shrinkage)
            seconds = timed(lambda: list(fit(examples, config, seeds, device=device)))
            return 1000 * seconds / epochs / len(seeds)

        turns = [(spent(0), spent(64)) for _ in range(rounds + 1)][1:]  # one warms up
        plain_ms, axes_ms = (statistics.median(column) for column in zip(*turns, strict=True))
        ratio = statistics.median(one / two for one, two in turns)
        print(f"{width:<12,}{plain_ms:>24.1f}{axes_ms:>12.1f}{ratio:>16.2f}")


def host_seconds(preset: str, seeds: int = 80) -> float:
    """Return the CPU seconds of a training whose kernels are replaced by numbers that are ready."""
    levels = np.arange(205) % 25
    features = np.random.default_rng(0).normal(size=(205, 8, 64)).astype(np.float16)
    objects = tuple(f"object {level}" for level in levels)
    examples = Examples((features,), levels[:, None].astype(float), objects)
    tokens = np.random.default_rng(1).integers(0, SHAPE["vocab"], (seeds, 205, 2, 2))

    def step(_: object, *arrays: torch.Tensor, **__: object) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(seeds), arrays[4]  # losses, and who plays

    def compared(_: object, vectors: torch.Tensor) -> torch.Tensor:
        count, messages = vectors.shape[:2]
        return torch.zeros(count, RECEIVERS, messages, messages, 1, dtype=torch.bool)

    def right_of(_: object, says: torch.Tensor, *__: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(says), says.shape[-1] + 1, dtype=torch.int64)

    trainer, game = "pipeline.training.trainer", "pipeline.game"
    with ExitStack() as stack:
        for name, replacement in {
            "pipeline.training.fit.SEEDS_PER_CHUNK": seeds,
            f"{trainer}.Noise.steps": lambda *_: itertools.repeat(torch.zeros(())),
            f"{trainer}.MultiSeedTrainer._step": step,
            f"{trainer}.MultiSeedTrainer._final_messages": lambda _: tokens,
            f"{game}.pair_scorer.compared": compared,
            f"{game}.pair_scorer.PairScorer._right_of": right_of,
            f"{game}.pair_scorer.SEEDS_AT_ONCE": {"cpu": 32},
        }.items():
            stack.enter_context(mock.patch(name, replacement))
        start = time.process_time()
        list(fit(examples, build_config(preset, ("mass",), **SHAPE), range(seeds)))
        return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cache", type=Path, nargs="?")
    parser.add_argument("--wide", action="store_true", help="made clips of wide features")
    parser.add_argument("--host", action="store_true", help="the host's own work for 80 seeds")
    parser.add_argument("--property", default="mass")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--presets", nargs="+", default=list(PRESETS))
    parser.add_argument("--full", action="store_true", help="train to the end, for the accuracy")
    wanted = parser.parse_args()
    if wanted.wide:
        train_wide(wanted.epochs, wanted.rounds, wanted.device)
        return
    if wanted.host:
        for preset in wanted.presets:
            spent = [host_seconds(preset) for _ in range(wanted.rounds)]
            print(f"{preset:12}{statistics.median(spent):>8.1f} CPU seconds of the host, 80 seeds")
        return
    if wanted.cache is None:
        parser.error("give a cache, --wide or --host")

    loaded = cache.load(wanted.cache)
    examples = build_examples(loaded, (wanted.property,))
    tensor = torch.from_numpy(np.asarray(loaded.features, np.float32)).to(wanted.device)
    labels, objects = examples.labels[:, 0], list(examples.objects)
    seeds = list(range(wanted.seeds))

    def ours(preset: str, **settings: int) -> list[SeedResult]:
        config = build_config(preset, (wanted.property,), **SHAPE, **settings)
        return list(fit(examples, config, seeds, device=wanted.device))

    turns: dict[str, list[float]] = {name: [] for name in ("plain loop", *wanted.presets)}
    for number in range(wanted.rounds + 1):
        spent = {
            "plain loop": timed(lambda n=number: plain(tensor, labels, objects, n, wanted.epochs))
        }
        for preset in wanted.presets:
            each = timed(lambda p=preset: ours(p, epochs=wanted.epochs)) / len(seeds)
            spent[preset] = each
        if number:  # the first warms up
            for name, seconds in spent.items():
                turns[name].append(seconds / wanted.epochs)
    print(f"{wanted.device}, {len(seeds)} seeds, {wanted.epochs} epochs, {wanted.rounds} rounds")
    print(f"{'':12}{'ms per seed and epoch':>24}{'times as fast':>16}")
    for name, times in turns.items():
        ratio = statistics.median(p / o for p, o in zip(turns["plain loop"], times, strict=True))
        print(f"{name:12}{1000 * statistics.median(times):>24.1f}{ratio:>16.2f}")
    if not wanted.full:
        return

    plain_seconds = statistics.median(turns["plain loop"]) * 400 * len(seeds)
    print(f"\n{'':12}{'accuracy_test':>16}{'last epoch':>16}{'seconds':>10}{'plain / ours':>14}")
    for preset in wanted.presets:
        results: list[SeedResult] = []
        seconds = timed(lambda p=preset, r=results: r.extend(ours(p)))
        scores = summarise(build_config(preset, (wanted.property,), **SHAPE), results)
        cells = [
            f"{100 * score['mean']:.1f} +- {100 * score['std']:.1f}" if score else "-"
            for score in (scores["accuracy_test"], scores["accuracy_last_epoch"])
        ]
        times = plain_seconds / seconds
        print(f"{preset:12}{cells[0]:>16}{cells[1]:>16}{seconds:>10.0f}{times:>14.2f}")


if __name__ == "__main__":
    main()
