"""Bits that flip on the disk: none is served. The full numbers are soak tests."""

from pathlib import Path

import pytest

from tests.robustness.zygote import Zygote

FLIPS = {
    "cache": (100, 5), "cache of version 1": (100, 4), "cache of the oldest version": (100, 2),
    "shards": (50, 6), "run": (50, 10), "resumed training": (25, 8),
}  # fmt: skip
"""Flips in one test, and tests, of each artefact: 2,100 in all."""

PARTS = [
    pytest.param(name, count, part, id=f"{name} {part}")
    for name, (count, parts) in FLIPS.items()
    for part in range(parts)
]


def flip(zygote: Zygote, folder: Path, name: str, seed: int, count: int) -> None:
    place = folder / "case"
    place.mkdir()
    function = "tests.robustness.flips:flip"
    found = zygote.call(function, name, seed, count, folder=place, seconds=1200)
    print(f"flips: {name}: {count} {found['counts']}")
    assert found["faults"] == []
    assert found["counts"].get("refused", 0) + found["counts"].get("as before", 0) == count


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "count", "part"), PARTS)
def test_bits_of_what_is_kept(
    name: str, count: int, part: int, zygote: Zygote, tmp_path: Path
) -> None:
    flip(zygote, tmp_path, name, part + 1, count)


@pytest.mark.parametrize(
    ("name", "count"),
    [("cache", 10), ("cache of version 1", 10), ("cache of the oldest version", 5), ("shards", 2),
     pytest.param("run", 10, marks=pytest.mark.slow),
     pytest.param("resumed training", 5, marks=pytest.mark.slow)],
)  # fmt: skip
def test_some_bits_of_what_is_kept(name: str, count: int, zygote: Zygote, tmp_path: Path) -> None:
    flip(zygote, tmp_path, name, 0, count)


def test_shards_under_each_others_names_are_computed_again(zygote: Zygote, tmp_path: Path) -> None:
    (tmp_path / "case").mkdir()
    assert zygote.call("tests.robustness.flips:swap", 0, 3, folder=tmp_path / "case") == []
