"""What people see on a terminal or in a log: lines, progress and tables, of anything."""

from pipeline.console.output import (
    Loudness,
    OutputError,
    echo,
    echo_json,
    flush_out,
    is_terminal,
    log,
    loudness,
    printable,
    set_loudness,
    show_log_of,
    some_clips,
    warn,
)
from pipeline.console.progress import ProgressBar, format_duration
from pipeline.console.tables import echo_folded, format_size, print_record, print_table

__all__ = [
    "Loudness",
    "OutputError",
    "ProgressBar",
    "echo",
    "echo_folded",
    "echo_json",
    "flush_out",
    "format_duration",
    "format_size",
    "is_terminal",
    "log",
    "loudness",
    "print_record",
    "print_table",
    "printable",
    "set_loudness",
    "show_log_of",
    "some_clips",
    "warn",
]
