"""What a training says of its labels before it starts: what is missing, and what looks wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data.errors import HeliographError
from data.values import suspicious_values
from data.wording import counted
from pipeline.config import TrainConfig
from pipeline.dataset import Examples, RunInputs
from pipeline.game import ClipTable, build_game

SMALLEST, LARGEST = 1e-12, 1e12  # of the largest feature, for networks that read it as it is


def describe_labels(inputs: RunInputs, config: TrainConfig) -> list[str]:
    """Return sentences about the labels of a run that its reader must know; none where all is well.

    How many clips have each property, and all of them; values that count as equal though they
    differ by rounding; sentinels and mixed units.
    """
    labels, names = inputs.clips.labels, config.properties
    count = len(inputs.clips)
    known = {name: ~np.isnan(labels[name]) for name in names}
    common = np.all(list(known.values()), axis=0)
    sentences = []
    if not common.all():
        lacking = [
            f"{missing} {'lacks' if missing == 1 else 'lack'} {name}"
            for name, own in known.items()
            if (missing := int((~own).sum()))
        ]
        what = f"{'both ' if len(names) == 2 else ''}{_listed(names)}"
        sentences.append(
            f"{common.sum()} of {count} clips have {what}; {', '.join(lacking)}: a clip that lacks "
            "one gets messages, and is in no part of a split"
        )
    for name in names:
        if merged := inputs.merged_values.get(name):
            sentences.append(
                f"{name}: {merged} values that differ from another by a millionth at most are "
                "taken for rounding, and count as equal to it"
            )
        sentences += [found.sentence(name) for found in suspicious_values(labels[name].tolist())]
    return sentences


def require_labels_that_differ(inputs: RunInputs, config: TrainConfig, examples: Examples) -> None:
    """Check that there is something to tell apart in the clips that have every property.

    Raises:
        HeliographError: All their values of a property are the same, or within its margin.
    """
    labelled = np.flatnonzero(~np.isnan(examples.labels).any(axis=1))
    game, table = build_game(config), ClipTable.of(examples.labels, examples.objects)
    for obstacle in game.obstacles(table, labelled):
        where = " and ".join(str(source.path) for source in inputs.sources)
        raise HeliographError(
            f"{where}: the {counted(len(labelled), 'clip')} with known labels {obstacle}: nothing "
            "to compare; name other labels with --property"
        )


def require_learnable_scale(inputs: RunInputs, config: TrainConfig) -> None:
    """Check that features which networks read as they are have a size that networks can read.

    Principal axes bring features of any size to one.

    Raises:
        HeliographError: The features of a cache are very large or very small.
    """
    if config.axes:
        return
    for source, part in zip(inputs.sources, inputs.caches, strict=True):
        size = max(float(np.abs(clip).max(initial=0)) for clip in part.features)
        if size and not SMALLEST < size < LARGEST:
            raise HeliographError(
                f"{source.path}: its features are {size:.0e} at most, a size that no network "
                "learns from: give --axes 64, which brings them to one, or scale them"
            )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
