"""Noise by counter: uniform numbers for any seed, epoch and batch, without drawing those before.

The generator is Philox4x64-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
1, 2, 3", SC 2011): four words of 64 bits are a function of a key and of a counter. On a CPU it is
numpy's; on a CUDA GPU the same words are computed from 64-bit integers there, and nothing is sent.

The numbers are equal to the bit on both: each is (2 k + 1) / 2**24 of 23 bits of a word, so that
neither 0 nor 1 is among them. What is computed of them, a logarithm, may differ in the last place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GENERATOR = "philox"
"""Its name among what the bits of a training depend on."""
AT_ONCE = 1 << 22
"""Numbers that are drawn at a time, which bounds the memory; a GPU works with 25 bytes for each."""

ROUNDS = 10
MULTIPLIERS = np.array([0xD2E7470EE14C6C93, 0xCA5A826395121157], np.uint64)
KEY_STEPS = np.array([0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B], np.uint64)
LOW = 0xFFFFFFFF
PER_BLOCK = 8
"""Numbers that the four words of one counter make."""


class Noise:
    """Uniform numbers between 0 and 1 for the batches of a training, each by itself.

    Those of a seed depend on the seed, the purpose, the epoch, the batch and the shape: not on
    other seeds, on how many batches there are, on what was drawn before, or on the device.
    """

    def __init__(
        self, seeds: Sequence[int], purpose: str, shape: Sequence[int], device: torch.device
    ) -> None:
        """Prepare to draw.

        Args:
            seeds: From 0, below 2**64; the same one draws the same numbers.
            purpose: What the numbers are for, in at most eight letters: another one has others.
            shape: Of the numbers of one seed in one batch.
            device: Where they are wanted.
        """
        word = int.from_bytes(purpose.encode("ascii"), "little")
        self._keys = [seed | word << 64 for seed in seeds]
        self._shape, self._device = tuple(shape), device
        self._count = math.prod(self._shape)
        self._blocks = -(-self._count // PER_BLOCK)  # counters of one seed in one batch
        self._words: tuple[Tensor, Tensor] | None = None
        if device.type == "cuda":
            pairs = np.array([[seed, word] for seed in seeds], np.uint64).T  # (2, S)
            self._words = round_keys(pairs).to(device), multipliers(device)

    def draw(self, epochs: range, batches: range) -> Tensor:
        """Return the numbers of some batches of some epochs: float32 (epochs, batches, S, *shape).

        Args:
            epochs: Consecutive ones.
            batches: Consecutive ones of each epoch, counted from 0.
        """
        lead = (len(epochs), len(batches), len(self._keys))
        if not self._count:
            return torch.empty(*lead, *self._shape, device=self._device)
        if self._words is not None:
            numbers = self._on_device(epochs, batches, *self._words)
        else:
            numbers = self._on_host(epochs, batches).to(self._device)
        return numbers.view(*lead, *self._shape)

    def steps(self, epochs: range, batches: int) -> Iterator[Tensor]:
        """Yield the numbers (S, *shape) of each of so many batches of each epoch, in order."""
        some = max(1, AT_ONCE // max(1, len(self._keys) * self._count))
        for few in _parts(epochs, max(1, some // batches)):
            for part in _parts(range(batches), some):
                yield from self.draw(few, part).flatten(0, 1)

    def _on_host(self, epochs: range, batches: range) -> Tensor:
        """Return the numbers (epochs, batches, S, count) of numpy's generator."""
        shape = (len(epochs), len(batches), len(self._keys), self._count)
        numbers = np.empty(shape, np.float32)
        for of_epoch, epoch in zip(numbers, epochs, strict=True):
            for seed, key in enumerate(self._keys):
                # numpy counts up before it computes: its first counter is the next one
                counter = epoch << 64 | batches.start * self._blocks
                stream = np.random.Philox(key=key, counter=counter)
                words = stream.random_raw(4 * self._blocks * len(batches)).view(np.int32)
                odd = words >> 8 & 0xFFFFFF | 1
                of_epoch[:, seed] = odd.reshape(len(batches), -1)[:, : self._count]
        numbers *= 2.0**-24
        return torch.from_numpy(numbers)

    def _on_device(self, epochs: range, batches: range, keys: Tensor, factors: Tensor) -> Tensor:
        """Return the same of `philox`, on the device of the round keys."""
        device, blocks = keys.device, self._blocks
        first = 1 + batches.start * blocks
        position = torch.arange(first, first + len(batches) * blocks, device=device)
        epoch = torch.arange(epochs.start, epochs.stop, device=device)
        # axes of the counters: epochs, batches, S, blocks
        place = position.view(1, len(batches), 1, blocks)
        time = epoch.view(-1, 1, 1, 1)
        words = philox(
            torch.stack([place, torch.zeros_like(place)]),
            torch.stack([time, torch.zeros_like(time)]),
            keys[:, :, None, None, :, None],
            factors,
        )
        odd = words.view(torch.int32).flatten(-2) >> 8 & 0xFFFFFF | 1
        return odd[..., : self._count] * 2.0**-24


def round_keys(keys: NDArray[np.uint64]) -> Tensor:
    """Return keys uint64 (2, ...) as the rounds have them: int64 (rounds, 2, ...), same bits."""
    rounds = np.arange(ROUNDS, dtype=np.uint64).reshape(-1, *[1] * keys.ndim)
    steps = KEY_STEPS.reshape(-1, *[1] * (keys.ndim - 1))
    return torch.from_numpy((keys + rounds * steps).view(np.int64))


def multipliers(device: torch.device) -> Tensor:
    """Return the multipliers of both products, whole and as their low and high halves: (3, 2)."""
    parts = np.stack([MULTIPLIERS, MULTIPLIERS & np.uint64(LOW), MULTIPLIERS >> np.uint64(32)])
    return torch.from_numpy(parts.view(np.int64)).to(device)


def philox(even: Tensor, odd: Tensor, keys: Tensor, factors: Tensor) -> Tensor:
    """Return Philox4x64-10 of counters: int64 (..., 4), the bits of uint64.

    Nothing but products, sums, shifts and masks of int64, which wrap around.

    Args:
        even: Words 0 and 2 of the counters, int64 (2, ...).
        odd: Words 1 and 3; the two are broadcast against each other, and against the keys.
        keys: As `round_keys` returns them, (rounds, 2, ...).
        factors: As `multipliers` returns them.
    """
    for key in keys:
        high, low = _products(even, factors.view(3, 2, *[1] * (even.ndim - 1)))
        even, odd = high.flip(0) ^ odd ^ key, low.flip(0)
    return torch.stack([even[0], odd[0], even[1], odd[1]], dim=-1)


def _products(words: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    """Return the high and the low 64 bits of words times factors, both without a sign."""
    whole, low_factor, high_factor = factors
    low, high = words & LOW, _upper(words)
    crossed = high * low_factor + _upper(low * low_factor)  # below 2**64
    other = low * high_factor + (crossed & LOW)
    return high * high_factor + _upper(crossed) + _upper(other), words * whole


def _upper(words: Tensor) -> Tensor:
    """Return the upper 32 bits of 64, shifted down."""
    return words >> 32 & LOW


def _parts(numbers: range, size: int) -> Iterator[range]:
    """Cut a range into ranges of at most so many.

    >>> list(_parts(range(1, 6), 2))
    [range(1, 3), range(3, 5), range(5, 6)]
    """
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]
