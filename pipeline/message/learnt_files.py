"""Files that hold what is learnt of a run's messages: `lexicon.json` and `readout.json`.

`train` writes them. Of a run without one it is learnt anew, which takes its messages alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from data.errors import BROKEN, HeliographError, reason_of
from pipeline.runs import Run


class Learnt(Protocol):
    """What is learnt of a run's messages, and kept as JSON."""

    def to_json(self) -> dict[str, Any]:
        """Return the content of its file."""
        ...


_Learnt = TypeVar("_Learnt", bound=Learnt)


def load_learnt(
    run: Run,
    name: str,
    parse: Callable[[Mapping[str, Any], Run], _Learnt | None],
    learn: Callable[[Run], _Learnt | None],
) -> _Learnt | None:
    """Return what is in a file of a run, or learn it anew where there is none.

    Args:
        run: The run.
        name: Of the file.
        parse: Makes it of the content, checked against the run; None for a file of an older version
            that lacks something.
        learn: Learns it of the messages; None where there is nothing to learn.

    Raises:
        HeliographError: for a damaged file, and what `learn` raises.
    """
    stored = run.stored_object(name)
    if stored is None:
        return learn(run)
    try:
        found = parse(stored, run)
    except BROKEN as error:
        raise HeliographError(f"{run.folder / name} is damaged: {reason_of(error)}") from error
    return learn(run) if found is None else found


def write_learnt(run: Run, name: str, learn: Callable[[Run], _Learnt | None]) -> _Learnt | None:
    """Learn it of a run's messages and write its file; None where there is nothing to learn."""
    learnt = learn(run) if run.has_symbols else None
    if learnt is not None:
        run.write(name, json.dumps(learnt.to_json(), indent=1, ensure_ascii=False) + "\n")
    return learnt
