"""Every command that writes, killed: nothing is lost, mixed or left over, and nothing runs on.

The full numbers are soak tests: a kill at each call that changes the disk, one in the middle of
each write, and some at random moments, at which the command is anywhere.
"""

import random
from collections import Counter
from pathlib import Path

import pytest

from tests.robustness.commands import COMMANDS, WritingCommand
from tests.robustness.trials import Survey
from tests.robustness.zygote import Zygote

RANDOM_KILLS = 8
"""In each part of a command's trials."""

PARTS = [
    pytest.param(command, part, id=f"{command.name} {part}")
    for command in COMMANDS
    for part in range(command.parts)
]


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("command", "part"), PARTS)
def test_killed_at_each_call(
    command: WritingCommand, part: int, zygote: Zygote, tmp_path: Path
) -> None:
    survey = Survey.of(command, zygote, tmp_path)
    kills = survey.kills()[part :: command.parts]
    ends = Counter(survey.try_kill(kill) for kill in [*kills, *survey.moments(RANDOM_KILLS, part)])
    print(f"kills: {command.name}: {sum(ends.values()) - ends['finished']} {dict(ends)}")
    assert sum(ends.values()) - ends["finished"] >= len(kills)


QUICK, SLOW = ("merge", "index", "consolidate"), ("train", "overwrite", "report")
SOME = [
    pytest.param(command, id=command.name, marks=[pytest.mark.slow] * (command.name in SLOW))
    for command in COMMANDS
    if command.name in QUICK + SLOW
]


@pytest.mark.parametrize("command", SOME)
def test_killed_at_some_calls(command: WritingCommand, zygote: Zygote, tmp_path: Path) -> None:
    survey = Survey.of(command, zygote, tmp_path)
    for kill in random.Random(command.name).sample(survey.kills(), 3):
        assert survey.try_kill(kill) != "finished"
