"""Names that are one to people and two to a program: equal but for case, blanks or Unicode form."""

import unicodedata
from collections.abc import Callable, Iterable, Sequence

from data.clips import Clip, ClipError


def spelling(text: str) -> str:
    r"""Return what texts share that differ in case, blanks or Unicode form alone.

    >>> spelling("Thing 01") == spelling("thing01 ") == spelling("thing\u200b01")
    True
    """
    return _look("".join(_look(text).casefold().split()))


def refuse_alike(
    what: str, values: Iterable[tuple[str, str]], key: Callable[[str], str] = spelling
) -> None:
    """Raise if two values differ only in what `key` leaves out: case, blanks and Unicode form.

    Args:
        what: What the values are: "object".
        values: Each with the place where it stands: "line 3".
        key: What is the same for values that are one.

    Raises:
        ClipError: Two do; the message has both spellings, with a place of each.
    """
    seen: dict[str, tuple[str, str]] = {}
    for value, place in values:
        other, other_place = seen.setdefault(key(value), (value, place))
        if other != value:
            show = ascii if _look(other) == _look(value) else repr
            raise ClipError(
                f"the {what} is {show(other)} in {other_place} and {show(value)} in {place}, which "
                "differ in case, blanks or Unicode form alone: write one of them everywhere"
            )


def refuse_same_ids(clips: Sequence[Clip]) -> None:
    """Raise if two clips have one id, or ids that differ in their Unicode form alone.

    Raises:
        ClipError: Two do; the message has the files of both.
    """
    seen: dict[str, Clip] = {}
    for clip in clips:
        other = seen.setdefault(_form(clip.id), clip)
        if other is clip:
            continue
        if other.id == clip.id:
            raise ClipError(
                f"two clips have the id {clip.id!r}: {other.path} and {clip.path}; give each clip "
                "of the tables an id of its own"
            )
        raise ClipError(
            f"two clips have ids that differ in their Unicode form alone: {other.id!a} and "
            f"{clip.id!a}; rename one"
        )


def _form(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _look(text: str) -> str:
    """Return text without what cannot be seen: format characters, and forms that look alike."""
    if text.isascii():
        return text
    seen = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    return unicodedata.normalize("NFKC", seen)
