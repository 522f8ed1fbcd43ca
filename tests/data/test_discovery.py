"""Records found by their file."""

import sys

import pytest

from data.discovery import find_classes, find_records


class Colour:
    """A record of the packages that these tests make."""

    def __init__(self, name: str) -> None:
        self.name = name


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `colours` in which each given file is a module."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(**files: str) -> str:
        folder = tmp_path / "colours"
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        for name, text in files.items():
            (folder / f"{name}.py").write_text(f"from {__name__} import Colour\n{text}\n")
        return "colours"

    yield make
    for name in [name for name in sys.modules if name.split(".")[0] == "colours"]:
        del sys.modules[name]


def test_a_file_is_all_that_a_record_needs(package):
    name = package(red="RED = Colour('red')", green="SOME = Colour('green'); OTHER = 3")
    assert list(find_records(name, Colour)) == ["green", "red"]


def test_a_record_that_another_file_imports_counts_once(package):
    name = package(red="RED = Colour('red')", user="from colours.red import RED")
    assert list(find_records(name, Colour)) == ["red"]


def test_classes_are_found_without_their_base(package):
    name = package(red="class Red(Colour):\n    name = 'red'")
    assert list(find_classes(name, Colour)) == ["red"]


def test_two_records_of_one_name_are_refused(package):
    name = package(a="X = Colour('red')", b="X = Colour('red')")
    with pytest.raises(ValueError, match=r"colours\.b: another file has a Colour called 'red'"):
        find_records(name, Colour)
