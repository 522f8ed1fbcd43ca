"""What people see of a run: its HTML page, and its tables on the terminal.

`write_report` writes the page, whose parts are in `sections`; `show_metrics` prints the tables.
"""

from pipeline.report.corpus import corpus_of, labels_path
from pipeline.report.report import (
    FOLDER,
    is_page_of,
    open_run,
    page_path,
    template,
    write_report,
)
from pipeline.report.summary import interval_of
from pipeline.report.text import (
    p_text,
    score_rows,
    show_comparison,
    show_comparisons,
    show_metrics,
    structure_rows,
)

__all__ = [
    "FOLDER",
    "corpus_of",
    "interval_of",
    "is_page_of",
    "labels_path",
    "open_run",
    "p_text",
    "page_path",
    "score_rows",
    "show_comparison",
    "show_comparisons",
    "show_metrics",
    "structure_rows",
    "template",
    "write_report",
]
