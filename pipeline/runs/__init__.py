"""TODO"""

from pipeline.runs.import_checkpoint import import_checkpoint
from pipeline.runs.metrics_schema import documented
from pipeline.runs.results import HistoryRow, SeedResult
from pipeline.runs.run import CONTROL, SCORES, Run, load_inputs
from pipeline.runs.writer import add_control, description, forget_control, summarise, write_run

__all__ = [
    "CONTROL",
    "SCORES",
    "HistoryRow",
    "Run",
    "SeedResult",
    "add_control",
    "description",
    "documented",
    "forget_control",
    "import_checkpoint",
    "load_inputs",
    "summarise",
    "write_run",
]
