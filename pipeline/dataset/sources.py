"""What a run reads: its caches, their provenance, and the clips as training sees them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data import cache
from data.cache import Features
from data.errors import HeliographError, InvalidValueError
from data.files import sha256_file, version_of
from pipeline.dataset.examples import Examples


@dataclass(frozen=True)
class CacheSource:
    """A cache that a run was trained on: how its features came to be, and their shape."""

    path: Path
    content_sha256: str  # of what was loaded; "" in runs of older versions, which have `sha256`
    fingerprint: Mapping[str, Any]
    sampler: Mapping[str, Any]
    decoder: Mapping[str, Any]
    dtype: str
    steps: int
    dim: int
    name: str = ""  # by which agents are given their caches
    sha256: str = ""  # of the file

    @classmethod
    def of(cls, path: Path, features: Features, *, name: str = "") -> CacheSource:
        """Describes a cache that has just been loaded from `path`; its name is the file's stem."""
        _, steps, dim = features.features.shape
        return cls(
            path.resolve(),
            features.content_sha256,
            features.fingerprint,
            features.sampler,
            features.decoder,
            str(features.features.dtype),
            steps,
            dim,
            name or path.stem,
        )

    @property
    def identity(self) -> str:
        """The hash that the run knows the cache by."""
        return self.content_sha256 or self.sha256

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> CacheSource:
        """Reads what `to_json` wrote; a name that an older version lacked is the file's stem.

        Raises:
            ValueError, KeyError or TypeError: for anything else.
        """
        path = Path(stored["path"])
        source = cls(**{"name": path.stem, "content_sha256": ""} | dict(stored) | {"path": path})
        for field in dataclasses.fields(cls):
            kind = _KINDS[str(field.type).partition("[")[0]]
            if not isinstance(getattr(source, field.name), kind):
                raise ValueError(f"the {field.name} of a cache is {stored[field.name]!r}"[:200])
        return source

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON types; `from_json` reads it back."""
        stored = dataclasses.asdict(self) | {"path": str(self.path)}
        return {name: value for name, value in stored.items() if name != "sha256" or value}


_KINDS = {"Path": Path, "str": str, "Mapping": Mapping, "int": int}


@dataclass(frozen=True)
class RunInputs:
    """Everything that a run reads: its caches, with the same clips in the same order.

    `caches` are joined by clip id: clips that are in all of them, in the order of the first, with
    the labels, objects and scenarios that any of them knows.
    """

    sources: tuple[CacheSource, ...]
    caches: tuple[Features, ...]
    left_out: Mapping[str, int]  # clips of each cache, by its name, that the others do not have

    @property
    def clips(self) -> Features:
        """Ids, objects and labels of the clips; its features are those of the first cache."""
        return self.caches[0]

    def __repr__(self) -> str:
        names = ", ".join(source.name for source in self.sources)
        return f"RunInputs({len(self.clips)} clips in {names})"


def load_finite_cache(path: Path) -> Features:
    """Loads a cache; raises HeliographError for a feature or label that nothing can be learnt of.

    An unknown label is NaN; an infinite one is a mistake.
    """
    features = cache.load(path)
    for clip, values in zip(features.clip_id, features.features, strict=True):
        if not np.isfinite(values).all():
            raise HeliographError(f"{path}: the features of {clip} are not finite numbers")
    for name, column in features.labels.items():
        if np.isinf(column).any():
            clip = features.clip_id[int(np.isinf(column).argmax())]
            raise HeliographError(f"{path}: the {name} of {clip} is infinite")
    return features


def read_inputs(
    paths: Mapping[str, Path], *, sources: Sequence[CacheSource] | None = None, run: str = ""
) -> RunInputs:
    """Loads caches, by name, and joins their clips.

    Args:
        paths: Of the caches.
        sources: What they were when `run` was trained.
        run: What an error calls it.

    Raises:
        HeliographError: They share no clip, disagree on a label or an object, hold numbers that
            are not finite, or are not those of the run.
    """
    known = {source.name: source for source in sources or ()}
    loaded = {name: _load_known(path, known.get(name), run) for name, path in paths.items()}
    joined = join_caches(loaded)
    if sources is None:
        sources = [CacheSource.of(path, loaded[name], name=name) for name, path in paths.items()]
    left = {name: len(cache) - len(joined[0]) for name, cache in loaded.items()}
    return RunInputs(tuple(sources), joined, {name: count for name, count in left.items() if count})


def _load_known(path: Path, source: CacheSource | None, run: str) -> Features:
    """Load a cache; raises HeliographError where it is not what `run` was trained on.

    A run of an older version knows the hash of the file, which nothing may replace meanwhile.
    """
    is_older = source is not None and not source.content_sha256
    version, digest = version_of(path), sha256_file(path) if is_older else ""
    features = load_finite_cache(path)
    if source is None:
        return features
    same = (
        digest == source.sha256 and version == version_of(path)
        if is_older
        else features.content_sha256 == source.content_sha256
    )
    if not same:
        raise HeliographError(f"{path} has changed since {run} was trained on it")
    return features


def join_caches(caches: Mapping[str, Features]) -> tuple[Features, ...]:
    """Return the clips that are in every cache, in the order of the first, labels merged."""
    names, parts = list(caches), list(caches.values())
    common = set.intersection(*(set(part.clip_id) for part in parts))
    if not common:
        raise HeliographError(
            f"{' and '.join(names)} share no clip: {_example(parts[0])} is in {names[0]}, "
            f"{_example(parts[1])} in {names[1]}"
            if len(parts) > 1
            else f"{names[0]} has no clips"
        )
    ids = [clip for clip in parts[0].clip_id if clip in common]
    aligned = []
    for part in parts:
        rows = {clip: row for row, clip in enumerate(part.clip_id)}
        aligned.append(
            part if list(part.clip_id) == ids else part.select([rows[clip] for clip in ids])
        )
    merged = aligned[0]
    for name, part in zip(names[1:], aligned[1:], strict=True):
        merged = _merged(merged, names[0], part, name)
    return (merged, *aligned[1:])


def _example(features: Features) -> str:
    return repr(features.clip_id[0]) if len(features) else "nothing"


def _merged(first: Features, first_name: str, other: Features, other_name: str) -> Features:
    """`first` with what only `other` knows of its clips."""
    columns: dict[str, Any] = {}
    for column in ("object", "scenario"):
        both = list(zip(getattr(first, column), getattr(other, column), strict=True))
        for clip, (one, two) in zip(first.clip_id, both, strict=True):
            if one and two and one != two:
                raise HeliographError(
                    f"{first_name} and {other_name} disagree on the {column} of {clip}: "
                    f"{one!r} and {two!r}"
                )
        columns[column] = [one or two for one, two in both]
    labels = dict(first.labels)
    for name, new in other.labels.items():
        known = labels.get(name, np.full(len(first), np.nan))
        differ = ~np.isclose(known, new) & ~np.isnan(known) & ~np.isnan(new)
        if differ.any():
            row = int(differ.argmax())
            raise HeliographError(
                f"{first_name} and {other_name} disagree on the {name} of {first.clip_id[row]}: "
                f"{known[row]:g} and {new[row]:g}"
            )
        labels[name] = np.where(np.isnan(known), new, known)
    return dataclasses.replace(first, labels=labels, **columns)


def build_examples(caches: Features | Sequence[Features], properties: tuple[str, ...]) -> Examples:
    """What training and evaluation read of a cache, or of several that `join` aligned.

    A clip without an object counts as an object of its own. Raises HeliographError for a property
    that there is no label for, naming the ones there are.
    """
    parts = [caches] if isinstance(caches, Features) else list(caches)
    clips = parts[0]
    unknown = [name for name in properties if name not in clips.labels]
    if unknown:
        known = ", ".join(clips.labels) or "none"
        raise InvalidValueError(f"the cache has no label {unknown[0]!r}: its labels are {known}")
    labels = np.stack([clips.labels[name] for name in properties], axis=1)
    objects = tuple(name or clip for name, clip in zip(clips.object, clips.clip_id, strict=True))
    return Examples(tuple(np.asarray(part.features) for part in parts), labels, objects)
