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
from data.copies import address_of, is_copy
from data.errors import HeliographError, InvalidValueError
from data.files import hub_address, path_of, sha256_file, version_of
from data.levels import merged_values, snapped
from pipeline.dataset.blocks import clip_blocks
from pipeline.dataset.examples import Examples
from pipeline.dataset.joining import join

CHECKED_NUMBERS = 1 << 22  # that are looked at at one time


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
        """Describes a cache that has just been loaded from `path`; its name is the file's stem.

        Of a copy of what is at an address, that is its path. In the Hugging Face Hub's cache a path
        has repository and commit, which what it links to has not.
        """
        _, steps, dim = features.features.shape
        place = path.absolute() if hub_address(path.absolute()) else path.resolve()
        return cls(
            path_of(address_of(path)) if is_copy(path) else place,
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
        path = path_of(stored["path"])
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

    `caches` are joined (`pipeline.dataset.joining`): clips that are in all of them, in the order of
    the first, with the labels, objects and scenarios that any of them knows. Values of a label that
    are equal but for rounding are the same in the first (`data.levels`).

    Attributes:
        sources: Of each cache.
        caches: Their clips.
        left_out: For each cache, by name, why how many of its clips are not among them.
        paths: Where each was read.
        merged_values: For each label with values equal but for rounding, how many became another.
    """

    sources: tuple[CacheSource, ...]
    caches: tuple[Features, ...]
    left_out: Mapping[str, Mapping[str, int]]
    paths: tuple[Path, ...]
    merged_values: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def clips(self) -> Features:
        """Ids, objects and labels of the clips; its features are those of the first cache."""
        return self.caches[0]

    def __repr__(self) -> str:
        names = ", ".join(source.name for source in self.sources)
        return f"RunInputs({len(self.clips)} clips in {names})"


def load_finite_cache(path: Path) -> Features:
    """Loads a cache; raises HeliographError for a feature or label that nothing can be learnt of.

    Features of more than 32 MiB stay in their file. An unknown label is NaN; an infinite one is a
    mistake.
    """
    features = cache.load(path, mapped=None)
    for where, block in clip_blocks(features.features, numbers=CHECKED_NUMBERS):
        is_finite = np.isfinite(block).all(axis=(1, 2))
        if not is_finite.all():
            clip = features.clip_id[where.start + int(is_finite.argmin())]
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
    joined = join(loaded)
    if sources is None:
        sources = [CacheSource.of(path, loaded[name], name=name) for name, path in paths.items()]
    first, *others = joined.caches
    merged = {name: merged_values(column) for name, column in first.labels.items()}
    labels = {name: snapped(column) for name, column in first.labels.items()}
    return RunInputs(
        tuple(sources),
        (dataclasses.replace(first, labels=labels), *others),
        joined.left_out,
        tuple(paths.values()),
        {name: count for name, count in merged.items() if count},
    )


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
    if not same and path.name != source.path.name:
        raise HeliographError(
            f"{_name(path)} is not the cache that {run} was trained on: that is {source.path}, "
            "wherever it lies now"
        )
    if not same:
        raise HeliographError(f"{_name(path)} has changed since {run} was trained on it")
    return features


def _name(path: Path) -> Path:
    """Return the path of a file, or the address of what it is a copy of."""
    return path_of(address_of(path)) if is_copy(path) else path


def build_examples(
    caches: Features | Sequence[Features], properties: tuple[str, ...], where: str = "the cache"
) -> Examples:
    """What training and evaluation read of a cache, or of several that `join_caches` aligned.

    A clip without an object counts as an object of its own; values of a label that are equal but
    for rounding become the same (`data.levels`). Raises HeliographError for a property
    that there is no label for, naming the ones there are, and the caches as `where`.
    """
    parts = [caches] if isinstance(caches, Features) else list(caches)
    clips = parts[0]
    unknown = [name for name in properties if name not in clips.labels]
    if unknown:
        known = ", ".join(clips.labels) or "none"
        raise InvalidValueError(f"{where} has no label {unknown[0]!r}: its labels are {known}")
    labels = np.stack([snapped(clips.labels[name]) for name in properties], axis=1)
    objects = tuple(name or clip for name, clip in zip(clips.object, clips.clip_id, strict=True))
    return Examples(tuple(np.asarray(part.features) for part in parts), labels, objects)
