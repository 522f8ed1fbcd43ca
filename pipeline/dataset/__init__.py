"""TODO"""

from pipeline.dataset.examples import Examples
from pipeline.dataset.projection import principal_axes
from pipeline.dataset.sources import Material, Source, examples_of, join, load_finite, read_material
from pipeline.dataset.splits import PAPER_CELLS, Split, folds_of, is_grid

__all__ = [
    "PAPER_CELLS",
    "Examples",
    "Material",
    "Source",
    "Split",
    "examples_of",
    "folds_of",
    "is_grid",
    "join",
    "load_finite",
    "principal_axes",
    "read_material",
]
