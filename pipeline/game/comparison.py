"""The rules of the communication game: the pairs that are played, the loss, what counts as right.

Two clips a and b, their messages, and per property the question "has a more of it than b?". A pair
whose values differ by no more than the tie margin has no answer and does not count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.agents import Stack, receiver_logits
from pipeline.config import TrainConfig

PUBLISHED_DRAWS = 30
PUBLISHED_PAIRS = 32


@dataclass(frozen=True)
class Pairs:
    """Pairs of clips to play: numbers int64 (..., B), answers and weights (..., pairings * B, P).

    Answers and weights are float32, of every pair in the order of `paired`. A weight is 1 where the
    pair has an answer for the property, else 0.
    """

    a: np.ndarray
    b: np.ndarray
    answer: np.ndarray
    weight: np.ndarray


def draw_pairs(
    generator: np.random.RandomState, clips: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws pairs with replacement, a clip never paired with itself, as the paper's `sample_pairs`.

    >>> a, b = draw_pairs(np.random.RandomState(0), np.array([3, 5]), 4)
    >>> sorted({(int(x), int(y)) for x, y in zip(a, b)})
    [(3, 5), (5, 3)]
    """
    a, b = generator.choice(clips, count), generator.choice(clips, count)
    same = a == b
    while same.any():
        b[same] = generator.choice(clips, same.sum())
        same = a == b
    return a, b


def epoch_pairs(
    generator: np.random.RandomState, clips: np.ndarray, labels: np.ndarray, config: TrainConfig
) -> Pairs:
    """One epoch of training pairs, (batches, B), `batches = max(1, len(clips) // B)`.

    Where ties are left out, a batch with fewer than four answers for a property has none at all:
    the paper's code skips it.
    """
    batches = max(1, len(clips) // config.batch)
    drawn = [draw_pairs(generator, clips, config.batch) for _ in range(batches)]
    a, b = (np.stack(side) for side in zip(*drawn, strict=True))
    all_a = np.tile(a, (1, config.pairings))
    all_b = np.concatenate([np.roll(b, -shift, axis=1) for shift in range(config.pairings)], axis=1)
    if config.train_on_ties:
        weight = np.ones((*all_a.shape, len(config.properties)), np.float32)
    else:
        weight = beyond_margin(labels, all_a, all_b, config.tie_margins).astype(np.float32)
        weight *= weight.sum(axis=1, keepdims=True) >= 4
    return Pairs(a, b, (labels[all_a] > labels[all_b]).astype(np.float32), weight)


def paired(a: Tensor, b: Tensor, pairings: int) -> tuple[Tensor, Tensor]:
    """What is said of the two sides of a batch, (S, B, ...) each, in all its pairings.

    Both become (S, pairings * B, ...): each a beside its own b, then beside the next pair's b, and
    so on. Senders speak once, however often their messages are compared.
    """
    turned = [b.roll(-shift, dims=1) for shift in range(pairings)]
    return torch.cat([a] * pairings, dim=1), torch.cat(turned, dim=1)


class Batch(NamedTuple):
    """One batch of every seed, on the device: clip numbers (S, B), the rest as `Pairs` has it.

    Answers and weights are (S, pairings * B, P). `active` (S,) is False for a seed that sits this
    batch out: it has fewer of them, or no answer in it.
    """

    a: Tensor
    b: Tensor
    answer: Tensor
    weight: Tensor
    active: Tensor


def seed_batches(epochs: Sequence[Pairs], device: torch.device) -> Iterator[Batch]:
    """Lays one epoch of every seed side by side.

    A seed with fewer batches than the others repeats its last one, inactive.
    """
    longest = max(len(pairs.a) for pairs in epochs)
    rows = [np.minimum(np.arange(longest), len(pairs.a) - 1) for pairs in epochs]
    a, b, answer, weight = (
        torch.from_numpy(
            np.stack([getattr(p, part)[row] for p, row in zip(epochs, rows, strict=True)], axis=1)
        ).to(device)
        for part in ("a", "b", "answer", "weight")
    )
    lasting = torch.tensor(
        [[i < len(pairs.a) for pairs in epochs] for i in range(longest)], device=device
    )
    active = lasting & (weight > 0).any(dim=-1).any(dim=-1)
    yield from map(Batch, a, b, answer, weight, active)


def beyond_margin(
    labels: np.ndarray, a: np.ndarray, b: np.ndarray, margins: tuple[float, ...]
) -> np.ndarray:
    """Whether each pair differs by more than the margin: bool (..., P)."""
    return np.abs(labels[a] - labels[b]) > np.asarray(margins)


def gumbel_softmax(logits: Tensor, exponential: Tensor, tau: float, *, hard: bool) -> Tensor:
    """`torch.nn.functional.gumbel_softmax` over the last axis, its Exp(1) noise given."""
    soft = torch.softmax((logits - exponential.log()) / tau, dim=-1)
    if not hard:
        return soft
    symbols = F.one_hot(soft.argmax(-1), soft.shape[-1]).to(soft.dtype)
    return symbols - soft.detach() + soft  # straight-through


def comparison_loss(predicted: Tensor, answer: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy: mean over answered pairs and receivers, sum over properties.

    Args:
        predicted: logits (S, R, B, P).
        answer, weight: (S, B, P).

    Returns (S,).
    """
    target = answer.unsqueeze(1).expand_as(predicted)
    loss = F.binary_cross_entropy_with_logits(predicted, target, reduction="none")
    loss = (loss * weight.unsqueeze(1)).sum(dim=2)  # (S, R, P)
    return (loss / weight.sum(dim=1).clamp(min=1).unsqueeze(1)).sum(dim=2).mean(dim=1)


def entropy_bonus(logits: Tensor, counted: Tensor, config: TrainConfig) -> Tensor:
    """The bonus of heads that hardly vary: their softmax entropy, averaged over each side's clips.

    Entropy of each sample, then the mean, as the paper's code has it (not the entropy of the mean).

    Args:
        logits: (S, A, 2B, heads, vocab), the first clips of the pairs before the second ones.
        counted: (S, B), 1 where the pair is played, in any of its pairings.

    Returns (S,), to be subtracted from the loss.
    """
    log_p = torch.log_softmax(logits, dim=-1)
    entropy = -(log_p.exp().clamp(min=1e-8) * log_p).sum(dim=-1)  # (S, A, 2B, heads)
    entropy = entropy.unflatten(2, (2, -1))  # (S, A, 2, B, heads)
    share = counted / counted.sum(dim=1, keepdim=True).clamp(min=1)
    mean = (entropy * share[:, None, None, :, None]).sum(dim=3)  # (S, A, 2, heads)
    low = mean < config.entropy_threshold * math.log(config.vocab)
    return config.entropy_bonus * (mean * low).sum(dim=(1, 2, 3))


def one_hot_messages(tokens: Tensor, vocab: int) -> Tensor:
    """Tokens (..., A, heads) -> what a receiver reads, float32 (..., A * heads * vocab)."""
    return F.one_hot(tokens, vocab).flatten(-3).float()


def final_messages(logits: Tensor, *, continuous: bool) -> Tensor:
    """What is said once training is over: tokens int64 (..., heads) of logits (..., heads, vocab).

    A continuous channel says the tanh of the logits, float32 (..., heads, vocab).
    """
    return torch.tanh(logits) if continuous else logits.argmax(-1)


@dataclass(frozen=True)
class Verdicts:
    """What the receivers of one seed say of every pair of clips, by their distinct messages.

    `says_more` is bool (R, U, U, P) over the U distinct messages, `message` (n,) the number of each
    clip's message.
    """

    says_more: np.ndarray
    message: np.ndarray

    def of(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Verdicts (R, pairs, P) for pairs of clip positions."""
        return self.says_more[:, self.message[a], self.message[b]]


@torch.no_grad()
def hear(receivers: Stack, tokens: np.ndarray, vocab: int) -> Verdicts:
    """Lets the receivers of one seed (a stack of S = 1) compare clips by what is said of them.

    `tokens` are int64 (n, A, heads), or the real numbers (n, A, heads, vocab) of a continuous
    channel.
    """
    words = tokens.reshape(len(tokens), math.prod(tokens.shape[1:]))
    distinct, message = np.unique(words, axis=0, return_inverse=True)
    device = receivers["heads.weight"].device
    spoken = torch.from_numpy(distinct).to(device)
    if not spoken.is_floating_point():
        spoken = one_hot_messages(spoken.unsqueeze(1), vocab)  # (U, msg)
    blocks = []
    for block in spoken.split(64):  # some rows of the table at a time, to bound the memory
        a = block.repeat_interleave(len(spoken), dim=0)
        logits = receiver_logits(receivers, a[None], spoken.repeat(len(block), 1)[None])[0]
        blocks.append((logits > 0).unflatten(1, (len(block), len(spoken))))  # (R, rows, U, P)
    return Verdicts(torch.cat(blocks, dim=1).cpu().numpy(), message.reshape(-1))


@dataclass(frozen=True)
class Accuracy:
    """Fractions right: of all properties at once, and of each; NaN where no pair counts."""

    together: float
    each: tuple[float, ...]


def pooled_accuracy(verdicts: Verdicts, labels: np.ndarray, margins: tuple[float, ...]) -> Accuracy:
    """Every ordered pair of clips beyond the margin, the receivers pooled.

    Args:
        verdicts: of the n clips.
        labels: (n, P).
    """
    counts = np.zeros(
        (2, len(margins) + 1)
    )  # right, asked; the last column: all properties at once
    everyone = np.arange(len(labels))
    for a in everyone:  # a clip against all the others bounds the memory
        counts += _tally(verdicts, np.full(len(labels), a), everyone, labels, margins)
    return _accuracy(counts)


def published_accuracy(
    verdicts: Verdicts, labels: np.ndarray, margins: tuple[float, ...]
) -> Accuracy:
    """The paper's evaluation: 30 draws of 32 pairs by `RandomState(999)`, the receivers pooled."""
    generator = np.random.RandomState(999)
    positions = np.arange(len(labels))
    counts = np.zeros((2, len(margins) + 1))
    for _ in range(PUBLISHED_DRAWS):
        a, b = draw_pairs(generator, positions, min(PUBLISHED_PAIRS, len(labels)))
        counts += _tally(verdicts, a, b, labels, margins)
    return _accuracy(counts)


def _tally(
    verdicts: Verdicts, a: np.ndarray, b: np.ndarray, labels: np.ndarray, margins: tuple[float, ...]
) -> np.ndarray:
    asked = beyond_margin(labels, a, b, margins)  # (pairs, P)
    right = (verdicts.of(a, b) == (labels[a] > labels[b])) & asked  # (R, pairs, P)
    receivers = len(right)
    together = asked.all(axis=1)
    return np.array(
        [
            [*right.sum(axis=(0, 1)), right[:, together].all(axis=2).sum()],
            [*(receivers * asked.sum(axis=0)), receivers * together.sum()],
        ],
        dtype=float,
    )


def _accuracy(counts: np.ndarray) -> Accuracy:
    right, asked = counts
    fractions = np.divide(right, asked, out=np.full(len(right), np.nan), where=asked > 0)
    return Accuracy(float(fractions[-1]), tuple(fractions[:-1].tolist()))
