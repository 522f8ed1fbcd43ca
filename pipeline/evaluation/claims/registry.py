"""The re-tests of this folder, found by their files, and how one is done to a run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from data.discovery import find_records
from data.errors import HeliographError
from pipeline.evaluation.claims.retest import Retest, RetestInputs
from pipeline.runs import Run, without_nan


@cache
def retests() -> dict[str, Retest]:
    """Return every re-test by its name."""
    return find_records("pipeline.evaluation.claims", Retest)


def retest(
    name: str,
    run: Run,
    *,
    others: Mapping[str, Path] | None = None,
    moved: Mapping[str, Path] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Do a re-test to a run; nothing is written.

    Args:
        name: Of the re-test, a key of `retests()`.
        run: A finished run.
        others: Caches of the same clips that its agents do not see, by name.
        moved: Where the caches of the run are now, as for `pipeline.runs.load_inputs`.
        options: Of the re-test.

    Returns:
        What was measured, as JSON values; the `sentence` and `table` of the re-test read it.

    Raises:
        HeliographError: The run is of another kind, or it or a cache is damaged.
    """
    if not (run.has_symbols and run.game.pairs):
        raise HeliographError(
            f"{run.folder} cannot be tested: claims are about agents that send symbols of pairs "
            f"of clips, and its game is {run.config.game} with the channel {run.config.channel}"
        )
    inputs = RetestInputs(run=run, others=others or {}, moved=moved or {}, options=options)
    entry = without_nan(retests()[name].compute(inputs))
    assert isinstance(entry, dict)
    return entry
