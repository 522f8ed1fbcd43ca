"""TODO"""

from pipeline.console.progress import Bar, duration, log
from pipeline.console.tables import percent, print_table

__all__ = ["Bar", "duration", "log", "percent", "print_table"]
