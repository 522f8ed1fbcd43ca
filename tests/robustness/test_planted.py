"""What somebody plants under a name that a command writes: nothing is written through it.

A link, a dangling link, a FIFO and a hard link, at each file that each command makes. The full
numbers are soak tests.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.planting import OWN, plant
from tests.robustness.commands import COMMANDS, WritingCommand
from tests.robustness.place import Place
from tests.robustness.zygote import Zygote

KINDS = ("link", "dangling link", "FIFO", "hard link")


PARTS = 8  # of the names of a command, so that no test takes long


def files_made(command: WritingCommand, place: Place) -> list[str]:
    """Return the files that a command makes, relative to its folder, in a fixed order."""
    command.prepare(place)
    place.keep()
    before = set(place.files())
    end = place.command(command.words)
    assert end.code == 0, end.stderr
    made = {
        os.path.relpath(call.path, place.folder)
        for call in end.calls
        if call.kind in ("create", "rename") and not call.path.endswith(".tmp")
    }
    return sorted(name for name in made - before if not name.startswith((".cache", "..")))


def try_planted(command: WritingCommand, place: Place, cases: list[tuple[str, str]]) -> None:
    """Plant each kind at each name, and run the command: it may refuse, and harm nobody."""
    for name, kind in cases:
        place.reset()
        victim = place.folder.with_name("victim")
        plant(place.folder / name, kind, victim)
        end = place.command(command.words)
        case = (name, kind, end.code, end.stderr)
        assert not end.hung, case
        assert "Traceback" not in end.stderr, case
        assert victim.read_text() == OWN, case
        assert not victim.with_name("new").exists(), case
        if end.code:
            assert any(part in end.sentence for part in Path(name).parts), case


def cases_of(names: list[str]) -> Iterator[tuple[str, str]]:
    return ((name, kind) for name in names for kind in KINDS)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_at_each_name(command: WritingCommand, part: int, zygote: Zygote, tmp_path: Path) -> None:
    place = Place(zygote, tmp_path)
    cases = list(cases_of(files_made(command, place)))[part::PARTS]
    try_planted(command, place, cases)
    print(f"planted: {command.name}: {len(cases)}")


QUICK = ("export npz", "index", "simulate")


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.name in QUICK], ids=QUICK)
def test_at_some_names(command: WritingCommand, zygote: Zygote, tmp_path: Path) -> None:
    place = Place(zygote, tmp_path)
    cases = list(cases_of(files_made(command, place)))
    try_planted(command, place, random.Random(command.name).sample(cases, 4))
