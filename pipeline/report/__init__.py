"""What people see of a run: its HTML page, and its tables on the terminal.

`write_report` writes the page, whose parts are in `sections`; `show_metrics` prints the tables.
"""

from pipeline.report.charts import Axis, IntervalPanel, IntervalRow
from pipeline.report.corpus import corpus_of, labels_path
from pipeline.report.listing import list_runs, listing_rows
from pipeline.report.live import LivePage, is_live_page
from pipeline.report.notebooks import run_table
from pipeline.report.overview import (
    is_sweep,
    is_sweep_page,
    require_not_of_sweep,
    write_comparison,
    write_sweep_report,
)
from pipeline.report.provenance import command_to_repeat, provenance
from pipeline.report.report import (
    FOLDER,
    is_page_of,
    open_run,
    page_path,
    template,
    write_report,
)
from pipeline.report.summary import (
    baseline_meaning,
    baseline_name,
    by_chance,
    headline,
    interval_of,
    missing_baselines,
)
from pipeline.report.text import (
    p_text,
    score_rows,
    show_comparison,
    show_comparisons,
    show_metrics,
    show_power,
    structure_rows,
)
from pipeline.report.thumbnails import Thumbnails, page_thumbnails, scene_pictures

__all__ = [
    "FOLDER",
    "Axis",
    "IntervalPanel",
    "IntervalRow",
    "LivePage",
    "Thumbnails",
    "baseline_meaning",
    "baseline_name",
    "by_chance",
    "command_to_repeat",
    "corpus_of",
    "headline",
    "interval_of",
    "is_live_page",
    "is_page_of",
    "is_sweep",
    "is_sweep_page",
    "labels_path",
    "list_runs",
    "listing_rows",
    "missing_baselines",
    "open_run",
    "p_text",
    "page_path",
    "page_thumbnails",
    "provenance",
    "require_not_of_sweep",
    "run_table",
    "scene_pictures",
    "score_rows",
    "show_comparison",
    "show_comparisons",
    "show_metrics",
    "show_power",
    "structure_rows",
    "template",
    "write_comparison",
    "write_report",
    "write_sweep_report",
]
