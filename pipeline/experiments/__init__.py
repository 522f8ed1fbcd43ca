"""TODO"""

from pipeline.experiments.demo import run_demo
from pipeline.experiments.recipe import NAMES, Recipe, find
from pipeline.experiments.runner import Means, Result, run_experiment
from pipeline.experiments.tables import accuracy_table, measure_tables, places

__all__ = [
    "NAMES",
    "Means",
    "Recipe",
    "Result",
    "accuracy_table",
    "find",
    "measure_tables",
    "places",
    "run_demo",
    "run_experiment",
]
