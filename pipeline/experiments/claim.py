"""The record of a claim in a recipe: what others say, and how it is measured here.

[[claims]]
name, title              of the claim
says, source             what the paper or its model card says, and where
holds, file              what the paper's repository holds, and in which file
run                      which run of the recipe is asked, several for `measures`; of another
                         `experiment`, where named
retest                   how: a re-test of `pipeline.evaluation.claims`
sees                     the view of a newcomer, for a re-test that has one
options                  of the re-test
measures                 or: path in metrics.json = "what it is"
needs                    what the other experiment takes that is not made here
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
    run: str | list[str]
    retest: str | None = None
    sees: str | None = None
    other: str | None = None
    options: dict[str, Any] = Field({})
    measures: dict[str, str] = Field({})
    needs: str | None = None

    @property
    def runs(self) -> list[str]:
        """Which runs are asked."""
        return [self.run] if isinstance(self.run, str) else self.run

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
        if (self.retest is not None) == bool(self.measures):
            yield "a claim has either a retest or measures"
        if self.retest is not None and len(self.runs) != 1:
            yield "a retest is of one run"
        if self.needs is not None and self.experiment is None:
            yield "needs are those of another experiment"
        if self.retest is not None and self.retest not in retests():
            yield f"no re-test {self.retest!r}: there are {', '.join(retests())}"
        for name in self.runs if self.experiment is None else ():
            if name not in runs:
                yield f"no run {name!r}: there are {', '.join(runs)}"
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
