"""The messages of a run as a corpus for other programs.

Two files, line by line of the same clips: the messages as ELCC, the Emergent Language Corpus
Collection (arXiv 2407.04158), has them, a list of integers a line; and what is known of each clip.
"""

from __future__ import annotations

import json
from pathlib import Path

from data.errors import InvalidValueError
from pipeline.runs import Run, without_nan

SUFFIX = ".jsonl"


def labels_path(path: Path) -> Path:
    """Return where the labels of a corpus are written: `a.labels.jsonl` beside `a.jsonl`.

    Raises:
        InvalidValueError: The corpus is not called `.jsonl`.

    >>> labels_path(Path("runs/a.jsonl")).as_posix()
    'runs/a.labels.jsonl'
    """
    if path.suffix != SUFFIX:
        raise InvalidValueError(f"{path} is not called {SUFFIX}, as a corpus of messages is")
    return path.with_suffix(f".labels{SUFFIX}")


def corpus_of(run: Run) -> tuple[str, str]:
    """Return the messages of a run's chosen seed and the labels of their clips, a line each.

    A message is the symbols of all agents, head by head. Each position has a vocabulary of its own:
    the same integer at two positions is two words. Every clip of the cache is there, in its order.

    Raises:
        HeliographError: for a run with a continuous channel, or a damaged one.
    """
    tokens = run.tokens()
    messages = [json.dumps(message) for message in tokens.reshape(len(tokens), -1).tolist()]
    keys = ("clip", "object", "part", "labels")
    known = [json.dumps(without_nan({key: line[key] for key in keys})) for line in run.messages()]
    text, labels = ("".join(f"{line}\n" for line in lines) for lines in (messages, known))
    return text, labels
