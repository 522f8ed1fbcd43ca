"""What training and evaluation read: caches joined by clip, labels, objects, and splits."""

from data.splits import (
    PAPER_CELLS,
    PARTS,
    Split,
    folds_of,
    holds_out_cells,
    is_grid,
    refuse_unknown_split,
)
from pipeline.dataset import ridge
from pipeline.dataset.blocks import (
    BLOCK_NUMBERS,
    as_tensor,
    clip_blocks,
    column_blocks,
    drawn,
)
from pipeline.dataset.examples import Examples
from pipeline.dataset.feature_space import Moments, Vectors
from pipeline.dataset.joining import join_caches, left_out_sentence, match
from pipeline.dataset.leaks import (
    MOST_COMPARED,
    Lookalike,
    Lookalikes,
    chance_bound,
    dimensions_of,
    unit_rows,
    unite_objects,
)
from pipeline.dataset.projection import energy_axes, principal_axes, project, training_axes
from pipeline.dataset.sources import (
    CacheSource,
    RunInputs,
    build_examples,
    load_finite_cache,
    read_inputs,
)
from pipeline.dataset.videos import VideoJobs, find_clips, video_jobs
from pipeline.dataset.window_ridge import WindowRidge

__all__ = [
    "BLOCK_NUMBERS",
    "MOST_COMPARED",
    "PAPER_CELLS",
    "PARTS",
    "CacheSource",
    "Examples",
    "Lookalike",
    "Lookalikes",
    "Moments",
    "RunInputs",
    "Split",
    "Vectors",
    "VideoJobs",
    "WindowRidge",
    "as_tensor",
    "build_examples",
    "chance_bound",
    "clip_blocks",
    "column_blocks",
    "dimensions_of",
    "drawn",
    "energy_axes",
    "find_clips",
    "folds_of",
    "holds_out_cells",
    "is_grid",
    "join_caches",
    "left_out_sentence",
    "load_finite_cache",
    "match",
    "principal_axes",
    "project",
    "read_inputs",
    "refuse_unknown_split",
    "ridge",
    "training_axes",
    "unit_rows",
    "unite_objects",
    "video_jobs",
]
