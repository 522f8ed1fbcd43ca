"""TODO"""

from pipeline.report.findings import interval_of
from pipeline.report.report import FOLDER, template, write_report
from pipeline.report.text import p_text, score_rows, show_comparison, show_metrics, structure_rows

__all__ = [
    "FOLDER",
    "interval_of",
    "p_text",
    "score_rows",
    "show_comparison",
    "show_metrics",
    "structure_rows",
    "template",
    "write_report",
]
