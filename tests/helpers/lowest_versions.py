"""The lowest versions that `setup.cfg` allows, as constraints for pip (`make test-lowest`).

    python -m tests.helpers.lowest_versions embedded test > constraints.txt

The words are the extras that are installed too. Each line of `setup.cfg` has a floor, which must be
a release: `av>=18` gives `av==18`.
"""

import configparser
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

SETTINGS = Path(__file__).resolve().parents[2] / "setup.cfg"
FLOOR = re.compile(r"(?P<name>[\w.-]+)(?:\[[\w,-]+\])?>=(?P<version>[\w.]+)")


def constraints(extras: Iterable[str], settings: Path = SETTINGS) -> Iterator[str]:
    """Yield `name==version` for each requirement, those of the extras after our own.

    Raises:
        ValueError: a requirement has no floor, or more than one; or an extra does not exist.
    """
    parser = configparser.ConfigParser()
    parser.read(settings)
    known = parser["options.extras_require"]
    unknown = set(extras) - set(known)
    if unknown:
        raise ValueError(f"{settings} has no extra {', '.join(sorted(unknown))}")
    floors: dict[str, str] = {}
    texts = [parser["options"]["install_requires"], *(known[extra] for extra in extras)]
    for requirement in "\n".join(texts).split():
        match = FLOOR.fullmatch(requirement)
        if match is None:
            raise ValueError(f"{settings}: {requirement} is not of the form name>=version")
        if floors.setdefault(match["name"], match["version"]) != match["version"]:
            raise ValueError(f"{settings}: {match['name']} has two floors")
    for name, version in floors.items():
        yield f"{name}=={version}"


if __name__ == "__main__":
    print("\n".join(constraints(sys.argv[1:])))
