"""Caveats about data and splits: what labels and splits do and do not test, axes that are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data.errors import HeliographError
from data.wording import counted
from pipeline.config import DISCRETE, LAST, RIDGE, TrainConfig
from pipeline.dataset import (
    MOST_COMPARED,
    Examples,
    RunInputs,
    Split,
    folds_of,
    holds_out_cells,
)
from pipeline.game import ClipTable, build_game


def require_labelled(examples: Examples, properties: Sequence[str], files: Sequence[Path]) -> None:
    """Check that a training has clips to learn from.

    Args:
        examples: Labels of all clips.
        properties: Their names.
        files: The caches that they are from.

    Raises:
        HeliographError: No clip has a value of one property, or of every one.
    """
    known = ~np.isnan(examples.labels)
    if known.all(axis=1).any():
        return
    where = " and ".join(map(str, files))
    for name, has in zip(properties, known.any(axis=0), strict=True):
        if not has:
            raise HeliographError(
                f"no clip of {where} has a value of {name}: name another property with "
                "--property, or give these clips their labels"
            )
    counts = ", ".join(
        f"{count:,} have {name}" for name, count in zip(properties, known.sum(axis=0), strict=True)
    )
    raise HeliographError(
        f"no clip of {where} has a value of every property (of {counted(len(known), 'clip')}, "
        f"{counts}): name those that clips have together with --property"
    )


def diagnose(examples: Examples, config: TrainConfig, seeds: Sequence[int]) -> list[str]:
    """Return caveats about data and splits as sentences, none where there are none.

    A label that is a function of the object is no fault where the test objects are unseen: it only
    makes objects, not clips, the sample. Where an object is in training and test, it can be
    recalled instead of seen.

    Args:
        examples: Labels and objects of all clips.
        config: Gives properties, splits and game.
        seeds: Of the run.
    """
    notes = []
    splits = {seed: examples.split(config.split, seed) for seed in seeds}
    objects = np.asarray(examples.objects)
    labelled = ~np.isnan(examples.labels).any(axis=1)
    held_out = [len(set(objects[split.test])) for split in splits.values()]
    for number, name in enumerate(config.properties):
        if not function_of_object(objects[labelled], examples.labels[labelled, number]):
            continue
        count = len(set(objects[labelled]))
        few, many = min(held_out), max(held_out)
        tested = f"{few}" if few == many else f"{few} to {many}"
        notes.append(
            f"{name} has one value per object: the {counted(count, 'object')}, not the "
            f"{counted(int(labelled.sum()), 'clip')}, are the sample, and a seed is tested on "
            f"{tested} of them"
        )
        shared = [
            seed
            for seed, split in splits.items()
            if set(objects[split.train]) & set(objects[split.test])
        ]
        if shared:
            notes.append(
                f"{name} has one value per object, and objects are in both training and test "
                f"(seed {_some(shared)}): it can be recalled from who the object is"
            )
    cells = holds_out_cells(config.split, examples.labels[labelled])
    if not cells and len(set(objects[labelled])) == labelled.sum():
        notes.append(
            "every clip is an object of its own: where several clips show one thing, it is in "
            "training and test, and can be recalled; a column `object` says which clips do"
        )
    notes += _validation_notes(examples, config, splits)
    if config.encoder == RIDGE and config.channel == DISCRETE:
        notes.append(
            "the agents' symbols start as levels of ridge regressions on their features: that each "
            "position tells a property is given to them, not found by them"
        )
    if len(examples) > MOST_COMPARED:
        notes.append(
            f"of more than {MOST_COMPARED:,} clips, near-duplicates are looked for among those "
            "alike at a first glance: a few may stay unseen"
        )
    if config.kept_epoch == LAST and any(len(split.validation) for split in splits.values()):
        notes.append(
            "the last epoch is kept: what is called chosen on validation is it; validation clips "
            "chose only which seed's model is at the top of the run"
        )
    folds = folds_of(config.split)
    if folds and len(seeds) % folds:
        notes.append(
            f"{counted(len(seeds), 'seed')} {'is' if len(seeds) == 1 else 'are'} no whole rounds "
            f"of {folds} folds: some objects are tested more often than others"
        )
    return notes


def _validation_notes(
    examples: Examples, config: TrainConfig, splits: Mapping[int, Split]
) -> list[str]:
    """Say for which seeds the validation clips leave nothing to play."""
    game, table = build_game(config), ClipTable.of(examples.labels, examples.objects)
    seeds_of: dict[str, list[int]] = {}
    for seed, split in splits.items():
        for obstacle in game.obstacles(table, split.validation) if len(split.validation) else ():
            seeds_of.setdefault(obstacle, []).append(seed)
    return [
        f"the validation clips {obstacle} (seed {_some(seeds)}): nothing can choose a checkpoint "
        "there, and the last epoch is kept"
        for obstacle, seeds in seeds_of.items()
    ]


def missing_axes(inputs: RunInputs, config: TrainConfig, splits: Sequence[Split]) -> list[str]:
    """Return a sentence for each cache whose features have fewer axes than are to be kept.

    There is one for each dimension, and one for each time step of the training clips.
    """
    sentences = []
    for source in inputs.sources:
        steps = min(len(split.train) for split in splits) * source.steps
        if config.axes > min(source.dim, steps):
            fewest = counted(source.dim, "dimension")
            if steps < source.dim:
                fewest = f"{counted(steps, 'time step')} in the training clips of a seed"
            sentences.append(
                f"axes {config.axes} are more than there are: {source.path} has {fewest}, and "
                "further axes say nothing"
            )
    return sentences


def function_of_object(objects: np.ndarray, values: np.ndarray) -> bool:
    """Return whether all clips of an object have one value, and some object has several clips.

    >>> function_of_object(np.array(["a", "a", "b"]), np.array([1.0, 1.0, 2.0]))
    True
    >>> function_of_object(np.array(["a", "a", "b"]), np.array([1.0, 3.0, 2.0]))
    False
    >>> function_of_object(np.array(["a", "b"]), np.array([1.0, 2.0]))
    False
    """
    pairs = set(zip(objects.tolist(), values.tolist(), strict=True))
    return len(pairs) == len(set(objects.tolist())) < len(objects)


def _some(seeds: Sequence[int], most: int = 5) -> str:
    shown = ", ".join(map(str, seeds[:most]))
    return shown + (f" and {len(seeds) - most} more" if len(seeds) > most else "")
