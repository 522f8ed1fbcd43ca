"""Rounding as another processor might do it."""

import numpy as np


def last_bits(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return float64 values, each one step up, one step down, or as it is."""
    array = np.asarray(values, np.float64)
    steps = np.random.default_rng(seed).integers(-1, 2, array.shape)
    return array + steps * np.spacing(array)
