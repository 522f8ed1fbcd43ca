"""Messages and properties whose relation is known."""

import numpy as np

GRID = np.repeat([[i, j] for i in range(4) for j in range(4)], 3, axis=0)
"""Two properties of four levels each, three clips of each of 16 objects: (48, 2)."""

OBJECTS = np.repeat(np.arange(16), 3)
"""The object of each clip of GRID."""

PLANTED = {
    "positions": GRID,
    "positions exchanged": GRID[:, ::-1],
    "each property twice": np.concatenate([GRID, GRID], axis=1),
    "one property": GRID * [1, 0],
    "nothing": GRID * 0,
}
"""Codes for the clips of GRID, (48, P)."""

STRUCTURAL = (
    "posdis_wmcp",
    "posdis_chaabouni2020",
    "bosdis_wmcp",
    "bosdis_chaabouni2020",
    "topsim",
)


def random_code(
    seed: int = 0,
    *,
    seeds: int = 3,
    clips: int = 60,
    positions: int = 4,
    vocab: int = 5,
    attributes: int = 2,
    bins: int = 4,
) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens (S, N, P) and attributes (N, A) that have nothing to do with each other."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, vocab, (seeds, clips, positions))
    return tokens, rng.integers(0, bins, (clips, attributes))


def arbitrary_code() -> np.ndarray:
    """Return messages (48, 2) that name each object of GRID by an arbitrary pair of symbols."""
    shuffled = np.random.default_rng(0).permutation(16)
    return np.stack(np.divmod(shuffled[GRID[:, 0] * 4 + GRID[:, 1]], 4), axis=1)


def noisy_grid() -> tuple[np.ndarray, np.ndarray]:
    """Return messages (3, 48, 2) that tell GRID but for a fifth of symbols, and noise alike."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 4, (3, 48, 2))
    return np.where(rng.random((3, 48, 2)) < 0.2, noise, GRID), rng.integers(0, 4, (3, 48, 2))


def code_by_object(
    rng: np.random.Generator, *, objects: int = 12, clips_each: int = 10, strength: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return tokens, attributes and objects of clips whose messages are alike within an object.

    A message follows the properties of its object with probability `strength`.
    """
    labels = rng.integers(0, 4, (objects, 2))
    follows = rng.random((objects, 2)) < strength
    symbols = np.where(follows, labels, rng.integers(0, 4, (objects, 2)))
    group = np.repeat(np.arange(objects), clips_each)
    return symbols[group], labels[group], group
