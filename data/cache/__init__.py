"""The feature cache: features of many clips with one fingerprint, in one HDF5 file.

    features = load("spring.h5")        # Features: (N, T, D) with labels and identities
    save(features, "copy.h5")

`ShardStore` collects the features of an extraction, clip by clip, so that a killed one can go on;
`info`, `verify` and `merge` describe, check and combine files. All errors are `CacheError`.
"""

from data.cache.errors import CacheError
from data.cache.features import Features
from data.cache.hdf5_reader import CacheMetadata, read_metadata, read_unsealed
from data.cache.io import describe_origin, info, load, save
from data.cache.labelling import LabelChanges, describe_changes, label
from data.cache.ledger import ledger_path, read_ledger
from data.cache.mapped import MappedRows
from data.cache.merging import is_merge, merge
from data.cache.shard_store import ShardStore, is_whole_file, sweep_shards
from data.cache.verification import Problem, verify

__all__ = [
    "CacheError",
    "CacheMetadata",
    "Features",
    "LabelChanges",
    "MappedRows",
    "Problem",
    "ShardStore",
    "describe_changes",
    "describe_origin",
    "info",
    "is_merge",
    "is_whole_file",
    "label",
    "ledger_path",
    "load",
    "merge",
    "read_ledger",
    "read_metadata",
    "read_unsealed",
    "save",
    "sweep_shards",
    "verify",
]
