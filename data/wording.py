"""Words of sentences that depend on a number."""

from __future__ import annotations

from collections.abc import Iterable


def counted(count: int, noun: str) -> str:
    """Return a number and what it is of, with an s where it is not one.

    >>> counted(1, "clip"), counted(2000, "clip")
    ('1 clip', '2,000 clips')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def meant(word: str, known: Iterable[str], otherwise: str) -> str:
    """Return a question for the name that was meant by one that there is not.

    >>> meant("vocb", ["heads", "vocab"], "see --help"), meant("x", ["heads"], "see --help")
    ('did you mean vocab?', 'see --help')
    """
    from difflib import get_close_matches  # loaded where somebody mistyped

    near = get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else otherwise
