"""TODO"""

from pipeline.evaluation.compare_runs import compare
from pipeline.evaluation.evaluate import evaluate

__all__ = ["compare", "evaluate"]
