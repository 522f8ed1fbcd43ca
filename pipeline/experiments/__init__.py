"""Experiments: a recipe in a file, run from raw video to tables and a page."""

from pipeline.experiments.demo import run_demo
from pipeline.experiments.recipe import NAMES, Recipe, find
from pipeline.experiments.runner import (
    ExperimentResult,
    RunOptions,
    require_features,
    run_experiment,
)
from pipeline.experiments.tables import accuracy_table, measure_notes, measure_tables, paper_sources

__all__ = [
    "NAMES",
    "ExperimentResult",
    "Recipe",
    "RunOptions",
    "accuracy_table",
    "find",
    "measure_notes",
    "measure_tables",
    "paper_sources",
    "require_features",
    "run_demo",
    "run_experiment",
]
