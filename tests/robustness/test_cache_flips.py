"""A flipped bit anywhere in a cache is refused, or changes nothing of what is served."""

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from data.cache import CacheError, Features, ShardStore, load, merge, save
from data.cache.seal import USER_BLOCK
from tests.helpers.caches import MADE_WITH, clips, extract, features, full
from tests.helpers.version_1 import save_version_1

FLIPS = 60


def write(kind: str, path: Path) -> Path:
    """A small cache of this kind, whose features are several blocks of about 1 MiB."""
    shape = (5, 3, 140_000) if kind == "several blocks" else (5, 3, 5)
    values = np.random.default_rng(1).normal(size=shape).astype(np.float16)
    columns = {"start": np.arange(5.0), "label_units": {"mass": "g"}, "failures": [("x", "y")]}
    if kind.startswith("version 1"):
        made = features(5, features=values, failures=[("x", "y")])
        return save_version_1(made, path, row_hashes=kind == "version 1")
    if kind.startswith("thumbnails"):
        columns["thumbnails"] = np.random.default_rng(2).integers(0, 256, (5, 6, 4, 4), np.uint8)
    if kind == "thumbnails of some":
        columns["without_thumbnails"] = np.arange(5) % 2 > 0
    save(features(5, features=values, **columns), path)
    return path


def flips(content: bytes, whole: Features, seed: str) -> Iterator[bytearray]:
    """The content with one bit turned: in the seal, the structure, the features, the rest."""
    start = content.find(whole.features.tobytes())
    regions = [(0, USER_BLOCK), (USER_BLOCK, start), (start, start + whole.features.nbytes)]
    regions.append((regions[-1][1], len(content)))
    choice = random.Random(seed)
    for number in range(FLIPS):
        first, stop = regions[number % 4]
        flipped = bytearray(content)
        flipped[choice.randrange(first, stop)] ^= 1 << choice.randrange(8)
        yield flipped


KINDS = [
    "version 2",
    "several blocks",
    "thumbnails",
    "thumbnails of some",
    "version 1",
    "version 1 without row hashes",
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_never_served(tmp_path, kind):
    path = write(kind, tmp_path / "c.h5")
    content, whole = path.read_bytes(), load(path)
    refused = []
    for number, flipped in enumerate(flips(content, whole, kind)):
        path.write_bytes(flipped)
        try:
            found = load(path, mapped=number % 8 < 4)
            assert found.differences(whole) == []
            assert (found.content_sha256, found.created) == (whole.content_sha256, whole.created)
        except CacheError as error:
            refused.append(str(error))
    assert all(message.startswith(str(path)) for message in refused)
    # All but those in the seal, of which version 2 has a second copy.
    assert len(refused) >= FLIPS * 3 // 4


@pytest.mark.parametrize("kind", ["version 2", "version 1", "version 1 without row hashes"])
def test_damage_is_never_sealed_anew_by_merge(tmp_path, kind):
    path = write(kind, tmp_path / "c.h5")
    content = path.read_bytes()
    merge([path], tmp_path / "sound.h5")
    whole = load(tmp_path / "sound.h5")
    refused = 0
    for flipped in islice(flips(content, whole, kind), FLIPS // 2):
        path.write_bytes(flipped)
        try:
            merge([path], tmp_path / "m.h5")
            assert load(tmp_path / "m.h5").differences(whole) == []
        except CacheError:
            refused += 1
    assert refused >= FLIPS * 3 // 8


def test_a_damaged_shard_is_made_again(tmp_path):
    """Whatever bit it is, the shard is taken as it was, or redone: never both refused."""
    whole = load(full(tmp_path / "whole.h5", 1))
    path = tmp_path / "c.h5"
    with ShardStore(path, **MADE_WITH) as store:
        extract(store, clips(1))
    (shard,) = (tmp_path / "c.h5.parts").glob("*.h5")
    content, row = shard.read_bytes(), load(shard)
    for flipped in islice(flips(content, row, "shard"), FLIPS // 3):
        shard.parent.mkdir(exist_ok=True)
        shard.write_bytes(flipped)
        full(path, 1)
        assert load(path).differences(whole) == []
        path.unlink()
