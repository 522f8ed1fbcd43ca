"""What training and evaluation read: caches joined by clip, labels, objects, and splits."""

from pipeline.dataset.examples import Examples
from pipeline.dataset.joining import join_caches, left_out_sentence, match
from pipeline.dataset.leaks import (
    Lookalike,
    Lookalikes,
    chance_bound,
    dimensions_of,
    unit_rows,
    unite_objects,
)
from pipeline.dataset.projection import principal_axes
from pipeline.dataset.sources import (
    CacheSource,
    RunInputs,
    build_examples,
    load_finite_cache,
    read_inputs,
)
from pipeline.dataset.splits import PAPER_CELLS, Split, folds_of, is_grid

__all__ = [
    "PAPER_CELLS",
    "CacheSource",
    "Examples",
    "Lookalike",
    "Lookalikes",
    "RunInputs",
    "Split",
    "build_examples",
    "chance_bound",
    "dimensions_of",
    "folds_of",
    "is_grid",
    "join_caches",
    "left_out_sentence",
    "load_finite_cache",
    "match",
    "principal_axes",
    "read_inputs",
    "unit_rows",
    "unite_objects",
]
