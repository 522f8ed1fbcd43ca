"""A cache that several processes extract at once: `extract --join`, and the actors of `--ray`."""

from data.cache.joined.consolidation import consolidate_joined
from data.cache.joined.shared_folder import refuse_unshared
from data.cache.joined.store import JoinedStore

__all__ = ["JoinedStore", "consolidate_joined", "refuse_unshared"]
