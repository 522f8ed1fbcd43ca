"""The feature cache: features of many clips with one fingerprint, in one HDF5 file.

    features = load("spring.h5")        # Features: (N, T, D) with labels and identities
    save(features, "copy.h5")

`ShardStore` collects the features of an extraction, clip by clip, so that a killed one can go on;
`info`, `verify` and `merge` describe, check and combine files. All errors are `CacheError`.
"""

from data.cache.addresses import copy_of, staged
from data.cache.errors import CacheError, DamagedCacheError, how_to_replace, way_out
from data.cache.features import Features, is_whole_file
from data.cache.folder_restoration import restore
from data.cache.hdf5_reader import CacheMetadata, read_metadata
from data.cache.io import describe_origin, info, load, save
from data.cache.joined import JoinedStore, consolidate_joined, refuse_unshared
from data.cache.label_changes import LabelChanges
from data.cache.labelling import label
from data.cache.ledger import ledger_path, read_ledger, source_details
from data.cache.mapped import JoinedRows, MappedRows
from data.cache.merging import is_merge, merge
from data.cache.parts import Part, columns_of, exists
from data.cache.seal import USER_BLOCK, Seal, looks_sealed
from data.cache.shard_store import ShardStore, sweep_shards
from data.cache.verification import Problem, verify

__all__ = [
    "USER_BLOCK",
    "CacheError",
    "CacheMetadata",
    "DamagedCacheError",
    "Features",
    "JoinedRows",
    "JoinedStore",
    "LabelChanges",
    "MappedRows",
    "Part",
    "Problem",
    "Seal",
    "ShardStore",
    "columns_of",
    "consolidate_joined",
    "copy_of",
    "describe_origin",
    "exists",
    "how_to_replace",
    "info",
    "is_merge",
    "is_whole_file",
    "label",
    "ledger_path",
    "load",
    "looks_sealed",
    "merge",
    "read_ledger",
    "read_metadata",
    "refuse_unshared",
    "restore",
    "save",
    "source_details",
    "staged",
    "sweep_shards",
    "verify",
    "way_out",
]
