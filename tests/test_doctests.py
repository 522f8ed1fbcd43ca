"""The examples in docstrings hold."""

import doctest
import importlib
import pkgutil
from itertools import chain

import pytest

import backbones
import data
import heliograph
import pipeline

MODULES = sorted(
    found.name
    for package in (backbones, data, heliograph, pipeline)
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = chain.from_iterable(finder.find(importlib.import_module(name)) for name in MODULES)
    assert sum(bool(example.examples) for example in examples) > 20
