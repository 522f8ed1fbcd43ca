"""Clips by their symbols: every property against them, and the features coloured by message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset import RunInputs
from pipeline.message import PropertyWording, wording_for
from pipeline.report.charts import Axis, dots
from pipeline.report.sections.section import ReportContext, Section
from pipeline.runs import Run

MAX_CLIPS = 600  # dots of a chart
MAX_STRIPS = 32  # charts of a property against the symbols of a position
MAX_MAPS = 9  # charts of the features
COLOURS = 8
OTHERS = "others"

Floats = NDArray[np.float64]


def build(context: ReportContext) -> Mapping[str, Any]:
    """Return the variables of the template."""
    run = context.run
    if not run.has_symbols:
        return {"strips": [], "maps": [], "explained": ()}
    lines, tokens = run.messages(), run.tokens()
    shown = np.linspace(0, len(lines) - 1, min(len(lines), MAX_CLIPS)).round().astype(int)
    some, symbols = [lines[n] for n in shown], tokens[shown].reshape(len(shown), -1)
    strips = [
        _strip(some, symbols[:, place], name, _place_name(run, place))
        for place in range(symbols.shape[1])
        for name in run.config.properties
    ][:MAX_STRIPS]
    maps: list[dict[str, Any]] = []
    explained: tuple[float, ...] = ()
    places = None if context.inputs is None else principal_axes(context.inputs, shown)
    if places is not None:
        axes, explained = places
        groups = {"whole messages": [line["message"] for line in some]}
        for place in range(symbols.shape[1]):
            groups[_place_name(run, place)] = [str(symbol) for symbol in symbols[:, place]]
        maps = [_map(axes, title, names) for title, names in list(groups.items())[:MAX_MAPS]]
    return {
        "strips": [strip for strip in strips if strip is not None],
        "maps": maps,
        "explained": explained,
        "drawn": len(shown),
        "all_clips": len(lines),
    }


def _place_name(run: Run, place: int) -> str:
    agent, head = divmod(place, run.config.heads)
    return f"agent {agent + 1}, position {head + 1}"


def _strip(
    lines: Sequence[Mapping[str, Any]], symbols: NDArray[np.int64], name: str, place: str
) -> dict[str, Any] | None:
    """What one chart shows: a property along x, a line of dots for each symbol."""
    known = [n for n, line in enumerate(lines) if line["labels"][name] is not None]
    if not known:
        return None
    wording: PropertyWording = wording_for(name)
    values = np.array([lines[n]["labels"][name] for n in known], np.float64)
    is_train = np.array([lines[n]["part"] == "train" for n in known])
    present = sorted(set(symbols[known].tolist()))
    step = 100 / len(present)
    middle = {symbol: step * (number + 0.5) for number, symbol in enumerate(present)}
    spread = 0.6 * step * (np.arange(len(known)) * 0.618034 % 1 - 0.5)  # apart, always alike
    axis = Axis.of(values)
    x = np.array([axis.at(value) for value in values])
    y = np.array([middle[symbol] for symbol in symbols[known].tolist()]) + spread
    title = f"{wording.name} by the symbol of {place}"
    return {
        "title": title + (f", {wording.unit}" if wording.unit else ""),
        "axis": axis,
        "rows": [(round(at, 2), symbol) for symbol, at in middle.items()],
        "train": dots(x[is_train], y[is_train]),
        "others": dots(x[~is_train], y[~is_train]),
        "summary": f"{title}: {len(known)} clips, {len(present)} symbols",
    }


def principal_axes(
    inputs: RunInputs, rows: NDArray[np.int64]
) -> tuple[Floats, tuple[float, float]] | None:
    """Return the two principal axes of clips' features, and their shares of the variance.

    The features of each cache count alike, whatever their scale.

    Args:
        inputs: The caches of a run.
        rows: Of the clips.

    Returns:
        Places (N, 2), each axis from 0 to 100; None where the features are all alike.
    """
    gram = np.zeros((len(rows), len(rows)))
    for cache in inputs.caches:
        features = np.asarray(cache.features[rows], np.float32).reshape(len(rows), -1)
        centred = features - features.mean(0)
        own = (centred @ centred.T).astype(np.float64)
        gram += own / max(float(np.trace(own)), 1e-30)
    values, vectors = np.linalg.eigh(gram)
    if len(values) < 3 or values[-2] < 1e-9:
        return None
    axes = vectors[:, [-1, -2]]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), [0, 1]])  # the same way up every time
    low, high = axes.min(0), axes.max(0)
    total = float(values.clip(0).sum())
    return 2 + 96 * (axes - low) / (high - low), (values[-1] / total, values[-2] / total)


def _map(axes: Floats, title: str, names: Sequence[str]) -> dict[str, Any]:
    """What one chart shows: the clips' places, those of each of the most frequent names alike."""
    frequent = [
        name for name, _ in sorted(Counter(names).items(), key=lambda own: (-own[1], own[0]))
    ]
    coloured = frequent[:COLOURS]
    groups = [(OTHERS, np.array([name not in coloured for name in names]))]
    groups += [(name, np.array([one == name for one in names])) for name in sorted(coloured)]
    return {
        "title": title,
        "groups": [
            (name, number, dots(axes[own, 0], axes[own, 1]), int(own.sum()))
            for number, (name, own) in enumerate(groups)
            if own.any()
        ],
        "summary": f"features of {len(names)} clips on two axes, coloured by {title}",
    }


SECTION = Section(name="scatter", title="Clips by symbol", order=35, build=build)
