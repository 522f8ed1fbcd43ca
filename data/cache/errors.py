"""The error of this package."""

from data.errors import HeliographError


class CacheError(HeliographError):
    """A feature cache that cannot be read, trusted or combined."""
