"""A training that was killed goes on to the same bits; nothing stale is mistaken for it."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from data import cache
from data.errors import HeliographError
from data.files import WriteError
from data.lock import BusyError
from data.screening import is_recorded
from pipeline.runs import Run
from pipeline.training import train
from pipeline.training.checkpoints import TrainingCheckpointer, check
from pipeline.training.trainer import MultiSeedTrainer
from tests.helpers.command import run as run_command
from tests.helpers.runs import contents

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
        ({"channel": "continuous", "preset": "published", "seeds": 1, "soft_epochs": None}, 11),
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
        ({"kept_epoch": "last"}, "its kept_epoch is best, now last; "),  # usual, so not stored
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


def test_a_training_of_the_older_noise_is_not_gone_on_with(cache_path, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(Killed):
        train(cache_path, out, **SHORT, progress=die_after(11))
    path = out / "unfinished" / "identity.json"
    identity = json.loads(path.read_text())
    assert identity.pop("noise") == "philox"
    path.write_text(json.dumps(identity, indent=1) + "\n")
    with pytest.raises(HeliographError) as error:
        train(cache_path, out, **SHORT, resume=True)
    assert str(error.value) == (
        f"{out} holds an unfinished training of something else: its noise is torch's generator, "
        "now philox; go on with the version that began it, or start again with --overwrite"
    )


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


TINY = SHORT | {"epochs": 2}


@pytest.fixture(scope="module")
def killed(tmp_path_factory, features) -> Path:
    """The folder of a training that was killed, next to its cache."""
    folder = tmp_path_factory.mktemp("killed")
    cache.save(features, folder / "made.h5")
    with pytest.raises(Killed):
        train(folder / "made.h5", folder / "run", **TINY, progress=die_after(2))
    return folder


@pytest.fixture
def unfinished(killed, tmp_path) -> Path:
    """A copy of the run folder."""
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run"


def checkpointer_of(folder: Path) -> TrainingCheckpointer:
    identity = json.loads((folder / "unfinished" / "identity.json").read_text())
    return TrainingCheckpointer(folder, identity)


def begin_and_load(checkpointer: TrainingCheckpointer) -> dict:
    checkpointer.begin(resume=True, overwrite=False)
    return checkpointer.load(0)


@pytest.mark.parametrize("name", ["identity.json", "chunk-000.pt"])
def test_no_bit_of_a_state_that_flipped_is_gone_on_from(unfinished, name):
    checkpointer, path = checkpointer_of(unfinished), unfinished / "unfinished" / name
    content, draw = path.read_bytes(), random.Random(name)
    for _ in range(200 if name == "identity.json" else 20):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(HeliographError, match=r"is damaged|of something else"):
            begin_and_load(checkpointer)
    path.write_bytes(content)
    assert begin_and_load(checkpointer)["epoch"] == 1


def test_states_whose_names_were_swapped_are_refused(unfinished):
    first, second = (unfinished / "unfinished" / f"chunk-00{number}.pt" for number in (0, 1))
    shutil.copy(first, second)
    with pytest.raises(HeliographError, match=r"chunk-001\.pt is of another training"):
        checkpointer_of(unfinished).load(1)


@pytest.mark.parametrize("plant", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
@pytest.mark.parametrize("name", ["identity.json", "chunk-000.pt"])
def test_what_is_no_file_among_the_states_is_refused(unfinished, name, plant):
    checkpointer = checkpointer_of(unfinished)
    (unfinished / "unfinished" / name).unlink()
    plant(unfinished / "unfinished" / name)
    with pytest.raises(HeliographError, match=f"{name} is not read: it is a"):
        begin_and_load(checkpointer)
    checkpointer.begin(resume=False, overwrite=True)
    assert not (unfinished / "unfinished").exists()


def test_a_state_of_another_device_is_gone_on_with(killed, tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(killed / "made.h5", whole, **TINY)
    with monkeypatch.context() as patch:
        patch.setattr("torch.serialization.location_tag", lambda storage: "cuda:7")
        with pytest.raises(Killed):
            train(killed / "made.h5", broken, **TINY, progress=die_after(3))
    train(killed / "made.h5", broken, **TINY, resume=True)
    assert contents(broken) == contents(whole)


def test_a_state_of_another_account_is_read_in_another_process_first(unfinished, monkeypatch):
    asked = []

    def screen(path: Path, identity: str, checker: str) -> None:
        asked.append((path.name, identity, checker))
        raise HeliographError("refused there")

    monkeypatch.setattr("data.screening.require_screened", screen)
    with pytest.raises(HeliographError, match="refused there"):
        checkpointer_of(unfinished).load(0)
    identity = check(unfinished / "unfinished" / "chunk-000.pt")
    assert asked == [("chunk-000.pt", identity, "pipeline.training.checkpoints:check")]
    assert is_recorded(identity)  # it was written here


def test_a_state_of_something_else_is_no_traceback(unfinished):
    checkpointer_of(unfinished).save(0, {"epoch": "six"})
    with pytest.raises(HeliographError, match=r"chunk-000\.pt is damaged"):
        train(unfinished.parent / "made.h5", unfinished, **TINY, resume=True)


def test_a_full_disk_costs_no_state(killed, tmp_path, monkeypatch):
    out = tmp_path / "run"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def progress(done: int, total: int, note: str) -> None:
        if done == 2:
            monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(WriteError, match="cannot be written: the disk is full"):
        train(killed / "made.h5", out, **TINY, progress=progress)
    monkeypatch.undo()
    assert begin_and_load(checkpointer_of(out))["epoch"] == 1
    train(killed / "made.h5", out, **TINY, resume=True)
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate "
        "memory: you tried to allocate 4000000000000 bytes."),
    ],
)  # fmt: skip
def test_too_little_memory_is_a_sentence_with_what_to_lower(
    cache_path, tmp_path, monkeypatch, error
):
    def out_of_memory(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(MultiSeedTrainer, "run", out_of_memory)
    shown = run_command("train", cache_path, "-o", tmp_path / "r", "--seeds", 2, "--device", "cpu")
    assert shown.exit_code == 1
    (sentence,) = [line for line in shown.stderr.splitlines() if line.startswith("Error: ")]
    assert "too little memory to train 2 seeds at once: lower --seeds, --batch (32)" in sentence


def test_the_control_is_kept_while_the_run_is_trained(killed, tmp_path):
    source, whole, broken = killed / "made.h5", tmp_path / "whole", tmp_path / "broken"
    settings = TINY | {"control": True}
    train(source, whole, **settings)
    with pytest.raises(Killed):
        train(source, broken, **settings, progress=die_after(7))
    assert [path.name for path in broken.iterdir()] == ["unfinished"]
    notes = []
    resumed = {"resume": True, "progress": lambda done, total, note: notes.append(note)}
    train(source, broken, **settings, **resumed)
    assert contents(broken) == contents(whole)
    assert notes
    assert not any(note.startswith("1x64") for note in notes)


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
    with pytest.raises(WriteError, match="r cannot be written: something else is in its place"):
        train(cache_path, tmp_path / "r", **SHORT)


# What is left in the folder of a whole run


def test_a_run_whose_next_training_is_unfinished_says_both(cache_path, tmp_path):
    out = tmp_path / "run"
    train(cache_path, out, **TINY)
    before = contents(out)
    with pytest.raises(Killed):
        train(cache_path, out, **TINY | {"vocab": 3}, overwrite=True, progress=die_after(2))
    with pytest.raises(HeliographError, match="holds a run already, and an unfinished training"):
        train(cache_path, out, **TINY)
    assert {name: contents(out)[name] for name in before} == before
    train(cache_path, out, **TINY | {"vocab": 3}, resume=True)
    assert Run.open(out).config.vocab == 3
    assert not (out / "unfinished").exists()


def test_states_without_an_identity_go_once_the_run_is_whole(unfinished, tmp_path):
    train(tmp_path / "made.h5", tmp_path / "whole", **TINY)
    shutil.copytree(unfinished / "unfinished", tmp_path / "whole" / "unfinished")
    (tmp_path / "whole" / "unfinished" / "identity.json").unlink()
    train(tmp_path / "made.h5", tmp_path / "whole", **TINY, resume=True)
    assert not (tmp_path / "whole" / "unfinished").exists()


def test_a_state_that_was_hardly_written_is_not_read(unfinished):
    with open(unfinished / "unfinished" / "chunk-000.pt", "wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(HeliographError, match=r"chunk-000\.pt is damaged"):
        begin_and_load(checkpointer_of(unfinished))


def test_an_unfinished_training_is_no_run_yet(unfinished):
    with pytest.raises(HeliographError, match="holds no run yet, but an unfinished training: the"):
        Run.open(unfinished)


# Faults of the disk


@pytest.mark.parametrize(
    ("code", "reason"),
    [(errno.EIO, "the disk failed"), (errno.EACCES, "Permission denied")],
)
@pytest.mark.parametrize("call", ["fsync", "replace", "rename", "mkdir"])
def test_a_training_whose_disk_fails_ends_in_a_sentence_and_goes_on_later(
    cache_path, tmp_path, monkeypatch, code, reason, call
):
    out = tmp_path / "run"
    with pytest.raises(Killed):
        train(cache_path, out, **TINY, progress=die_after(2))

    def fail(path: object, *_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), *([path] if isinstance(path, str | Path) else []))

    words = ["train", cache_path, "-o", out, "--property", "mass", "--epochs", 2]
    words += ["--seeds", 1, "--reset-interval", 5, "--soft-epochs", 3, "--resume"]
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        shown = run_command(*words)
    assert shown.exit_code == 1
    assert "Traceback" not in shown.output
    (sentence,) = [line for line in shown.stderr.splitlines() if line.startswith("Error: ")]
    assert str(out) in sentence
    assert f"cannot be written: {reason}" in sentence
    shown = run_command(*words)
    assert shown.exit_code == 0, shown.stderr
    assert Run.open(out).metrics()
