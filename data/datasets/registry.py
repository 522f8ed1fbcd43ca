"""The datasets of this folder, found by their files."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import TypeVar

from data.datasets.dataset import Dataset
from data.discovery import find_records

_Value = TypeVar("_Value", str, float)


@cache
def known_datasets() -> dict[str, Dataset]:
    """Return the `Dataset` records in the modules of `data/datasets`, by name.

    Raises:
        ValueError: Two records have one name, or give one label different units or tie margins.
    """
    datasets = find_records(__package__, Dataset)
    _merged([dataset.units for dataset in datasets.values()])
    _merged([dataset.tie_margins for dataset in datasets.values()])
    return datasets


@cache
def label_units() -> dict[str, str]:
    """Return the unit of each label that a dataset knows."""
    return _merged([dataset.units for dataset in known_datasets().values()])


@cache
def tie_margins() -> dict[str, float]:
    """Return the tie margin of each label that a dataset knows one for, in the label's unit."""
    return _merged([dataset.tie_margins for dataset in known_datasets().values()])


def _merged(mappings: Iterable[Mapping[str, _Value]]) -> dict[str, _Value]:
    merged: dict[str, _Value] = {}
    for mapping in mappings:
        for label, value in mapping.items():
            if merged.setdefault(label, value) != value:
                raise ValueError(f"datasets disagree about {label}: {merged[label]} and {value}")
    return merged
