"""The folder of a training run: reading it, writing it, and the type of its `metrics.json`.

`load(folder)`, or `Run.open`, gives a `Run` that reads each file when it is asked for, once, and
checks it against the manifest. `write_run` writes a run into the folder that `new_run` gives, which
then takes the place of an older one; `import_checkpoint` makes one of a published checkpoint.
`docs/metrics_json.md` lists the keys of `RunMetrics`.
"""

from pipeline.runs.import_checkpoint import import_checkpoint
from pipeline.runs.leaks import find_leaks, settle_objects
from pipeline.runs.manifest import CONTROL, PAGE, UNFINISHED, MissingFileError
from pipeline.runs.metrics_schema import (
    SCORES,
    AccuracyEstimate,
    AccuracySpread,
    ControlMetrics,
    DifferenceEstimate,
    Estimate,
    Leaks,
    NullAccuracy,
    Outcome,
    Record,
    RunMetrics,
    SeedShare,
    Spread,
    has_key,
    percent,
)
from pipeline.runs.metrics_versions import AGENT_BASELINE
from pipeline.runs.replacement import (
    finish_move,
    held,
    is_unsettled,
    new_run,
    refuse_existing,
)
from pipeline.runs.results import HistoryRow, SeedResult
from pipeline.runs.run import MOST_SEEDS, Run, load, load_inputs, without_nan
from pipeline.runs.sharing import PATTERNS, copy_run, write_shared
from pipeline.runs.writer import add_control, description, summarise, write_run

__all__ = [
    "AGENT_BASELINE",
    "CONTROL",
    "MOST_SEEDS",
    "PAGE",
    "PATTERNS",
    "SCORES",
    "UNFINISHED",
    "AccuracyEstimate",
    "AccuracySpread",
    "ControlMetrics",
    "DifferenceEstimate",
    "Estimate",
    "HistoryRow",
    "Leaks",
    "MissingFileError",
    "NullAccuracy",
    "Outcome",
    "Record",
    "Run",
    "RunMetrics",
    "SeedResult",
    "SeedShare",
    "Spread",
    "add_control",
    "copy_run",
    "description",
    "find_leaks",
    "finish_move",
    "has_key",
    "held",
    "import_checkpoint",
    "is_unsettled",
    "load",
    "load_inputs",
    "new_run",
    "percent",
    "refuse_existing",
    "settle_objects",
    "summarise",
    "without_nan",
    "write_run",
    "write_shared",
]
