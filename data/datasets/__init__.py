"""Datasets that `heliograph index` knows, one file each.

A dataset is a module with a `Dataset` record: `known_datasets` finds it by its file.
"""

from data.datasets import physics101
from data.datasets.dataset import Choice, Dataset, DatasetError, Measurement, count_unknown
from data.datasets.registry import known_datasets, label_units, tie_margins

__all__ = [
    "Choice",
    "Dataset",
    "DatasetError",
    "Measurement",
    "count_unknown",
    "known_datasets",
    "label_units",
    "physics101",
    "tie_margins",
]
