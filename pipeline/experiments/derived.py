"""Views that are made from the features of another view, not from clips.

A new cache is written beside the features it is made from. It counts as imported: no backbone makes
such features of a video.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data import cache
from data.cache import Features
from data.errors import HeliographError
from data.wording import counted
from pipeline.experiments.recipe import AgentView


def derive(view: AgentView, source: Path, folder: Path) -> Path:
    """Return the cache of a view, made of the cache of the view that it is of.

    Args:
        view: With an `order`, or `averaged`, or `without`.
        source: The cache of `view.of`.
        folder: Where the new one is written; one that is there is kept while its source is as it
            was.

    Raises:
        HeliographError: The source cannot be read, or lacks the steps or labels.
    """
    target = folder / f"{source.stem}-{_what(view)}.h5"
    whence = {"imported": True, "source": source.name, "view": _what(view)}
    of = cache.info(source)["content_sha256"]
    if target.exists() and cache.info(target)["fingerprint"] == whence | {"of": of}:
        return target
    try:
        made = _made(view, cache.load(source))
    except HeliographError as error:
        raise HeliographError(f"the view {view.name!r} of {source}: {error}") from error
    changed = dataclasses.replace(made, fingerprint=whence | {"of": of}, key=())
    folder.mkdir(parents=True, exist_ok=True)
    cache.save(changed, target)
    return target


def step_order(steps: int, number: int) -> NDArray[np.int64]:
    """Return a random order of `steps`, the one of this number.

    >>> sorted(step_order(4, 0).tolist())
    [0, 1, 2, 3]
    """
    return np.random.default_rng(number).permutation(steps)


def averaged(features: NDArray[Any], steps: int) -> NDArray[Any]:
    """Return the means of so many steps in a row; what is left over at the end is left out.

    Args:
        features: (N, T, D).
        steps: At most T.

    >>> averaged(np.array([[[1.0], [3.0], [5.0]]]), 2).tolist()
    [[[2.0]]]
    """
    count = features.shape[1] // steps
    blocks = features[:, : count * steps].reshape(len(features), count, steps, -1)
    return blocks.mean(2, dtype=np.float64).astype(features.dtype)


def residual(label: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what the straight line through (other, label) leaves; NaN where either is not known.

    The line of least squares over all clips, as in phase 87c of the paper.

    >>> residual(np.array([1.0, 3.0, 2.0]), np.array([0.0, 1.0, np.nan])).round(6).tolist()
    [0.0, 0.0, nan]
    """
    known = ~np.isnan(label + other)
    if np.unique(other[known]).size < 2:
        raise HeliographError("no line: the label that is taken away does not vary")
    slope, start = np.polyfit(other[known], label[known], 1)
    return label - (start + slope * other)


def _what(view: AgentView) -> str:
    """Return what is done, as a part of a file's name."""
    if view.order is not None:
        return f"order{view.order}"
    if view.averaged is not None:
        return f"averaged{view.averaged}"
    assert view.without is not None
    return "_without_".join(view.without)


def _made(view: AgentView, clips: Features) -> Features:
    steps = clips.features.shape[1]
    if view.order is not None:
        order = step_order(steps, view.order)
        return dataclasses.replace(clips, features=np.asarray(clips.features)[:, order])
    if view.averaged is not None:
        if view.averaged > steps:
            raise HeliographError(f"it has {counted(steps, 'step')}, not {view.averaged}")
        made = averaged(np.asarray(clips.features), view.averaged)
        return dataclasses.replace(clips, features=made)
    assert view.without is not None
    for name in view.without:
        if name not in clips.labels:
            known = ", ".join(clips.labels) or "none"
            raise HeliographError(f"it has no label {name!r}: its labels are {known}")
    column = residual(*(clips.labels[name] for name in view.without))
    return dataclasses.replace(clips, labels=dict(clips.labels) | {_what(view): column})
