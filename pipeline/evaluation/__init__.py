"""Evaluation of runs: baselines, metrics with chance, interventions, probes, and comparisons.

`evaluate` scores one run beyond what training measured, part by part (`evaluate.PARTS`); `compare`
compares two runs seed by seed.
"""

from pipeline.evaluation.compare_runs import compare
from pipeline.evaluation.evaluate import evaluate

__all__ = ["compare", "evaluate"]
