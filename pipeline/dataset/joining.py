"""Caches joined: whose clip is which, by content where both caches know it, else by id."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.cache import Features, is_whole_file
from data.errors import HeliographError
from data.interchange import has_numbered_ids
from data.memory import require_memory

Rows = NDArray[np.int64]
Content = tuple[str, float, float]


@dataclass(frozen=True)
class Join:
    """The clips that several caches have in common.

    Attributes:
        caches: The same clips in the same order, those of the first cache with what any of them
            knows: labels, objects, scenarios.
        left_out: For each cache, by name, why how many of its clips are not among them.
    """

    caches: tuple[Features, ...]
    left_out: Mapping[str, Mapping[str, int]]


def join_caches(caches: Mapping[str, Features]) -> tuple[Features, ...]:
    """Return the clips that are in every cache, in the order of the first, labels merged.

    See `join`.
    """
    return join(caches).caches


def join(caches: Mapping[str, Features]) -> Join:
    """Join caches, given by name, by content or by id; see `match`.

    Raises:
        HeliographError: They share no clip, disagree on a label or an object of one, or number
            clips by themselves and have different numbers of them.
    """
    (first_name, first), *others = caches.items()
    matches = {name: match(first, features, first_name, name) for name, features in others}
    common = np.full(len(first), True)
    for rows in matches.values():
        common &= rows >= 0
    if not common.any():
        raise HeliographError(_nothing_shared(caches))
    kept = np.flatnonzero(common)
    aligned = [_selected(first, kept)]
    aligned += [_selected(features, matches[name][kept]) for name, features in others]
    merged = aligned[0]
    for (name, _), part in zip(others, aligned[1:], strict=True):
        merged = _merged(merged, first_name, part, name)
    left_out = _left_out(caches, matches, kept)
    return Join((merged, *aligned[1:]), left_out)


def match(first: Features, other: Features, first_name: str, other_name: str) -> Rows:
    """Return the row of `other` that is the clip of each row of `first`, -1 where it has none.

    Where both know the content of all their clips (SHA-256 of the file, start and end), clips are
    one if their content is, whatever their ids are; of several clips with one content, first those
    with one id. Otherwise clips are one if their ids are, unless both know the content and it
    differs.

    Raises:
        HeliographError: The ids of one were made by counting the clips of each object, and the
            other does not have as many of each.
    """
    by_content = all(all(features.source_sha256) for features in (first, other))
    if not by_content:
        _require_same_counts(first, other, first_name, other_name)
    rows = np.full(len(first), -1)
    row_of_id = {clip: row for row, clip in enumerate(other.clip_id)}
    for row, clip in enumerate(first.clip_id):
        found = row_of_id.get(clip, -1)
        if found >= 0 and _may_be_one(first, row, other, found):
            rows[row] = found
    if not by_content:
        return rows
    free: dict[Content, list[int]] = defaultdict(list)
    for number in sorted(set(range(len(other))) - set(rows.tolist())):
        if is_known(other, number):
            free[content_of(other, number)].append(number)
    for row in np.flatnonzero(rows < 0).tolist():
        same = free.get(content_of(first, row))
        if same and is_known(first, row):
            rows[row] = same.pop(0)
    return rows


def left_out_sentence(name: str, reasons: Mapping[str, int]) -> str:
    """Return how many clips of a cache are left out, and why.

    >>> left_out_sentence("two", {"not in one": 10, "of other content than in one": 2})
    '12 clips of two left out: 10 not in one, 2 of other content than in one'
    """
    total = sum(reasons.values())
    parts = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    return f"{total} {'clip' if total == 1 else 'clips'} of {name} left out: {parts}"


def content_of(features: Features, row: int) -> Content:
    """Return the hash of a clip's file, its start and its end in seconds, -1 without."""
    start, end = (float(getattr(features, name)[row]) for name in ("start", "end"))
    return (
        features.source_sha256[row],
        -1.0 if np.isnan(start) else start,
        -1.0 if np.isnan(end) else end,
    )


def is_known(features: Features, row: int) -> bool:
    """Return whether it is known which seconds of its file a clip is.

    Caches of version 1 do not say it, and the key of a clip shows whether it is the whole file.
    """
    _, start, end = content_of(features, row)
    return start >= 0 or end >= 0 or is_whole_file(features, row)


def _may_be_one(first: Features, row: int, other: Features, number: int) -> bool:
    """Return whether nothing that is known says that two clips of one id are different ones."""
    one, two = content_of(first, row), content_of(other, number)
    if not one[0] or not two[0] or one == two:
        return True
    return one[0] == two[0] and not (is_known(first, row) and is_known(other, number))


def _require_same_counts(
    first: Features, other: Features, first_name: str, other_name: str
) -> None:
    """Refuse ids that number the clips of each object where the caches have not as many of each."""
    if not (has_numbered_ids(first) or has_numbered_ids(other)):
        return
    counts = [
        Counter(clip.rpartition("/")[0] for clip in features.clip_id) for features in (first, other)
    ]
    if not set(counts[0]) & set(counts[1]):
        return  # no clip is shared
    unequal = [name for name in counts[0] | counts[1] if counts[0][name] != counts[1][name]]
    if not unequal:
        return
    more = f", and {len(unequal) - 1} more objects differ" if len(unequal) > 1 else ""
    one, two = (count[unequal[0]] for count in counts)
    raise HeliographError(
        f"{first_name} and {other_name} cannot be joined: ids such as {first.clip_id[0]!r} only "
        f"count the clips of an object, as files of the paper's format do, and {unequal[0]} has "
        f"{one} {_clips(one)} in {first_name} and {two} in {other_name}{more}: nobody knows which "
        "is which; make both files from the same clips, or extract both caches from the videos"
    )


def _clips(count: int) -> str:
    return "clip" if count == 1 else "clips"


def _nothing_shared(caches: Mapping[str, Features]) -> str:
    names, parts = list(caches), list(caches.values())
    if len(parts) == 1:
        return f"{names[0]} has no clips"
    examples = [repr(part.clip_id[0]) if len(part) else "nothing" for part in parts]
    return (
        f"{' and '.join(names)} share no clip: {examples[0]} is in {names[0]}, "
        f"{examples[1]} in {names[1]}"
    )


def _selected(features: Features, rows: Rows) -> Features:
    if np.array_equal(rows, np.arange(len(features))):
        return features
    size = features.features.nbytes * len(rows) / max(1, len(features))
    require_memory(size, f"taking {len(rows):,} clips out of a cache", "take fewer clips")
    return features.select(rows)


def _left_out(
    caches: Mapping[str, Features], matches: Mapping[str, Rows], kept: Rows
) -> dict[str, dict[str, int]]:
    """Count the clips of each cache that are not in the join, by reason."""
    (first_name, first), *others = caches.items()
    ids = {name: set(features.clip_id) for name, features in caches.items()}

    def reason(clip: str, name: str) -> str:
        return f"of other content than in {name}" if clip in ids[name] else f"not in {name}"

    def lacking(row: int) -> str:
        """Return the name of the first cache that has no clip for a row of the first."""
        return next(name for name, rows in matches.items() if rows[row] < 0)

    is_kept = np.isin(np.arange(len(first)), kept)
    counts: dict[str, Counter[str]] = {first_name: Counter()}
    for row in np.flatnonzero(~is_kept).tolist():
        counts[first_name][reason(first.clip_id[row], lacking(row))] += 1
    for name, other in others:
        counts[name] = Counter()
        row_of = {number: row for row, number in enumerate(matches[name].tolist()) if number >= 0}
        for number, clip in enumerate(other.clip_id):
            if number not in row_of:
                counts[name][reason(clip, first_name)] += 1
            elif not is_kept[row_of[number]]:  # the first cache has it, and a third one does not
                counts[name][f"not in {lacking(row_of[number])}"] += 1
    return {name: dict(reasons) for name, reasons in counts.items() if reasons}


def _merged(first: Features, first_name: str, other: Features, other_name: str) -> Features:
    """`first` with what only `other` knows of its clips."""
    columns: dict[str, Any] = {}
    known_of = {
        "object": (_known_objects(first), _known_objects(other)),
        "scenario": (first.scenario, other.scenario),
    }
    for column, (ours, theirs) in known_of.items():
        both = list(zip(ours, theirs, strict=True))
        for clip, (one, two) in zip(first.clip_id, both, strict=True):
            if one and two and one != two:
                raise HeliographError(
                    f"{first_name} and {other_name} disagree on the {column} of {clip}: "
                    f"{one!r} and {two!r}"
                )
        columns[column] = [one or two for one, two in both]
    columns["object"] = [
        known or own for known, own in zip(columns["object"], first.object, strict=True)
    ]
    labels, units = dict(first.labels), dict(first.label_units)
    for name, new in other.labels.items():
        known = labels.get(name, np.full(len(first), np.nan))
        unit = other.label_units.get(name, "")
        if unit and units.setdefault(name, unit) != unit:
            raise HeliographError(
                f"{first_name} and {other_name} disagree on the unit of {name}: {units[name]!r} "
                f"and {unit!r}; `heliograph cache label` changes the labels of a cache"
            )
        rounding = 1e-14 * float(np.nan_to_num(np.abs(new)).max(initial=0.0))
        equal = np.isclose(known, new, rtol=1e-5, atol=rounding)
        differ = ~equal & ~np.isnan(known) & ~np.isnan(new)
        if differ.any():
            row = int(differ.argmax())
            raise HeliographError(
                f"{first_name} and {other_name} disagree on the {name} of {first.clip_id[row]}: "
                f"{known[row]:g} and {new[row]:g}"
            )
        labels[name] = np.where(np.isnan(known), new, known)
    return dataclasses.replace(first, labels=labels, label_units=units, **columns)


def _known_objects(features: Features) -> list[str]:
    """Return the object of each clip, "" where a clip is just its own."""
    ids = features.clip_id
    return ["" if name == clip else name for name, clip in zip(features.object, ids, strict=True)]
