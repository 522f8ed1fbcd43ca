"""Features of many clips with one fingerprint, in memory."""

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.cache.content import array_bytes, hash_columns, json_items
from data.cache.errors import CacheError
from data.cache.mapped import MappedRows
from data.duplicates import FRAME_SECONDS, Stretch
from data.errors import InvalidValueError
from data.notebooks import MOST_ROWS, data_frame, html_table
from data.splits import split_clips
from data.wording import counted

_ARRAYS = ("features", "thumbnails", "frame_index", "pts_seconds")
_TEXT = ("clip_id", "object", "scenario", "source_sha256", "key")
IDENTITY_FIELDS = ("fingerprint", "sampler", "decoder")


def _no_clips() -> NDArray[Any]:
    return np.empty((0, 0))


def _no_times() -> NDArray[Any]:
    return np.empty(0)


def _no_thumbnails() -> NDArray[Any]:
    return np.empty((0, 0, 0, 0), dtype=np.uint8)


def _no_flags() -> NDArray[Any]:
    return np.empty(0, dtype=bool)


class EncodedText(Sequence[str]):
    """Texts of an array of bytes (N,), decoded where they are used: as strings they take twice."""

    def __init__(self, rows: NDArray[np.bytes_]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, where: Any) -> Any:
        found = self.rows[where]
        if isinstance(found, np.ndarray):
            return _decoded(found)
        return found.decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return iter(_decoded(self.rows))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and _decoded(self.rows) == list(other)

    def __repr__(self) -> str:
        return f"EncodedText({len(self)})"


def _decoded(rows: NDArray[np.bytes_]) -> list[str]:
    if not len(rows):
        return []
    joined = b"\0".join(rows.tolist())  # arrays pad with NUL, so no value holds one
    return joined.decode("utf-8", "surrogateescape").split("\0")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Features:
    """Features (N, T, D) of N clips, the identities of the clips, and how the features were made.

    `frame_index` and `pts_seconds` (N, F) are the frames of each clip that the backbone saw (-1 and
    NaN where unknown); F differs from T where a backbone takes several frames per step. `labels`
    maps a name to float64 (N,), NaN where unknown; `label_units` and `label_tables` give a label's
    unit and the SHA-256 of the table that it came from, where they are known. `source_sha256` is
    the hash of each clip's bytes, `key` that of everything that its features depend on (both empty
    where unknown). `start` and `end` (N,) are the seconds of its file that a clip is, NaN for the
    ends of the file, or unknown. `thumbnails` uint8 (N, F, h, w) are the frames in grey, where
    there are any; `without_thumbnails` (N,) is True for clips that have none although others do.
    `failures` are (clip id, reason). `features` and `thumbnails` are arrays, or `MappedRows` of a
    file.

    Raises:
        CacheError: Shapes or types are wrong, or two clips have one id.
    """

    features: Any
    clip_id: Sequence[str]
    object: Sequence[str]
    scenario: Sequence[str]
    labels: Mapping[str, NDArray[np.float64]]
    fingerprint: Mapping[str, Any]
    sampler: Mapping[str, Any] = field(default_factory=dict)
    decoder: Mapping[str, Any] = field(default_factory=dict)
    frame_index: NDArray[np.int64] = field(default_factory=_no_clips)
    pts_seconds: NDArray[np.float64] = field(default_factory=_no_clips)
    source_sha256: Sequence[str] = ()
    key: Sequence[str] = ()
    start: NDArray[np.float64] = field(default_factory=_no_times)
    end: NDArray[np.float64] = field(default_factory=_no_times)
    label_units: Mapping[str, str] = field(default_factory=dict)
    label_tables: Mapping[str, str] = field(default_factory=dict)
    thumbnails: Any = field(default_factory=_no_thumbnails)
    without_thumbnails: NDArray[np.bool_] = field(default_factory=_no_flags)
    failures: Sequence[tuple[str, str]] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str = ""

    def __post_init__(self) -> None:
        features = _rows(self.features)
        if features.ndim != 3 or features.dtype not in (np.float16, np.float32):
            raise CacheError(
                "features must be float16 or float32 of shape (clips, steps, dimensions), "
                f"not {features.dtype} {features.shape}"
            )
        count = len(features)
        columns: dict[str, Any] = {"features": features}
        for name in _TEXT:
            values = getattr(self, name)
            columns[name] = (values if isinstance(values, EncodedText) else list(values)) or [
                ""
            ] * count
        for name, kind in (("frame_index", np.int64), ("pts_seconds", np.float64)):
            array = np.asarray(getattr(self, name), dtype=kind)
            columns[name] = array if array.size else np.zeros((count, 0), dtype=kind)
        for name in ("start", "end"):
            times = np.asarray(getattr(self, name), dtype=np.float64)
            columns[name] = times if times.size else np.full(count, np.nan)
        thumbnails, without = _rows(self.thumbnails), np.asarray(self.without_thumbnails, bool)
        if not thumbnails.size or (without.size and without.all()):
            thumbnails, without = np.empty((count, 0, 0, 0), dtype=np.uint8), _no_flags()
        columns["thumbnails"] = thumbnails
        columns["without_thumbnails"] = without if without.size else np.zeros(count, bool)
        columns["labels"] = {
            name: np.asarray(values, dtype=np.float64) for name, values in self.labels.items()
        }
        for name in ("label_units", "label_tables"):
            known = {label: text for label, text in getattr(self, name).items() if text}
            columns[name] = known
        columns["failures"] = [(str(clip), str(reason)) for clip, reason in self.failures]
        for name, values in columns.items():
            object.__setattr__(self, name, values)
        self._check(count)

    def _check(self, count: int) -> None:
        for name in _TEXT:
            if len(getattr(self, name)) != count:
                raise CacheError(f"{len(getattr(self, name))} {name} for {count} clips of features")
        for name in ("frame_index", "pts_seconds"):
            values = getattr(self, name)
            if values.ndim != 2 or len(values) != count:
                raise CacheError(f"{name} has shape {values.shape} for {count} clips of features")
        if self.frame_index.shape != self.pts_seconds.shape:
            raise CacheError(
                f"frame_index has shape {self.frame_index.shape} "
                f"but pts_seconds {self.pts_seconds.shape}"
            )
        for name in ("start", "end", "without_thumbnails"):
            if getattr(self, name).shape != (count,):
                raise CacheError(f"{name} has shape {getattr(self, name).shape} for {count} clips")
        thumbnails = self.thumbnails
        if thumbnails.ndim != 4 or len(thumbnails) != count or thumbnails.dtype != np.uint8:
            raise CacheError(
                f"thumbnails must be uint8 of shape ({count} clips, frames, height, width), "
                f"not {thumbnails.dtype} {thumbnails.shape}"
            )
        for name, values in self.labels.items():
            if values.shape != (count,):
                raise CacheError(f"label {name!r} has shape {values.shape} for {count} clips")
        for name in (*self.label_units, *self.label_tables):
            if name not in self.labels:
                raise CacheError(f"there is a unit or a table of {name!r}, which is no label")
        if "" in self.clip_id:
            raise CacheError("a clip id is empty")
        if len(set(self.clip_id)) != count:
            clip = next(clip for clip, times in Counter(self.clip_id).items() if times > 1)
            raise CacheError(f"clip id {clip!r} appears twice")

    @property
    def has_thumbnails(self) -> NDArray[np.bool_]:
        """Which clips have thumbnails: bool (N,)."""
        return ~self.without_thumbnails & bool(self.thumbnails.size)

    @cached_property
    def content_sha256(self) -> str:
        """The identity of all of this but `created` and `versions`, as 64 hex digits.

        A cache that was loaded has it from its file; otherwise every row is hashed.
        """
        return self.hash_content(row_sha256(self.features), row_sha256(self.thumbnails))

    def set_content_sha256(self, sha256: str) -> None:
        """Take the identity that a file has of all this, where it is known to be right."""
        self.__dict__["content_sha256"] = sha256  # where the property keeps its value

    def hash_content(self, features: Sequence[str], thumbnails: Sequence[str]) -> str:
        """Return `content_sha256`, given the SHA-256 of each row as 64 hex digits.

        Of a clip without thumbnails that of its row of them means nothing.
        """
        lists = self.hashed_lists(features, thumbnails)
        return hash_columns(
            self.stated(),
            {name: json_items(texts) for name, texts in lists.items()},
            ([array_bytes(column)] for column in self.hashed_arrays()),
        )

    def hashed_lists(
        self, features: Sequence[str], thumbnails: Sequence[str]
    ) -> dict[str, Sequence[str]]:
        """Return the lists (N,) in `content_sha256`; that of thumbnails is empty without any."""
        shown: Sequence[str] = ()
        if self.thumbnails.size:
            both = zip(thumbnails, self.without_thumbnails, strict=True)
            shown = ["" if without else sha256 for sha256, without in both]
        texts = {name: getattr(self, name) for name in _TEXT}
        return {**texts, "features": features, "thumbnails": shown}

    def hashed_arrays(self) -> list[NDArray[Any]]:
        """Return the arrays (N, ...) in `content_sha256`, in their order."""
        labels = [self.labels[name] for name in sorted(self.labels)]
        return [self.frame_index, self.pts_seconds, self.start, self.end, *labels]

    def stated(self) -> dict[str, Any]:
        """Return what `content_sha256` has but lists and arrays of the clips."""
        said = (*IDENTITY_FIELDS, "label_units", "label_tables", "failures")
        return {
            **{name: getattr(self, name) for name in said},
            "labels": sorted(self.labels),
            "dtype": str(self.features.dtype),
            "shapes": [list(getattr(self, name).shape) for name in _ARRAYS],
        }

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        clips, steps, dimensions = self.features.shape
        size = f"{counted(clips, 'clip')} x {counted(steps, 'step')} x {dimensions}"
        parts = [f"{size} {self.features.dtype}"]
        parts.append(counted(len(set(self.object)), "object"))
        parts.append(f"labels {', '.join(self.labels) or 'none'}")
        if self.failures:
            parts.append(f"{len(self.failures)} failures")
        return f"Features({', '.join(parts)})"

    def _repr_html_(self) -> str:
        columns = self._clip_columns()
        rows = list(zip(*(values[:MOST_ROWS] for values in columns.values()), strict=True))
        more = len(self) - len(rows)
        return html_table(repr(self), list(columns), rows, [f"and {more} more"] if more else [])

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` with a row for each clip.

        Its columns are the clip's id, object, scenario, start, end, and labels. The features are
        an array with three axes, which is no table: `features`.

        Raises:
            HeliographError: pandas is not installed.
        """
        return data_frame(self._clip_columns())

    def _clip_columns(self) -> dict[str, Any]:
        columns: dict[str, Any] = {"clip": list(self.clip_id)}
        columns |= {name: list(getattr(self, name)) for name in ("object", "scenario")}
        columns |= {name: getattr(self, name).tolist() for name in ("start", "end")}
        for name, values in self.labels.items():
            columns[f"label {name}" if name in columns else name] = values.tolist()
        return columns

    def to_torch(
        self,
        split: str | None = None,
        *,
        labels: Sequence[str] | str | None = None,
        rule: str = "objects",
        seed: int = 0,
    ) -> Any:
        """Return a dataset of PyTorch: (features, labels, clip id) of each clip.

        No object is in two parts of a split. A clip of which a label is unknown is in none; where
        no labels are named, a warning says how many these are.

        Args:
            split: `train`, `validation`, `test` or, where cells of a grid are held out,
                `structure`; None: every clip.
            labels: Their names, or one; None: every label.
            rule: How clips are split: `auto`, `objects`, `published`, `cells`, `cells-validated`,
                `kfold` or `kfold-K`, as `train` takes it.
            seed: Which of the splits of this rule, from 0.

        Raises:
            HeliographError: no such split, label, rule or seed, or too few objects for it.
        """
        from data.cache.torch_dataset import FeatureDataset

        labels = [labels] if isinstance(labels, str) else labels
        names = list(self.labels) if labels is None else list(labels)
        for name in names:
            if name not in self.labels:
                known = ", ".join(self.labels) or "none"
                raise InvalidValueError(f"no label {name!r}: choose some of {known}")
        values = np.stack([self.labels[name] for name in names] or [np.zeros(len(self))], axis=1)
        rows = np.arange(len(self))
        if split is not None:
            unknown = np.isnan(values)
            rows = rows[~unknown.any(axis=1)]
            if labels is None and len(rows) < len(self):
                most = int(unknown.sum(axis=0).argmax())
                warnings.warn(
                    f"in no split: {len(self) - len(rows)} of {len(self)} clips, of which a label "
                    f"is unknown ({names[most]} of {unknown[:, most].sum()}); name the labels that "
                    "you need, as labels=[...]",
                    stacklevel=2,
                )
            objects = [self.object[row] for row in rows.tolist()]
            parts = split_clips(rule, objects, values[rows], seed).of_clips(rows).parts()
            if split not in parts:
                raise InvalidValueError(f"no split {split!r}: choose one of {', '.join(parts)}")
            rows = parts[split]
        values = values[:, : len(names)]
        return FeatureDataset(self.features, rows, values, names, self.clip_id, self.object)

    def select(self, rows: Sequence[int] | NDArray[np.integer[Any]]) -> "Features":
        """Return the clips at these rows, in this order; failures are kept."""
        rows = np.asarray(rows, dtype=np.int64)
        changes: dict[str, Any] = {
            name: getattr(self, name)[rows]
            for name in (*_ARRAYS, "without_thumbnails", "start", "end")
        }
        for name in _TEXT:
            column = getattr(self, name)
            changes[name] = [column[row] for row in rows]
        changes["labels"] = {name: values[rows] for name, values in self.labels.items()}
        return replace(self, **changes)

    @property
    def identity(self) -> dict[str, Any]:
        """How all clips were made: fingerprint, sampler and decoder."""
        return {name: getattr(self, name) for name in IDENTITY_FIELDS}

    def stretches(self) -> list[Stretch]:
        """Return what the content of each clip is, to find clips that share some."""
        identity = self.identity
        return [
            stretch_of(
                identity,
                clip_id=self.clip_id[row],
                object=self.object[row],
                source_sha256=source,
                key=self.key[row],
                seconds=(float(self.start[row]), float(self.end[row])),
                pts_seconds=self.pts_seconds[row],
            )
            for row, source in enumerate(self.source_sha256)
        ]

    def differences(self, other: "Features") -> list[str]:
        """Return the names of the fields that differ, `created` left out; empty if none does."""
        return [
            item.name
            for item in fields(self)
            if item.name != "created"
            and not _same(getattr(self, item.name), getattr(other, item.name))
        ]


def clip_key(
    identity: Mapping[str, Any], source_sha256: str, start: float | None, end: float | None
) -> str:
    """Return the hash of everything that the features of a clip depend on.

    Args:
        identity: Fingerprint, sampler and decoder.
        source_sha256: Hash of the bytes of the clip's file.
        start: Where the clip starts, in seconds; None is the start of the file.
        end: Where it ends; None is the end of the file.
    """
    source = {"source_sha256": source_sha256, "start": start, "end": end}
    return hashlib.sha256(json.dumps({**identity, **source}, sort_keys=True).encode()).hexdigest()


def stretch_of(
    identity: Mapping[str, Any],
    *,
    clip_id: str,
    object: str,
    source_sha256: str,
    key: str,
    seconds: tuple[float, float],
    pts_seconds: NDArray[np.float64],
) -> Stretch:
    """Return what the content of a clip is.

    Version 1 does not say which seconds of its file a clip is: a clip without times whose key is
    not that of the whole file is where its frames are.

    Args:
        identity: Fingerprint, sampler and decoder.
        clip_id: Its id.
        object: Its object.
        source_sha256: The hash of its file; empty where it is unknown.
        key: Its key; empty where it is unknown.
        seconds: Where it starts and ends, NaN for the ends of the file.
        pts_seconds: Times (F,) of its frames.
    """
    start, end = seconds
    is_timeless = source_sha256 and isnan(start) and isnan(end) and not np.isnan(pts_seconds).all()
    if is_timeless and not _is_key_of_file(identity, key, source_sha256):
        start, end = float(np.nanmin(pts_seconds)), float(np.nanmax(pts_seconds)) + FRAME_SECONDS
    return Stretch(clip_id, object, source_sha256, start, end)


def is_whole_file(clips: "Features", row: int) -> bool:
    """Return whether a clip without start and end is its whole file.

    A cache of version 1 does not say which seconds a clip is, and leaves both out. What its key was
    made of shows it; without a key they are taken for the ends of the file.
    """
    if not np.isnan([clips.start[row], clips.end[row]]).all():
        return False
    return _is_key_of_file(clips.identity, clips.key[row], clips.source_sha256[row])


def _is_key_of_file(identity: Mapping[str, Any], key: str, source_sha256: str) -> bool:
    return not key or key == clip_key(identity, source_sha256, None, None)


def row_sha256(rows: Any) -> list[str]:
    """Return the SHA-256 of each row of an array (N, ...), as 64 hex digits."""
    return [
        hashlib.sha256(np.ascontiguousarray(row).data.cast("B") if row.size else b"").hexdigest()
        for row in rows
    ]


def _rows(rows: Any) -> Any:
    """Return rows as an array, or as they are if they lie in a mapped file."""
    return rows if isinstance(rows, MappedRows) else np.asarray(rows)


def _same(left: Any, right: Any) -> bool:
    if left is right:
        return True
    if isinstance(left, np.ndarray | MappedRows):
        left, right = np.asarray(left), np.asarray(right)
        same_kind = left.shape == right.shape and left.dtype == right.dtype
        return bool(same_kind and np.array_equal(left, right, equal_nan=True))
    if isinstance(left, Mapping):
        return left.keys() == right.keys() and all(_same(left[k], right[k]) for k in left)
    return bool(left == right)
