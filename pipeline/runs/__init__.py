"""TODO"""

from pipeline.runs.import_checkpoint import import_checkpoint
from pipeline.runs.metrics_schema import (
    SCORES,
    AccuracyEstimate,
    AccuracySpread,
    ControlMetrics,
    Difference,
    Estimate,
    Outcome,
    Record,
    RunMetrics,
    Spread,
    has_key,
    percent,
)
from pipeline.runs.results import HistoryRow, SeedResult
from pipeline.runs.run import CONTROL, Run, load_inputs
from pipeline.runs.writer import add_control, description, forget_control, summarise, write_run

__all__ = [
    "CONTROL",
    "SCORES",
    "AccuracyEstimate",
    "AccuracySpread",
    "ControlMetrics",
    "Difference",
    "Estimate",
    "HistoryRow",
    "Outcome",
    "Record",
    "Run",
    "RunMetrics",
    "SeedResult",
    "Spread",
    "add_control",
    "description",
    "forget_control",
    "has_key",
    "import_checkpoint",
    "load_inputs",
    "percent",
    "summarise",
    "write_run",
]
