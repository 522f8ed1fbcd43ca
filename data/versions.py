"""The versions of packages, for the records of what was made with them."""

from importlib.metadata import PackageNotFoundError, version

NOT_INSTALLED = "not installed"


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
