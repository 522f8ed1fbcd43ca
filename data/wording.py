"""Words of sentences that depend on a number."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Return a number and what it is of, with an s where it is not one.

    >>> counted(1, "clip"), counted(2000, "clip")
    ('1 clip', '2,000 clips')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
