"""Hostile files given to commands: none is executed, hangs, crashes or ends in a traceback.

The full numbers are soak tests: 3,000 caches (`.h5`), 500 each of `.pt`, `.safetensors` and runs,
and of each kind of file of other programs' features.
"""

from pathlib import Path

import pytest

from tests.robustness.zygote import Case, Zygote

IMPORTED = ("imported npy", "imported npz", "imported parquet", "imported safetensors")
FILES = {"h5": (75, 40)} | dict.fromkeys(("pt", "safetensors", "run", *IMPORTED), (50, 10))
"""Files in one test, and tests, of each kind."""
MEMORY_BYTES = 3 << 30
FUNCTION = "tests.robustness.hostile:give"

PARTS = [
    pytest.param(kind, count, part, id=f"{kind} {part}")
    for kind, (count, parts) in FILES.items()
    for part in range(parts)
]


def give(zygote: Zygote, folder: Path, kind: str, seed: int, count: int) -> None:
    place = folder / "case"
    place.mkdir()
    case = Case(str(place), function=FUNCTION, arguments=(kind, seed, count), seconds=1500)
    end = zygote.run(case)
    assert end.code == 0, end.stderr[-5000:]
    assert (end.left, end.executed) == ((), ())
    assert end.peak_bytes < MEMORY_BYTES
    ends = dict(end.value)
    print(f"files: {kind}: {count} { ({k: v for k, v in ends.items() if 'FAULT' not in k}) }")
    faults = [name for name in ends if name.startswith("FAULT")]
    assert not faults, "\n\n".join(faults)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("kind", "count", "part"), PARTS)
def test_mutated_files(kind: str, count: int, part: int, zygote: Zygote, tmp_path: Path) -> None:
    give(zygote, tmp_path, kind, part + 1, count)


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("h5", 8),
        pytest.param("pt", 16, marks=pytest.mark.slow),
        pytest.param("safetensors", 12, marks=pytest.mark.slow),
        pytest.param("run", 16, marks=pytest.mark.slow),
        pytest.param("imported npz", 12, marks=pytest.mark.slow),
        pytest.param("imported parquet", 12, marks=pytest.mark.slow),
    ],
)
def test_some_mutated_files(kind: str, count: int, zygote: Zygote, tmp_path: Path) -> None:
    give(zygote, tmp_path, kind, 0, count)
