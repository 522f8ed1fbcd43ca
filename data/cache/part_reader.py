"""Reading a folder of parts as one cache."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from data.cache.errors import INDEX, CacheError, DamagedCacheError
from data.cache.features import Features
from data.cache.hdf5_reader import LARGE, in_memory
from data.cache.joining import CommonMake, join
from data.cache.parts import Part, read_index
from data.files import version_of


def read_parts(folder: Path, *, mapped: bool | None) -> Features:
    """Read a folder of parts as one cache; `mapped` is as for `data.cache.load`.

    Raises:
        CacheError: The index or a part is damaged; the message names the file.
    """
    while True:
        version = version_of(folder / INDEX)
        try:
            return _read_parts(folder, mapped=mapped)
        except CacheError:
            if version == version_of(folder / INDEX):
                raise  # otherwise the parts were replaced meanwhile


def _read_parts(folder: Path, *, mapped: bool | None) -> Features:
    index = read_index(folder)
    joined = read_together(folder, index.parts)
    content = joined.content_sha256
    if content != index.content_sha256:
        raise DamagedCacheError(
            folder / INDEX, f"{folder / INDEX} is damaged: its parts together are something else"
        )
    if not (joined.features.nbytes > LARGE if mapped is None else mapped):
        joined = replace(joined, features=in_memory(folder, joined.features))
        joined.set_content_sha256(content)
    return joined


def read_together(folder: Path, parts: Sequence[Part]) -> Features:
    """Read parts of a folder, one after the other, as one cache; their rows stay in the files.

    Raises:
        CacheError: A part is damaged, or they do not belong together.
    """
    read = [part.read() for part in parts]
    clips = [features for _, features in read]
    made = CommonMake()
    for part, features in zip(parts, clips, strict=True):
        made.require(part.path, features)
    try:
        joined = join(clips)
    except CacheError as error:
        raise CacheError(f"{folder}: {error}") from error
    of_rows = [sha256 for metadata, _ in read for sha256 in metadata.features.sha256]
    thumbnails = [
        sha256
        for metadata, part in read
        for sha256 in (metadata.thumbnails.sha256 if part.thumbnails.size else [""] * len(part))
    ]
    joined.set_content_sha256(joined.hash_content(of_rows, thumbnails))
    return joined
