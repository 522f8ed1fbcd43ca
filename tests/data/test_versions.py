"""The versions of packages."""

from importlib.metadata import version

from data.versions import NOT_INSTALLED, package_versions


def test_what_is_not_installed_stops_nothing():
    assert package_versions("numpy", "heliograph-of-a-checkout") == {
        "numpy": version("numpy"), "heliograph-of-a-checkout": NOT_INSTALLED,
    }  # fmt: skip
