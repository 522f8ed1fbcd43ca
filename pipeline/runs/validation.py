"""Checks of what stands in a run folder, for files that somebody edited or broke."""

from __future__ import annotations


def reason(error: Exception) -> str:
    """What is wrong with a file, from the exception that reading it raised."""
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)
