"""What people see on a terminal or in a log: progress and tables, of anything."""

from pipeline.console.progress import ProgressBar, format_duration, log
from pipeline.console.tables import print_table

__all__ = ["ProgressBar", "format_duration", "log", "print_table"]
