"""What a reader gets from a run: the same hashes for the same content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from data.errors import HeliographError
from pipeline.message import load, messages_for
from pipeline.runs import Run


def served(folder: str) -> dict[str, str]:
    """Return what is served of a run, part by part, as hashes; of a part that is refused why.

    Exceptions that are no sentence for users are raised.
    """
    try:
        run = Run.open(folder)
        runs = {"": run}
        if control := run.control():
            runs["control "] = control
    except HeliographError as error:
        return {"run": f"refused: {error}"}
    parts: dict[str, Callable[[], Any]] = {}
    for name, each in runs.items():
        parts |= {name + part: read for part, read in _parts(each).items()}
    return {name: hashed(read) for name, read in parts.items()}


def _parts(run: Run) -> dict[str, Callable[[], Any]]:
    parts: dict[str, Callable[[], Any]] = {
        "config": lambda: run.config.to_json(),
        "sender": lambda: [(k, v.numpy().tobytes()) for k, v in run.sender().state_dict().items()],
        "receiver": lambda: [
            (k, v.numpy().tobytes()) for k, v in run.receiver().state_dict().items()
        ],
        "metrics": lambda: run.metrics().to_json(),
        "messages": lambda: run.messages(),
        "history": lambda: [repr(row) for row in run.history()],
        "lexicon": lambda: run.stored_object("lexicon.json"),
        "answers": lambda: [_text(answer) for answer in messages_for(load(run), _caches(run))],
    }
    for seed in run.seeds:
        parts[f"messages of {seed}"] = lambda seed=seed: run.messages(seed)
        parts[f"sender of {seed}"] = lambda seed=seed: [
            (k, v.numpy().tobytes()) for k, v in run.of_seed(seed).sender().state_dict().items()
        ]
    return parts


def _caches(run: Run) -> list[Any]:
    return [source.path for source in run.sources]


def _text(answer: Any) -> Any:
    if isinstance(answer, HeliographError):
        raise answer
    return answer.to_json()


def hashed(read: Callable[[], Any]) -> str:
    """Return a hash of what a call returns, or `refused: ...` with its sentence."""
    try:
        return hashlib.sha256(repr(read()).encode()).hexdigest()[:16]
    except HeliographError as error:
        return f"refused: {error}"
