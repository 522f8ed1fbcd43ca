"""The versions of packages, for the records of what was made with them."""

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

NOT_INSTALLED = "not installed"


def other_schema(path: object, found: object, read: str) -> str:
    """Return a sentence about a file whose schema version is none that is read here."""
    return (
        f"{path} has schema version {found}; this Heliograph reads {read}: use the version of "
        "Heliograph that wrote it"
    )


def common_versions(records: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return what one or several records of versions say alike.

    >>> common_versions([{"numpy": "2", "device": "CPU"}, {"numpy": "2", "device": "NVIDIA H100"}])
    {'numpy': '2'}
    """
    first, *others = records
    return {
        name: text
        for name, text in first.items()
        if all(other.get(name) == text for other in others)
    }


def package_versions(*names: str) -> dict[str, str]:
    """Return the version of each package; of one that is used without an installation, a word.

    A checkout on the path of Python works without one.
    """
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = NOT_INSTALLED
    return versions
