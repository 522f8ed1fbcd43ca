"""What to know before believing an accuracy: what labels and splits do and do not test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.config import TrainConfig
from pipeline.dataset import Examples, folds_of


def warnings(examples: Examples, config: TrainConfig, seeds: Sequence[int]) -> list[str]:
    """Sentences for people, none where there is nothing to say.

    A label that is a function of the object is no fault where the test objects are unseen: it only
    makes objects, not clips, the sample. Where an object stands in training and test, it can be
    recalled instead of seen.
    """
    found = []
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
        found.append(
            f"{name} has one value per object: the {count} objects, not the "
            f"{int(labelled.sum())} clips, are the sample, and a seed is tested on {tested} of them"
        )
        shared = [
            seed
            for seed, split in splits.items()
            if set(objects[split.train]) & set(objects[split.test])
        ]
        if shared:
            found.append(
                f"{name} has one value per object, and objects stand in both training and test "
                f"(seed {_some(shared)}): it can be recalled from who the object is"
            )
    for number, (name, margin) in enumerate(
        zip(config.properties, config.tie_margins, strict=True)
    ):
        alike = [
            seed
            for seed, split in splits.items()
            if len(split.validation)
            and not np.ptp(examples.labels[split.validation, number]) > margin
        ]
        if alike:
            found.append(
                f"the validation clips all have the same {name} (seed {_some(alike)}): nothing can "
                "choose a checkpoint there, and the last epoch is kept"
            )
    folds = folds_of(config.split)
    if folds and len(seeds) % folds:
        found.append(
            f"{len(seeds)} seeds are no whole rounds of {folds} folds: some objects are tested "
            "more often than others"
        )
    return found


def function_of_object(objects: np.ndarray, values: np.ndarray) -> bool:
    """Whether all clips of an object have one value, and some object has several clips.

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
