"""Who may be in training, validation and test: never one object in two of them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from data import levels as label_levels
from data.errors import HeliographError, InvalidValueError

PARTS = ("train", "validation", "test", "structure")

# The paper's Latin square of a 5x5 grid (its `HOLDOUT_CELLS`): each row and each column once.
PAPER_CELLS = ((0, 1), (1, 3), (2, 0), (3, 4), (4, 2))


@dataclass(frozen=True)
class Split:
    """Clip numbers (int64, ascending) of each part, and the generator that drew them.

    The published recipe goes on to draw its training pairs from the same generator.

    `structure` holds clips of the cells that are trained on, which nothing is trained or chosen on:
    the structure of messages is measured there. The test cells of a grid, one in each row and
    column, cannot show it, since there each property tells the other.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    generator: np.random.RandomState
    structure: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        together = np.concatenate([*self.parts().values()])
        if len(np.unique(together)) < len(together):
            raise ValueError("a clip is in two parts of a split")

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}={len(clips)}" for name, clips in self.parts().items())
        return f"Split({sizes} clips)"

    def parts(self) -> dict[str, np.ndarray]:
        """The clips of each part, by its name in `messages.jsonl`."""
        return {name: getattr(self, name) for name in PARTS}

    def of_clips(self, clips: np.ndarray) -> Split:
        """The same of clips with other numbers: `clips` holds the new number of each."""
        parts = {name: clips[own] for name, own in self.parts().items()}
        return Split(**parts, generator=self.generator)

    def joined(self) -> Split:
        """The same with the validation clips among the training ones."""
        train = np.sort(np.concatenate([self.train, self.validation]))
        return dataclasses.replace(self, train=train, validation=self.validation[:0])


def published(objects: Sequence[str], cells: np.ndarray, seed: int) -> Split:
    """The paper's objects held out for test, and no validation.

    `max(4, objects // 5)` of them, `RandomState(1000 * seed + 42).choice` (`_phase87_phys101.py`).
    """
    generator, held_out = _published_test(objects, seed)
    is_test = np.isin(np.asarray(objects), held_out)
    return _split(is_test, np.zeros_like(is_test), generator)


def by_object(objects: Sequence[str], cells: np.ndarray, seed: int) -> Split:
    """The published test objects, and `max(3, objects // 6)` of the others for validation."""
    generator, test = _published_test(objects, seed)
    rest = np.setdiff1d(np.asarray(objects), test)
    count = max(3, len(set(objects)) // 6)
    if len(rest) < count + 2:
        raise HeliographError(
            f"{_some_objects(len(set(objects)))} too few for train, validation and test: "
            "at least 9 are needed"
        )
    validation = np.random.RandomState(seed).choice(rest, count, replace=False)
    names = np.asarray(objects)
    return _split(np.isin(names, test), np.isin(names, validation), generator)


def by_cell(objects: Sequence[str], cells: np.ndarray, seed: int) -> Split:
    """The cells of a Latin square for test, and no validation: the paper's split of property grids.

    `cells` is (N, 2) level numbers. On 5x5 the paper's five cells; on g x g the cells (i, i+1 mod
    g). The generator is `RandomState(seed)`, as in `_phase54c_multiseed.py`.
    """
    is_test = _in_cells(cells, latin_square(cells))
    return _split(is_test, np.zeros_like(is_test), np.random.RandomState(seed))


def by_cell_validated(objects: Sequence[str], cells: np.ndarray, seed: int) -> Split:
    """Test cells as `by_cell`; for validation `size - 2` cells, drawn per seed.

    They too are of different rows and columns, so that their clips differ in both properties. Of
    each cell that is left a quarter of the clips, at least two, are set aside for structure: those
    of whole objects first. Where such a cell has fewer than four clips, none are.
    """
    test = latin_square(cells)
    generator = np.random.RandomState(seed)
    columns = np.array([column for _, column in test])
    drawn = generator.permutation(len(test))
    while (drawn == columns).any():
        drawn = generator.permutation(len(test))
    rows = generator.permutation(len(test))[: max(2, len(test) - 2)]
    validation = [(int(row), int(drawn[row])) for row in rows]
    is_validation, is_test = _in_cells(cells, validation), _in_cells(cells, test)
    aside = _set_aside(objects, cells, np.flatnonzero(~is_test & ~is_validation), generator)
    split = _split(is_test, is_validation, np.random.RandomState(seed))
    return dataclasses.replace(split, train=np.setdiff1d(split.train, aside), structure=aside)


def _set_aside(
    objects: Sequence[str], cells: np.ndarray, trained: np.ndarray, generator: np.random.RandomState
) -> np.ndarray:
    """A quarter of the clips `trained` of each cell, ascending, drawn object by object."""
    of_cell = np.unique(cells[trained], axis=0, return_inverse=True)[1].ravel()
    if np.bincount(of_cell).min() < LEAST_OF_CELL:
        return trained[:0]
    _, numbers = np.unique(np.asarray(objects)[trained], return_inverse=True)
    turn = generator.permutation(numbers.max() + 1)[numbers.ravel()]
    order = np.lexsort((generator.random_sample(len(trained)), turn))  # object by object
    drawn = []
    for cell in range(of_cell.max() + 1):
        own = order[of_cell[order] == cell]
        drawn.append(own[: max(2, len(own) // 4)])
    return np.sort(trained[np.concatenate(drawn)])


def by_fold(objects: Sequence[str], folds: int, seed: int) -> Split:
    """Seed s tests fold s mod k of the objects and validates on the next fold.

    Every k seeds are a round, in which each object is tested once; each round deals the objects
    into folds anew, with `RandomState(1000 * round + 42)`. The training pairs' generator is that of
    the published splits.
    """
    names = np.array(sorted(set(objects)))
    if folds < 3:
        raise InvalidValueError(
            f"kfold-{folds} leaves no fold to train on: at least 3 folds are needed"
        )
    if len(names) < 2 * folds:
        raise HeliographError(
            f"{_some_objects(len(names))} too few for {folds} folds of at least 2 objects each"
        )
    order = np.random.RandomState(1000 * (seed // folds) + 42).permutation(names)
    test, validation = (order[number % folds :: folds] for number in (seed, seed + 1))
    every = np.asarray(objects)
    generator = np.random.RandomState(1000 * seed + 42)
    return _split(np.isin(every, test), np.isin(every, validation), generator)


def folds_of(name: str) -> int | None:
    """The k of a k-fold split, or None for another kind.

    >>> folds_of("kfold"), folds_of("kfold-13"), folds_of("objects")
    (5, 13, None)
    """
    match = re.fullmatch(r"kfold(?:-(\d+))?", name)
    return int(match[1] or FOLDS) if match else None


FOLDS = 5
LEAST_OF_CELL = 4  # clips of a trained cell of which some can be set aside

SPLITS: dict[str, Callable[[Sequence[str], np.ndarray, int], Split]] = {
    "published": published,
    "objects": by_object,
    "cells": by_cell,
    "cells-validated": by_cell_validated,
}


def split_clips(name: str, objects: Sequence[str], labels: np.ndarray, seed: int) -> Split:
    """Splits clips by the named rule.

    Args:
        name: a key of `SPLITS`; "kfold" (5 folds) or "kfold-K"; or "auto": cells where two
            properties form a full grid, else objects.
        objects: identity of each clip, (N,).
        labels: (N, properties) float; only which values are equal matters here, and their order.
        seed: which of the splits.

    Raises HeliographError for an unknown name, no such seed, or too few objects or cells.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise InvalidValueError(f"no seed {seed!r}: it is a whole number from 0 to {2**32 - 1}")
    if name == "auto":
        name = "cells-validated" if is_grid(labels) else "objects"
    folds = folds_of(name)
    if folds is not None:
        return by_fold(objects, folds, seed)
    refuse_unknown_split(name)
    if name.startswith("cells") and not is_grid(labels):
        raise HeliographError(
            f"the split {name!r} needs clips of two properties in every cell of a square grid"
        )
    return SPLITS[name](objects, levels(labels), seed)


def holds_out_cells(name: str, labels: np.ndarray) -> bool:
    """Whether the named rule holds out cells of a grid, not objects."""
    return name.startswith("cells") or (name == "auto" and is_grid(labels))


def refuse_unknown_split(name: str) -> None:
    """Raise InvalidValueError for a name that `split_clips` does not know."""
    if name != "auto" and name not in SPLITS and folds_of(name) is None:
        known = ", ".join(SPLITS)
        raise InvalidValueError(f"no split {name!r}: choose one of auto, {known}, kfold, kfold-K")


def levels(labels: np.ndarray) -> np.ndarray:
    """(N, properties) values -> (N, properties) int64 numbers of their levels, from the lowest.

    Values that are equal but for rounding are one level (`data.levels`).
    """
    return np.stack([label_levels.levels(column) for column in labels.T], axis=1)


def is_grid(labels: np.ndarray) -> bool:
    """Whether two properties take at least 3 values each and every pair of values has its clips."""
    if labels.shape[1] != 2 or not len(labels):
        return False
    numbers = levels(labels)
    rows, columns = numbers.max(axis=0) + 1
    return bool(rows == columns >= 3) and len(np.unique(numbers, axis=0)) == rows * columns


def latin_square(cells: np.ndarray) -> list[tuple[int, int]]:
    """The held-out cells of a square grid: one in each row and each column."""
    size = int(cells.max()) + 1
    return list(PAPER_CELLS) if size == 5 else [(i, (i + 1) % size) for i in range(size)]


def _published_test(objects: Sequence[str], seed: int) -> tuple[np.random.RandomState, np.ndarray]:
    names = sorted(set(objects))
    count = max(4, len(names) // 5)
    if len(names) < count + 2:
        raise HeliographError(
            f"{_some_objects(len(names))} too few to hold {count} of them out: at least "
            "6 are needed"
        )
    generator = np.random.RandomState(1000 * seed + 42)
    return generator, generator.choice(names, count, replace=False)


def _in_cells(cells: np.ndarray, chosen: Sequence[tuple[int, int]]) -> np.ndarray:
    return np.isin(
        cells[:, 0] * (cells.max() + 1) + cells[:, 1],
        [row * (cells.max() + 1) + column for row, column in chosen],
    )


def _split(
    is_test: np.ndarray, is_validation: np.ndarray, generator: np.random.RandomState
) -> Split:
    train = np.flatnonzero(~is_test & ~is_validation)
    return Split(train, np.flatnonzero(is_validation), np.flatnonzero(is_test), generator)


def _some_objects(count: int) -> str:
    return "1 object is" if count == 1 else f"{count} objects are"
