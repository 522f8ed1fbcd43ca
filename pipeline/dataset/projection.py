"""Features on fewer axes: faster, and with less for small training sets to get lost in.

A linear map without an offset, so that it folds into the first convolution: the agents that are
kept have the paper's architecture over the backbone's own features, and nothing else to carry.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg


def principal_axes(
    features: np.ndarray, axes: int, shrinkage: float = 0.0, *, standardise: bool = False
) -> np.ndarray:
    """The leading principal axes of features, whitened.

    They are at right angles to the mean, so that the projected features have a mean of zero without
    an offset. Along an axis of variance v they are divided by sqrt(v + shrinkage * mean v), then
    all by one number, so that their mean square is one: with shrinkage the weak axes stay weak.

    Args:
        features: (n, T, D) of the training clips.
        axes: how many; D at most.
        standardise: first divide each dimension by its standard deviation.
        shrinkage: 0 makes all axes equal, a large one leaves them as they are.

    Returns float64 (D, axes); an axis along which nothing varies is zero.
    """
    rows = features.reshape(-1, features.shape[-1]).astype(np.float64)
    spread = rows.std(axis=0) if standardise else np.ones(rows.shape[1])
    unit = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 0)  # (D,)
    rows *= unit
    mean = rows.mean(axis=0)
    direction = mean / (np.linalg.norm(mean) or 1.0)
    rows -= np.outer(rows @ direction, direction)
    size = rows.shape[1]
    axes = min(axes, size)
    values, vectors = scipy.linalg.eigh(
        rows.T @ rows / len(rows), subset_by_index=(size - axes, size - 1)
    )
    values = np.where(values > values.max() * 1e-10, values, 0)
    soft = values + shrinkage * values.mean()
    scale = np.divide(1, np.sqrt(soft), out=np.zeros_like(soft), where=values > 0)
    size_after = np.sqrt((values * scale**2).mean()) or 1.0
    return unit[:, None] * vectors * scale / size_after
