"""TODO"""

from data.cache.features import CacheError, Features
from data.cache.hdf5_reader import read_table
from data.cache.operations import Problem, info, load, merge, read_ledger, save, verify
from data.cache.shard_store import Store, ledger_path

__all__ = [
    "CacheError",
    "Features",
    "Problem",
    "Store",
    "info",
    "ledger_path",
    "load",
    "merge",
    "read_ledger",
    "read_table",
    "save",
    "verify",
]
