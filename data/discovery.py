"""Records that are found by their file: a new file in a package adds a new record."""

import importlib
import pkgutil
from typing import TypeVar

Record = TypeVar("Record")


def find_records(package: str, kind: type[Record]) -> dict[str, Record]:
    """Return the instances of `kind` that the modules of a package define, by their `name`.

    Args:
        package: Import name of the package; its modules are imported in the order of their
            names, those that begin with an underscore left out.
        kind: Class of the records, each with an attribute `name`.

    Raises:
        ValueError: Two records have one name.
    """
    records: dict[str, Record] = {}
    for module, value in _values(package):
        if isinstance(value, kind):
            _add(records, module, value)
    return records


def find_classes(package: str, base: type[Record]) -> dict[str, type[Record]]:
    """Return the subclasses of `base` that the modules of a package define, by their `name`.

    Raises:
        ValueError: Two classes have one name.
    """
    classes: dict[str, type[Record]] = {}
    for module, value in _values(package):
        if isinstance(value, type) and issubclass(value, base) and value is not base:
            _add(classes, module, value)
    return classes


def _values(package: str) -> list[tuple[str, object]]:
    path = importlib.import_module(package).__path__
    names = [module.name for module in pkgutil.iter_modules(path)]
    modules = [f"{package}.{name}" for name in names if not name.startswith("_")]
    return [
        (module, value)
        for module in modules
        for value in vars(importlib.import_module(module)).values()
    ]


def _add(records: dict[str, Record], module: str, record: Record) -> None:
    name: str = record.name  # type: ignore[attr-defined]
    if records.setdefault(name, record) is not record:
        raise ValueError(f"{module}: another file has a {type(record).__name__} called {name!r}")
