"""The record of a claim in a recipe: what others say, and how it is measured here.

[[claims]]
name, title              of the claim
says, source             what the paper or its model card says, and where
holds, file              what the paper's repository holds, and in which file
run                      which run of the recipe is asked; of another `experiment`, where named
retest                   how: a re-test of `pipeline.evaluation.claims`
sees                     the view of a newcomer, for a re-test that has one
options                  of the re-test
measures                 or: path in metrics.json = "what it is"
needs                    or: what it takes that is not here; then nothing is run
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from pipeline.config import StrictModel
from pipeline.evaluation import retests
from pipeline.runs import has_key


class Claim(StrictModel):
    """A claim as a recipe has it."""

    name: str
    title: str
    says: str
    source: str
    holds: str = ""
    file: str = ""
    experiment: str | None = None
    run: str | None = None
    retest: str | None = None
    sees: str | None = None
    other: str | None = None
    options: dict[str, Any] = Field({})
    measures: dict[str, str] = Field({})
    needs: str | None = None

    def shortened(self, steps: int) -> Claim:
        """Return the claim with so many steps of training at most, where its re-test has any."""
        if "steps" not in self.options:
            return self
        options = self.options | {"steps": min(steps, self.options["steps"])}
        return self.model_copy(update={"options": options})

    def mistakes(self, runs: Sequence[str], views: Sequence[str]) -> Iterator[str]:
        """Yield sentences about what does not fit together.

        Args:
            runs: The names of the recipe's runs.
            views: Of its views.
        """
        if not self.name.replace("-", "").isalnum():
            yield f"{self.name!r} is no name of a file: letters, digits, hyphens"
        ways = [self.retest is not None, bool(self.measures), self.needs is not None]
        if sum(ways) != 1:
            yield "a claim has one of retest, measures and needs"
        if self.retest is not None and self.retest not in retests():
            yield f"no re-test {self.retest!r}: there are {', '.join(retests())}"
        if self.needs is None and self.run is None:
            yield "which run is asked? run is missing"
        if self.experiment is None and self.run is not None and self.run not in runs:
            yield f"no run {self.run!r}: there are {', '.join(runs)}"
        if self.other is not None and self.other not in runs:
            yield f"no other run {self.other!r}: there are {', '.join(runs)}"
        if self.sees is not None and self.sees not in views:
            yield f"no view {self.sees!r} to see: there are {', '.join(views) or 'none'}"
        for path in self.measures:
            if not has_key(path):
                yield f"metrics.json has no {path}"
        if self.retest in retests():
            yield from retests()[self.retest].mistakes(
                self.options, newcomer=self.sees is not None, other_run=self.other is not None
            )
