"""The folder of a training run: reading it, writing it, and the type of its `metrics.json`.

`Run.open(folder)` reads each file when it is asked for, once. `write_run` writes the folder, and
`import_checkpoint` makes one of a published checkpoint. `docs/metrics_json.md` lists the keys of
`RunMetrics`.
"""

from pipeline.runs.import_checkpoint import import_checkpoint
from pipeline.runs.metrics_schema import (
    SCORES,
    AccuracyEstimate,
    AccuracySpread,
    ControlMetrics,
    DifferenceEstimate,
    Estimate,
    Outcome,
    Record,
    RunMetrics,
    Spread,
    has_key,
    percent,
)
from pipeline.runs.results import HistoryRow, SeedResult
from pipeline.runs.run import CONTROL, MissingFileError, Run, load_inputs, without_nan
from pipeline.runs.writer import add_control, description, remove_control, summarise, write_run

__all__ = [
    "CONTROL",
    "SCORES",
    "AccuracyEstimate",
    "AccuracySpread",
    "ControlMetrics",
    "DifferenceEstimate",
    "Estimate",
    "HistoryRow",
    "MissingFileError",
    "Outcome",
    "Record",
    "Run",
    "RunMetrics",
    "SeedResult",
    "Spread",
    "add_control",
    "description",
    "has_key",
    "import_checkpoint",
    "load_inputs",
    "percent",
    "remove_control",
    "summarise",
    "without_nan",
    "write_run",
]
