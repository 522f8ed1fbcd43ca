"""Noise by counter: known answers, the same bits on both paths, and every number its own."""

import numpy as np
import pytest
import torch
from scipy import stats

from pipeline.agents import Noise, noise
from pipeline.agents.noise import multipliers, philox, round_keys
from tests.helpers.fake_gpu import CUDA, FakeGpu

CPU = torch.device("cpu")
FULL = 2**64 - 1
KNOWN = [  # Random123 1.14, tests/kat_vectors: counter, key, answer
    ("0 0 0 0", "0 0", "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"),
    (
        "ffffffffffffffff ffffffffffffffff ffffffffffffffff ffffffffffffffff",
        "ffffffffffffffff ffffffffffffffff",
        "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0",
    ),
    (
        "243f6a8885a308d3 13198a2e03707344 a4093822299f31d0 082efa98ec4e6c89",
        "452821e638d01377 be5466cf34e90c6c",
        "a528f45403e61d95 38c72dbd566e9788 a5a1610e72fd18b5 57bd43b5e52b7fe6",
    ),
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def of_integers(counters, keys) -> np.ndarray:
    """Return the words of `philox` for counters (n, 4) and keys (n, 2), uint64 (n, 4)."""
    counter = torch.from_numpy(np.array(counters, np.uint64).view(np.int64).T.copy())
    found = philox(
        counter[[0, 2]], counter[[1, 3]], round_keys(np.array(keys, np.uint64).T), multipliers(CPU)
    )
    return found.numpy().view(np.uint64)


def on_device(made: Noise, epochs: range, batches: range, seeds, purpose: str) -> torch.Tensor:
    """Return what a GPU draws, with the same operations on the CPU."""
    word = int.from_bytes(purpose.encode(), "little")
    keys = round_keys(np.array([[seed, word] for seed in seeds], np.uint64).T)
    return made._on_device(epochs, batches, keys, multipliers(CPU))


def test_known_answers():
    counters, keys, answers = ([words(line[part]) for line in KNOWN] for part in range(3))
    assert of_integers(counters, keys).tolist() == answers


def test_the_words_are_those_of_numpy():
    rng = np.random.default_rng(0)
    some = np.array([0, 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, FULL], np.uint64)
    random = rng.integers(0, FULL, (2000, 6), np.uint64, endpoint=True)
    rows = np.concatenate([random, rng.choice(some, (500, 6))])
    expected = []
    for row in rows:
        counter = sum(int(word) << 64 * place for place, word in enumerate(row[:4]))
        key = int(row[4]) | int(row[5]) << 64
        expected.append(np.random.Philox(key=key, counter=(counter - 1) % 2**256).random_raw(4))
    assert np.array_equal(of_integers(rows[:, :4], rows[:, 4:]), expected)


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 64, 2, 5), (17,)])
def test_a_gpu_draws_what_a_cpu_does_to_the_bit(shape):
    seeds = [0, 7, 2**32 - 1, 2**63, FULL]
    made = Noise(seeds, "channel", shape, CPU)
    epochs, batches = range(3, 6), range(2, 7)
    here = made.draw(epochs, batches)
    there = on_device(made, epochs, batches, seeds, "channel")
    assert here.dtype == there.dtype == torch.float32
    assert here.shape == (3, 5, 5, *shape)
    assert torch.equal(here.flatten(3), there)
    assert torch.equal(here.log().neg().log().flatten(3), there.log().neg().log())


def test_a_seeds_numbers_are_its_own_whatever_is_drawn_beside_them(monkeypatch):
    shape = (2, 3, 5)
    alone = Noise([3], "channel", shape, CPU)
    among = Noise([9, 3, 3, 0], "channel", shape, CPU).draw(range(1, 5), range(4))
    for epoch in range(1, 5):
        for batch in range(4):
            (((own,),),) = alone.draw(range(epoch, epoch + 1), range(batch, batch + 1))
            assert torch.equal(own, among[epoch - 1, batch, 1])
            assert torch.equal(own, among[epoch - 1, batch, 2])
    for most in (1, 31, 100, 10_000):
        monkeypatch.setattr(noise, "AT_ONCE", most)
        for batches in (2, 4):  # fewer of others' batches, the same numbers
            steps = torch.stack(list(alone.steps(range(1, 5), batches)))
            assert torch.equal(steps.view(4, batches, *shape), among[:, :batches, 1])


def test_seeds_purposes_epochs_and_batches_share_no_number():
    seeds = range(6)
    drawn = [
        Noise(seeds, purpose, (64,), CPU).draw(range(4), range(5))
        for purpose in ("channel", "newcomer")
    ]
    rows = torch.stack(drawn).flatten(0, 3).numpy()  # (2 * 4 * 5 * 6, 64)
    correlations = np.corrcoef(rows)[np.triu_indices(len(rows), 1)]
    assert np.abs(correlations).max() < 0.7
    assert correlations.std() == pytest.approx(1 / 8, rel=0.05)
    shared = np.unique(rows, return_counts=True)[1]
    assert (shared > 1).sum() < 50  # of 15,360 numbers in 8,388,608 steps: 14 are expected


def test_the_numbers_are_uniform_and_pairs_of_them_independent():
    numbers = Noise(range(20), "channel", (64, 2, 5), CPU).draw(range(1, 11), range(5))
    flat = numbers.flatten().numpy().astype(np.float64)  # 640,000
    assert 0 < flat.min() < 1e-5
    assert 1 - 1e-5 < flat.max() < 1
    assert stats.kstest(flat[::3], "uniform").pvalue > 0.001
    assert stats.kstest(-np.log(-np.log(flat)), "gumbel_r").pvalue > 0.001
    for one, other in [
        (numbers[:, :, :, 0], numbers[:, :, :, 1]),  # within a batch
        (numbers[:, :-1], numbers[:, 1:]),  # batches
        (numbers[:-1], numbers[1:]),  # epochs
        (numbers[:, :, :-1], numbers[:, :, 1:]),  # seeds
    ]:
        both = [(16 * part).long().flatten().numpy() for part in (one, other)]
        table = np.bincount(16 * both[0] + both[1], minlength=256)
        assert stats.chisquare(table).pvalue > 0.001


def test_every_number_is_an_odd_multiple_of_a_24th_power():
    numbers = Noise([1], "channel", (10_000,), CPU).draw(range(1), range(1)).double() * 2**24
    assert torch.equal(numbers, numbers.round())
    assert (numbers % 2 == 1).all()
    assert (numbers.min() >= 1, numbers.max() <= 2**24 - 1) == (True, True)


def test_a_channel_without_noise_draws_none():
    made = Noise([0, 1], "channel", (2, 8, 2, 0), CPU)
    assert [tuple(step.shape) for step in made.steps(range(1, 3), 2)] == [(2, 2, 8, 2, 0)] * 4


def test_a_gpu_draws_without_the_host():
    with FakeGpu() as gpu:
        made = Noise(range(80), "channel", (2, 64, 2, 5), CUDA)
        with gpu.counting() as work:
            drawn = list(made.steps(range(1, 9), 5))
    assert [tuple(step.shape) for step in drawn] == [(80, 2, 64, 2, 5)] * 40
    assert {step.device.type for step in drawn} == {"cuda"}
    assert (work.to_device, work.waits, work.doubles) == (0, 0, 0)
    assert work.launches <= 260, work.kernels  # for eight epochs: 6.5 a step
    assert work.peak_bytes <= 40 * noise.AT_ONCE
