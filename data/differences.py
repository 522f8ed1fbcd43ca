"""Where two JSON values differ first."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Difference(NamedTuple):
    """The first field in which two JSON values differ, and what each has there.

    `path` holds the keys from the outermost object inwards. A value that is missing is None.
    """

    path: tuple[str, ...]
    left: Any
    right: Any

    @property
    def name(self) -> str:
        """The dotted name of the field."""
        return ".".join(self.path)

    @property
    def option(self) -> str:
        """The option of `extract` that chooses the field, else its name.

        >>> Difference(("fingerprint", "output"), "cls", "grid4").option
        '--pool'
        """
        return CHOICES.get(self.name, self.name)


def value_text(value: Any) -> str:
    """Return a value of a difference in words.

    >>> value_text("tiny"), value_text(None)
    ("'tiny'", 'not known')
    """
    return "not known" if value is None else repr(value)


CHOICES = {
    "fingerprint.name": "--backbone",
    "fingerprint.output": "--pool",
    "fingerprint.preprocess.name": "--preprocess",
    "fingerprint.precision": "--precision",
    "sampler.name": "--sampler",
    "sampler.frames": "--frames",
    "sampler.fps": "--fps",
    "sampler.stride": "--stride",
    "sampler.pad": "--pad",
    "decoder.name": "--decoder",
}
"""The fields of how features are made that a user chooses, and the option of `extract` for each."""
_CHOSEN = [field.rpartition(".")[2] for field in CHOICES]  # the others follow from them


def first_difference(left: Any, right: Any, path: tuple[str, ...] = ()) -> Difference | None:
    """Return the first field in which two JSON values differ; None where they are equal.

    Fields that a user chooses come before those that follow from them; the others are compared in
    the order of `left`, then those that only `right` has. Lists of the same length are searched for
    objects that differ; any other list counts as one value.

    >>> first_difference({"config": {"vocab": 5}}, {"config": {"vocab": 8}})
    Difference(path=('config', 'vocab'), left=5, right=8)
    >>> first_difference({"a": None}, {}).name
    'a'
    """
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        keys = dict.fromkeys([*left, *right])
        for key in sorted(keys, key=lambda key: (*_CHOSEN, key).index(key)):
            inner = (*path, str(key))
            if (key in left) != (key in right):
                return Difference(inner, left.get(key), right.get(key))
            if found := first_difference(left[key], right[key], inner):
                return found
        return None
    if left == right:
        return None
    if _is_list(left) and _is_list(right) and len(left) == len(right):
        for left_item, right_item in zip(left, right, strict=True):
            if left_item != right_item and isinstance(left_item, Mapping):
                return first_difference(left_item, right_item, path)
    return Difference(path, left, right)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
