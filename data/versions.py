"""The versions of packages, for the records of what was made with them."""

from importlib.metadata import PackageNotFoundError, version

NOT_INSTALLED = "not installed"


def other_schema(path: object, found: object, read: str) -> str:
    """Return a sentence about a file whose schema version is none that is read here."""
    return (
        f"{path} has schema version {found}; this Heliograph reads {read}: use the version of "
        "Heliograph that wrote it"
    )


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
