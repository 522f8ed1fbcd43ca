"""Every call that changes the disk fails: a sentence, the right exit code, and recovery.

The full numbers are soak tests: each errno at each place in the code that changes the disk. After a
third of them, and after each that lasts, the command is run again.
"""

import random
from collections import Counter
from pathlib import Path

import pytest

from tests.robustness.commands import COMMANDS, WritingCommand
from tests.robustness.trials import Survey
from tests.robustness.zygote import Zygote

PARTS = [
    pytest.param(command, part, id=f"{command.name} {part}")
    for command in COMMANDS
    if command.kills != "random"
    for part in range(command.error_parts)
]


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("command", "part"), PARTS)
def test_each_call_fails(
    command: WritingCommand, part: int, zygote: Zygote, tmp_path: Path
) -> None:
    survey = Survey.of(command, zygote, tmp_path)
    faults = survey.errors()[part :: command.error_parts]
    ends = Counter(
        survey.try_error(fault, recover=fault.lasting or number % 3 == 0)
        for number, fault in enumerate(faults)
    )
    print(f"errors: {command.name}: {len(faults)} {dict(ends)}")


QUICK, SLOW = ("export npz",), ("simulate", "train")
SOME = [
    pytest.param(command, id=command.name, marks=[pytest.mark.slow] * (command.name in SLOW))
    for command in COMMANDS
    if command.name in QUICK + SLOW
]


@pytest.mark.parametrize("command", SOME)
def test_some_calls_fail(command: WritingCommand, zygote: Zygote, tmp_path: Path) -> None:
    survey = Survey.of(command, zygote, tmp_path)
    for fault in random.Random(command.name).sample(survey.errors(), 3):
        survey.try_error(fault)
