"""Claims of a recipe measured on its runs, and the page that sets them side by side.

    OUT/NAME/claims/CLAIM.json      what a re-test measured, with the id of its run
    OUT/NAME/claims.md              the page: what is said, what is held, what was measured

A measurement is kept as long as its run and its options are the same.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from data.errors import BROKEN, HeliographError
from data.files import atomic_write, open_regular
from pipeline.evaluation import retest, retests
from pipeline.experiments.claim import Claim
from pipeline.experiments.recipe import NAMES, Recipe, find
from pipeline.experiments.tables import Table, measured_rows, value_text
from pipeline.runs import Run

MOST_BYTES = 16 << 20
REPOSITORY = "https://github.com/TomekKaszynski/emergent-physics-comm"
COMMIT = "ca36be0"
"""Of the paper's repository, to which `holds` and `file` refer."""
FOLDER = "claims"
PAGE = "claims.md"
INTRODUCTION = """\
What the paper (arXiv 2604.03266), its specification and its model cards say; what their repository,
[TomekKaszynski/emergent-physics-comm]({repository}),
holds at commit `{commit}`; and what was measured here. Unless a command names features, the clips
are made, not those of the paper: a number here says whether a claim holds for agents of its kind on
other clips, not whether its own number is right. Intervals are 95 %, over test objects and seeds.
The page is written by

    {command}

"""

Stage = Callable[..., AbstractContextManager[None]]


@dataclass(frozen=True)
class ClaimResult:
    """A claim and what was measured.

    Attributes:
        claim: As the recipe has it.
        sentence: What was measured, or why nothing was.
        table: All of it; None where nothing was.
        command: That measures it.
    """

    claim: Claim
    sentence: str
    table: Table | None
    command: str

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        columns, rows = self.table or ([], [])
        return {
            "name": self.claim.name,
            "title": self.claim.title,
            "says": self.claim.says,
            "source": self.claim.source,
            "holds": self.claim.holds,
            "file": self.claim.file,
            "measured": self.sentence,
            "columns": columns,
            "rows": rows,
            "command": self.command,
        }


def measure_claims(
    claims: Sequence[Claim],
    folder: Path,
    caches: Mapping[str, Path],
    stage: Stage,
    left_out: Mapping[str, str] = MappingProxyType({}),
) -> list[ClaimResult]:
    """Measure every claim that can be; of the others the result says why not.

    Args:
        claims: Of the recipe.
        folder: Of the experiment, OUT/NAME.
        caches: Of its views, by name.
        stage: Times a stage, as `StageTimes` does.
        left_out: Why which runs of the recipe are not there, by name.

    Raises:
        HeliographError: A run is damaged.
    """
    return [_measure(claim, folder, caches, stage, left_out) for claim in claims]


def _measure(
    claim: Claim,
    folder: Path,
    caches: Mapping[str, Path],
    stage: Stage,
    left_out: Mapping[str, str],
) -> ClaimResult:
    experiment = claim.experiment or folder.name
    asked = find(experiment) if claim.needs and experiment in NAMES else None
    command = _command(experiment, folder, asked)
    paths = [folder.parent / experiment / "runs" / name for name in claim.runs]
    lacking = _lacking(claim, paths, caches, left_out, command)
    if lacking is not None:
        return ClaimResult(claim, f"not run: {lacking}", None, command)
    if claim.retest is None:
        return _read(claim, [Run.open(path) for path in paths], command)
    (path,) = paths
    test = retests()[claim.retest]
    try:
        entry = _entry(claim, Run.open(path), folder, caches, stage)
    except HeliographError as error:
        return ClaimResult(claim, f"not run: {error}", None, command)
    if claim.sees is not None:
        words = ["heliograph", "onboard", str(path), str(caches[claim.sees])]
        command = shlex.join(words)
    return ClaimResult(claim, test.sentence(entry), test.table(entry), command)


def _lacking(
    claim: Claim,
    paths: Sequence[Path],
    caches: Mapping[str, Path],
    left_out: Mapping[str, str],
    command: str,
) -> str | None:
    """Return what a claim needs that is not there; None where all is."""
    if claim.experiment is not None:
        if all((path / "metrics.json").exists() for path in paths):
            return None
        return f"{command}, then this" if claim.needs is None else f"needs {claim.needs}"
    for name in [*claim.runs, *([claim.other] if claim.other else [])]:
        if name in left_out:
            return f"{name} {left_out[name]}"
    if claim.sees is not None and claim.sees not in caches:
        return f"the newcomer sees {claim.sees}: give it with --features {claim.sees}=FILE"
    return None


def _read(claim: Claim, runs: Sequence[Run], command: str) -> ClaimResult:
    """Return what metrics.json says of runs."""
    parts, cells = [], []
    for name, run in zip(claim.runs, runs, strict=True):
        rows = measured_rows(name, name, run.metrics(), claim.measures)
        said = "; ".join(f"{row.title} {value_text(row)}" for row in rows)
        of = f"{name}: " if len(runs) > 1 else ""
        parts.append(of + said)
        cells += [[of + row.title, value_text(row), row.verdict or "-"] for row in rows]
    table = ["what", "here [95 %]", "verdict"], cells
    return ClaimResult(claim, ". ".join(parts), table, command)


def _entry(
    claim: Claim, run: Run, folder: Path, caches: Mapping[str, Path], stage: Stage
) -> dict[str, Any]:
    """Return what was measured before, or measure it."""
    assert claim.retest is not None
    file = folder / FOLDER / f"{claim.name}.json"
    options = dict(claim.options)
    asked = {"retest": claim.retest, "run": run.id, "sees": claim.sees, "options": claim.options}
    if claim.other is not None:
        other = Run.open(folder / "runs" / claim.other)
        options["other"] = other
        asked["other"] = other.id
    test = retests()[claim.retest]
    with suppress(OSError, HeliographError, StopIteration, *BROKEN):
        with open_regular(file) as opened:
            kept = json.loads(opened.read(MOST_BYTES))
        entry = kept["entry"]
        if {name: kept[name] for name in asked} == asked and test.sentence(entry):
            test.table(entry)  # fails, as the sentence does, for an entry of an older version
            return dict(entry)
    with stage(f"claim {claim.name}"):
        others = {} if claim.sees is None else {claim.sees: caches[claim.sees]}
        entry = retest(claim.retest, run, others=others, **options)
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(file, json.dumps(asked | {"entry": entry}, indent=1) + "\n")
    return json.loads(json.dumps(entry))


def _command(name: str, folder: Path, given: Recipe | None = None) -> str:
    """Return what runs an experiment, with the files that it is given."""
    files = [f"--features {view}=FILE" for view in given.sources] if given else []
    words = ["heliograph", "experiment", name, *" ".join(files).split()]
    return shlex.join([*words, "--out", str(folder.parent)])


# The page


def claims_page(title: str, results: Sequence[ClaimResult], folder: Path) -> str:
    """Return the page in Markdown: a table of all claims, then what was measured of each."""
    command = _command(folder.name, folder)
    made = INTRODUCTION.format(repository=REPOSITORY, commit=COMMIT, command=command)
    head = ["claim", "the paper or its card says", "its repository holds", "measured here"]
    rows = [
        [
            f"[{result.claim.title}](#{_anchor(result.claim.title)})",
            f"{result.claim.says} ({result.claim.source})",
            f"{result.claim.holds} ({_file(result.claim)})" if result.claim.holds else "-",
            result.sentence,
        ]
        for result in results
    ]
    parts = [f"# {title}", made.rstrip(), markdown_table((head, rows))]
    for result in results:
        parts += [f"## {result.claim.title}", f"    {result.command}"]
        parts.append("Not run." if result.table is None else markdown_table(result.table))
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    r"""Return a table in Markdown.

    >>> print(markdown_table((["a", "b"], [["1", "x | y"]])))
    | a | b |
    |---|---|
    | 1 | x \| y |
    """
    columns, rows = table
    lines = [columns, *rows]
    text = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines]
    return "\n".join([text[0], "|" + "---|" * len(columns), *text[1:]])


def _file(claim: Claim) -> str:
    """Return links to the files of the paper's repository that a claim names."""
    names = [name.strip() for name in claim.file.split(",")]
    return ", ".join(f"[{name}]({REPOSITORY}/blob/{COMMIT}/{name})" for name in names)


def _anchor(title: str) -> str:
    """Return the anchor that GitHub gives a heading.

    >>> _anchor("A new sender, joined: 50 steps")
    'a-new-sender-joined-50-steps'
    """
    kept = "".join(char for char in title.lower() if char.isalnum() or char in " -_")
    return kept.replace(" ", "-")
