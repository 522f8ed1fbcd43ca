"""Tables that name clips: CSV, TSV, JSON, JSON lines, Parquet, and lists of paths."""

from data.tables.cells import NoNumbers, Numbers, read_numbers
from data.tables.files import FORMATS
from data.tables.identity import refuse_alike, refuse_same_ids, spelling
from data.tables.summary import Column, TableSummary
from data.tables.table import Table, read_table

TABLE_SUFFIXES = tuple(FORMATS)

__all__ = [
    "TABLE_SUFFIXES",
    "Column",
    "NoNumbers",
    "Numbers",
    "Table",
    "TableSummary",
    "read_numbers",
    "read_table",
    "refuse_alike",
    "refuse_same_ids",
    "spelling",
]
