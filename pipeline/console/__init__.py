"""What people see on a terminal or in a log: lines, progress and tables, of anything."""

from pipeline.console.output import (
    OutputError,
    echo,
    echo_json,
    flush_out,
    log,
    printable,
    show_log_of,
    some_clips,
)
from pipeline.console.progress import ProgressBar, format_duration
from pipeline.console.tables import echo_folded, print_table

__all__ = [
    "OutputError",
    "ProgressBar",
    "echo",
    "echo_folded",
    "echo_json",
    "flush_out",
    "format_duration",
    "log",
    "print_table",
    "printable",
    "show_log_of",
    "some_clips",
]
