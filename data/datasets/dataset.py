"""The record of a dataset that `heliograph index` knows."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from data.clips import Clip
from data.errors import HeliographError, InvalidValueError
from data.tables import Numbers, read_numbers


class DatasetError(HeliographError):
    """A folder that is not laid out as the dataset is, or an option that the dataset lacks."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """An option of `index` that takes one of several names.

    `name` is that of the keyword of `Dataset.index`, and of the option.
    """

    name: str
    values: tuple[str, ...]
    default: str
    help: str


class Measure(Protocol):
    """The function of a `Measurement`."""

    def __call__(
        self,
        clips: Sequence[Clip],
        *,
        show: Callable[[str, bytes], None] | None,
        progress: Callable[[int, int], None] | None,
    ) -> tuple[list[Clip], dict[str, str]]:
        """Return the clips with the label, and by id how good each measurement is.

        The label is NaN where nothing could be measured. `show(name, png)` is called with a picture
        of each measurement and the name for its file; `progress(done, total)` after each.
        """


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A label that is measured in the pixels of clips, on request (`--restitution`).

    `scenario` is the scenario in whose clips it is measured.
    """

    label: str
    scenario: str
    help: str
    measure: Measure


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset: how its clips are listed, and what is known of its labels.

    A module of `data/datasets` with such a record at its top level is found by its file:
    `heliograph index NAME` then lists its clips.

    Attributes:
        name: What is typed.
        summary: The help of the command: one line, an empty line, and more.
        description: The text of `--describe`: source, size, licence, layout, labels.
        index: `index(root, **choices)` lists the clips, and raises `DatasetError` for a folder that
            is not laid out as the dataset is.
        choices: The options that `index` takes.
        units: Unit of each label.
        tie_margins: Labels whose values count as equal if they differ by no more, in their unit.
        conditions: The circumstances of a clip by its id, name -> value; with it come the options
            `--factors` and `--hold-out-by`.
        conditions_help: The help of `--factors`.
        measurements: Labels that are measured on request.
    """

    name: str
    summary: str
    description: str
    index: Callable[..., list[Clip]]
    choices: tuple[Choice, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    tie_margins: Mapping[str, float] = field(default_factory=dict)
    conditions: Callable[[str], Mapping[str, str]] | None = None
    conditions_help: str = "The conditions of each clip as labels, too."
    measurements: tuple[Measurement, ...] = ()

    def with_factors(self, clips: Sequence[Clip]) -> tuple[list[Clip], dict[str, dict[str, float]]]:
        """Return the clips with their conditions as further labels, and the number of each value.

        A condition whose values are all numbers keeps them; the values of any other are numbered
        from 0 in alphabetical order. A clip without a condition that others have gets NaN.

        Raises:
            DatasetError: A condition has the name of a label.
        """
        conditions = [self._conditions_of(clip) for clip in clips]
        values: dict[str, set[str]] = {}
        for of_clip in conditions:
            for name, value in of_clip.items():
                values.setdefault(name, set()).add(value)
        numbers = {name: _numbered(sorted(names)) for name, names in values.items()}
        labelled = []
        for clip, of_clip in zip(clips, conditions, strict=True):
            if taken := [name for name in numbers if name in clip.labels]:
                raise DatasetError(f"{clip.id} has a label {taken[0]} already")
            labels = {
                name: numbers[name][of_clip[name]] if name in of_clip else math.nan
                for name in numbers
            }
            labelled.append(replace(clip, labels={**clip.labels, **labels}))
        return labelled, numbers

    def held_out_by(self, clips: Sequence[Clip], factor: str) -> list[Clip]:
        """Return the clips with a condition's value as their object, so that splits hold it out.

        Raises:
            DatasetError: A clip does not have the condition.
        """
        regrouped = []
        for clip in clips:
            conditions = self._conditions_of(clip)
            if factor not in conditions:
                known = ", ".join(conditions) or "none"
                raise InvalidValueError(
                    f"{clip.id} has no factor {factor!r}; its factors are {known}"
                )
            regrouped.append(replace(clip, object=f"{factor}={conditions[factor]}"))
        return regrouped

    def _conditions_of(self, clip: Clip) -> Mapping[str, str]:
        return {} if self.conditions is None else self.conditions(clip.id)


def count_unknown(clips: Sequence[Clip]) -> dict[str, int]:
    """Return by label the number of clips for which it is not known."""
    names = dict.fromkeys(name for clip in clips for name in clip.labels)
    return {
        name: sum(math.isnan(clip.labels.get(name, math.nan)) for clip in clips) for name in names
    }


def _numbered(values: Sequence[str]) -> dict[str, float]:
    numbers = read_numbers(values)
    if isinstance(numbers, Numbers) and not numbers.unit:
        known = dict(zip(values, numbers.values, strict=True))
        if all(map(math.isfinite, known.values())):
            return known
    return {value: float(number) for number, value in enumerate(values)}
