from collections.abc import Iterator
from pathlib import Path

import pytest

import data.datasets
from data.datasets import known_datasets, label_units, tie_margins

TEXT = """
from data.datasets import Dataset
DATASET = Dataset(
    name={name!r}, summary="List nothing.", description="Nothing.", index=lambda root: [],
    units={units!r}, tie_margins={margins!r},
)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A second folder of the package `data.datasets`."""
    paths = [*data.datasets.__path__, str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(data.datasets, "__path__", paths)
        forget()
        yield tmp_path
    forget()


def forget() -> None:
    for function in (known_datasets, label_units, tie_margins):
        function.cache_clear()


def add(folder: Path, module: str, name: str, units=None, margins=None) -> None:
    text = TEXT.format(name=name, units=units or {}, margins=margins or {})
    (folder / f"{module}.py").write_text(text)


def test_the_datasets_of_the_folder():
    assert list(known_datasets()) == ["physics101"]
    assert label_units() == {"mass": "g", "volume": "ml", "density": "g/ml"}
    assert tie_margins() == {"mass": 0.5}


def test_a_new_file_is_a_new_dataset(folder):
    add(folder, "registry_test_new", "new", {"charge": "C", "mass": "g"}, {"charge": 0.1})
    assert sorted(known_datasets()) == ["new", "physics101"]
    assert label_units()["charge"] == "C"
    assert tie_margins() == {"mass": 0.5, "charge": 0.1}


def test_two_of_one_name_are_refused(folder):
    add(folder, "registry_test_twin", "physics101")
    with pytest.raises(ValueError, match="another file has a Dataset called 'physics101'"):
        known_datasets()


@pytest.mark.parametrize(("units", "margins"), [({"mass": "kg"}, {}), ({}, {"mass": 0.1})])
def test_a_label_has_one_unit_and_one_margin(folder, units, margins):
    add(folder, f"registry_test_{len(units)}", "other", units, margins)
    with pytest.raises(ValueError, match="datasets disagree about mass"):
        known_datasets()
