"""Evaluation of runs: baselines, metrics with chance, interventions, probes, and comparisons.

`evaluate` scores one run beyond what training measured, part by part (`evaluate.PARTS`); `compare`
compares two runs seed by seed, `compare_all` every two of several; `power` says before a training
what it can show; `retest` does to a run what a claim about such runs is about.
"""

from pipeline.evaluation.claims.registry import retest, retests
from pipeline.evaluation.compare_runs import compare, compare_all
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.power import power

__all__ = ["compare", "compare_all", "evaluate", "power", "retest", "retests"]
