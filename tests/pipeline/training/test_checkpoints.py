"""A training that was killed goes on to the same bits; nothing stale is mistaken for it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data import cache
from data.errors import HeliographError
from data.files import WriteError
from data.lock import BusyError
from pipeline.runs import Run
from pipeline.training import train
from tests.helpers.command import run as run_command

HELIOGRAPH = Path(sys.executable).with_name("heliograph")
QUICK = {"properties": ["mass"], "epochs": 12, "seeds": 6, "reset_interval": 5, "soft_epochs": 3}
SHORT = QUICK | {"seeds": 1}


class Killed(BaseException):
    """Stands for the death of a process."""


def die_after(epochs: int):
    """A progress that raises once so many epochs over all seeds are done."""

    def progress(done: int, total: int, note: str) -> None:
        if done >= epochs:
            raise Killed

    return progress


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.*")}


@pytest.mark.slow
def test_a_command_that_is_killed_ends_as_one_that_was_not(cache_path, tmp_path):
    words = ["train", cache_path, "--property", "mass", "--epochs", 20, "--seeds", 2, "--vocab", 4]
    words = [*map(str, words), "--reset-interval", "15", "--device", "cpu"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([HELIOGRAPH, *words, "-o", whole], check=True, env=environment)
    process = subprocess.Popen([HELIOGRAPH, *words, "-o", broken, "--resume"], env=environment)
    deadline = time.monotonic() + 120
    while not (broken / "unfinished" / "chunk-000.pt").exists():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (broken / "metrics.json").exists()
    subprocess.run([HELIOGRAPH, *words, "-o", broken, "--resume"], check=True, env=environment)
    assert contents(broken) == contents(whole)
    assert not (broken / "unfinished").exists()


@pytest.mark.parametrize(
    ("settings", "epochs"),  # settings, and epochs over all seeds before it dies
    [
        ({}, 63),
        ({"oracle_epochs": 2, "properties": ["mass", "volume"], "axes": 6, "seeds": 2}, 23),
        ({"resets": "staggered", "reset_interval": 3, "seeds": 2}, 21),
        ({"channel": "continuous", "preset": "published", "seeds": 1}, 11),
        ({"agents": 1, "heads": 1, "seeds": [3, 1]}, 1),
    ],
)
def test_wherever_it_stops_it_goes_on_to_the_same_bits(cache_path, tmp_path, settings, epochs):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    told = QUICK | settings
    train(cache_path, whole, **told)
    with pytest.raises(Killed):
        train(cache_path, broken, **told, progress=die_after(epochs))
    assert not (broken / "metrics.json").exists()
    train(cache_path, broken, **told, resume=True)
    assert contents(broken) == contents(whole)


def test_an_unfinished_training_is_not_gone_on_with_unasked(cache_path, tmp_path):
    with pytest.raises(Killed):
        train(cache_path, tmp_path / "run", **SHORT, progress=die_after(11))
    with pytest.raises(HeliographError, match="unfinished training: --resume goes on"):
        train(cache_path, tmp_path / "run", **SHORT)
    train(cache_path, tmp_path / "run", **SHORT | {"vocab": 3}, overwrite=True)
    assert Run.open(tmp_path / "run").config.vocab == 3
    assert not (tmp_path / "run" / "unfinished").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"vocab": 3}, "its vocab is 8, now 3"),
        ({"seeds": 2}, "its seeds is"),
        ({"properties": ["volume"]}, "its properties is"),
    ],
)
def test_another_training_is_not_mistaken_for_it(cache_path, tmp_path, change, sentence):
    out = tmp_path / "run"
    with pytest.raises(Killed):
        train(cache_path, out, **SHORT, progress=die_after(11))
    with pytest.raises(HeliographError, match="of something else") as error:
        train(cache_path, out, **SHORT | change, resume=True)
    assert sentence in str(error.value)
    train(cache_path, out, **SHORT, resume=True)
    with pytest.raises(HeliographError, match="a finished run of something else") as error:
        train(cache_path, out, **SHORT | change, resume=True)
    assert sentence in str(error.value)


def test_a_cache_that_changed_is_another_training(cache_path, tmp_path, features):
    out = tmp_path / "run"
    with pytest.raises(Killed):
        train(cache_path, out, **SHORT, progress=die_after(11))
    cache.save(features.select(range(len(features) - 2)), cache_path)
    with pytest.raises(HeliographError, match="of something else: its cache made is"):
        train(cache_path, out, **SHORT, resume=True)


def test_a_state_of_another_training_or_a_damaged_one_is_refused(cache_path, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for out, vocab in ((one, 4), (other, 5)):
        with pytest.raises(Killed):
            train(cache_path, out, **SHORT | {"vocab": vocab}, progress=die_after(11))
    state = Path("unfinished", "chunk-000.pt")
    (one / state).write_bytes((other / state).read_bytes())
    with pytest.raises(HeliographError, match=r"chunk-000\.pt is of another training"):
        train(cache_path, one, **SHORT | {"vocab": 4}, resume=True)
    (one / state).write_bytes((other / state).read_bytes()[:1000])
    with pytest.raises(HeliographError, match=r"chunk-000\.pt is damaged"):
        train(cache_path, one, **SHORT | {"vocab": 4}, resume=True)


def test_resuming_what_is_finished_changes_nothing(cache_path, tmp_path):
    out = tmp_path / "run"
    train(cache_path, out, **SHORT | {"epochs": 2})
    before = contents(out)
    said = []
    train(cache_path, out, **SHORT | {"epochs": 2}, resume=True, log=said.append)
    assert contents(out) == before
    assert f"{out} is finished already" in said


def test_overwriting_leaves_nothing_of_the_run_before(cache_path, tmp_path):
    out = tmp_path / "run"
    train(cache_path, out, **SHORT | {"epochs": 2, "seeds": 3})
    train(cache_path, out, **SHORT | {"epochs": 2, "seeds": 2}, overwrite=True)
    assert sorted(path.name for path in (out / "seeds").iterdir()) == ["0", "1"]
    assert len(json.loads((out / "metrics.json").read_text())["seeds"]) == 2


def test_the_command_says_how_to_go_on(cache_path, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(Killed):
        train(cache_path, out, **SHORT, progress=die_after(11))
    shown = run_command("train", str(cache_path), "-o", str(out))
    assert shown.exit_code == 1
    assert "--resume goes on with it" in shown.stderr


@pytest.mark.parametrize("again", [{"resume": True}, {"overwrite": True}])
def test_two_trainings_into_one_folder_the_second_says_who_holds_it(cache_path, tmp_path, again):
    brief, refusals = SHORT | {"epochs": 2}, []

    def progress(done: int, total: int, note: str) -> None:
        with pytest.raises(BusyError, match=f"r is being written by process {os.getpid()} on"):
            train(cache_path, tmp_path / "r", **brief, **again)
        refusals.append(done)

    run = train(cache_path, tmp_path / "r", **brief, progress=progress)
    assert refusals
    assert contents(run.folder) == contents(train(cache_path, tmp_path / "q", **brief).folder)
    assert not (run.folder / "lock").exists()


def test_a_file_in_the_place_of_the_folder_is_named(cache_path, tmp_path):
    (tmp_path / "r").write_text("not a folder")
    with pytest.raises(WriteError, match="r cannot be written: File exists"):
        train(cache_path, tmp_path / "r", **SHORT)
