"""Features on fewer axes: faster, and with less for small training sets to get lost in.

A linear map without an offset, so that it folds into the first convolution: the agents that are
kept have the paper's architecture over the backbone's own features, and nothing else to carry.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.linalg
import torch

from pipeline.agents import Sender


def principal_axes(features: np.ndarray, axes: int) -> np.ndarray:
    """The leading principal axes of features, about zero, whitened.

    Each dimension is first divided by its standard deviation. Projected on the result, the features
    have a mean square of one along every axis.

    Args:
        features: (n, T, D) of the training clips.
        axes: how many; D at most.

    Returns float64 (D, axes); an axis along which nothing varies is zero.
    """
    rows = features.reshape(-1, features.shape[-1]).astype(np.float64)
    spread = rows.std(axis=0)
    scale = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1), 0)  # (D,)
    rows *= scale
    size = rows.shape[1]
    axes = min(axes, size)
    values, vectors = scipy.linalg.eigh(
        rows.T @ rows / len(rows), subset_by_index=(size - axes, size - 1)
    )
    varies = values > values.max() * 1e-10
    return scale[:, None] * vectors / np.sqrt(np.where(varies, values, np.inf))


def fold(sender: Sender, axes: Sequence[np.ndarray], into: Sender) -> None:
    """Gives `into`, over D dimensions, the weights of `sender` with its axes folded in.

    `axes` (D, axes) are of each agent's features, one per agent.
    """
    state = sender.state_dict()
    first = [name for name in state if name.endswith("temporal.0.weight")]
    for name, own in zip(first, axes, strict=True):  # (256, axes, kernel) -> (256, D, kernel)
        projection = torch.from_numpy(own)
        state[name] = torch.einsum("da,oak->odk", projection, state[name].double()).float()
    into.load_state_dict(state)
