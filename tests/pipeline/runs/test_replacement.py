"""A new run takes the place of an older one: whenever the process dies, one of the two is there."""

import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from data import cache
from data.cache import Features
from data.errors import HeliographError
from data.files import WriteError
from data.lock import Lock
from pipeline.config import build_config
from pipeline.dataset import build_examples, read_inputs
from pipeline.runs import CONTROL, Run, held, new_run, replacement, write_run
from pipeline.training import fit, train
from tests.helpers.command import run as run_command
from tests.helpers.kills import dies_after
from tests.helpers.runs import contents

BRIEF = {"properties": ["mass"], "epochs": 1}


@dataclass(frozen=True)
class Made:
    """A run in a folder, and how another one is written there."""

    folder: Path
    write: Callable[[Path], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory, features: Features) -> Made:
    folder = tmp_path_factory.mktemp("made")
    path = folder / "made.h5"
    cache.save(features, path)
    train(path, folder / "old", **BRIEF, seeds=3, vocab=3, control=True)
    run_command("report", folder / "old")
    (folder / "old" / "notes.txt").write_text("of the user")
    config = build_config("default", ("mass",), epochs=1, vocab=4)
    inputs = read_inputs({"made": path})
    results = list(fit(build_examples(inputs.caches, ("mass",)), config, [0, 1]))

    def write(out: Path) -> None:
        with held(out), new_run(out) as new:
            run = write_run(new, config, inputs, results)
            run.seal()

    return Made(folder / "old", write)


def read_whole(out: Path) -> int | None:
    """The vocabulary of the run in a folder, all of whose files agree; None while it is moved."""
    if (out / ".incoming").exists():
        with pytest.raises(HeliographError, match="holds a new run that is not in its place yet"):
            Run.open(out)
        return None
    run = Run.open(out)
    for seed in (None, *run.seeds):
        of_seed = run if seed is None else run.of_seed(seed)
        of_seed.sender()
        of_seed.receiver()
        of_seed.messages()
    run.metrics()
    run.history()
    assert (run.control() is None) is (run.config.vocab == 4)
    return run.config.vocab


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.soak)])
def test_whenever_the_process_dies_the_old_run_or_the_new_one_is_there(made, tmp_path, step):
    old, new = contents(made.folder), tmp_path / "new"
    made.write(new)
    expected = contents(new) | {"notes.txt": b"of the user"}
    found = []
    for changes in range(0, 1000, step):
        out = tmp_path / str(changes)
        shutil.copytree(made.folder, out)
        was_killed = dies_after(changes, lambda: made.write(out))  # noqa: B023 - it is over by then
        found.append(read_whole(out))
        if found[-1] == 3:
            assert {name: content for name, content in contents(out).items() if name in old} == old
        with held(out):  # the next start
            pass
        assert contents(out) == (old if found[-1] == 3 else expected)
        assert not any(path.name.startswith(".") for path in out.iterdir())
        shutil.rmtree(out)
        if not was_killed:
            break
    assert {3, 4} <= set(found) <= {3, None, 4}
    assert found == sorted(found, key=[3, None, 4].index)


def test_a_finish_that_is_killed_is_finished_by_the_next(made, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(made.folder, out)
    made.write(tmp_path / "new")
    shutil.copytree(tmp_path / "new", out / ".incoming")
    starts = 0
    while (out / ".incoming").exists():
        assert read_whole(out) is None
        dies_after(4, lambda: replacement.finish(out))
        starts += 1
    assert starts > 3
    replacement.finish(out)
    assert read_whole(out) == 4


def test_an_error_leaves_the_run_as_it_was(made, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(made.folder, out)
    with pytest.raises(FileNotFoundError), held(out), new_run(out) as new:
        (new / "nowhere" / "config.json").touch()
    assert contents(out) == contents(made.folder)
    assert not (out / ".new").exists()


@pytest.fixture
def moving(made, tmp_path) -> Path:
    """A run folder whose new run is not in its place yet; its name needs quotes in a shell."""
    out = tmp_path / "my run"
    shutil.copytree(made.folder, out)
    made.write(tmp_path / "new")
    shutil.copytree(tmp_path / "new", out / ".incoming")
    return out


def test_the_sentence_about_an_unfinished_move_names_the_command_that_finishes_it(made, moving):
    shown = run_command("message", moving, Run.open(made.folder).source.path)
    assert shown.exit_code == 1
    command, *words = shlex.split(shown.stderr.split("`")[1])
    assert (command, words) == ("heliograph", ["report", str(moving)])
    shown = run_command(*words)
    assert shown.exit_code == 0, shown.stderr
    assert read_whole(moving) == 4


@pytest.mark.parametrize("words", ["train SOURCE -o RUN", "evaluate RUN --permutations 10"])
def test_the_next_command_that_writes_into_the_folder_finishes(made, moving, words):
    places = {"SOURCE": Run.open(made.folder).source.path, "RUN": moving}
    shown = run_command(*(places.get(word, word) for word in words.split()))
    if words.startswith("train"):
        assert f"{moving} holds a run already" in shown.stderr
    else:
        assert shown.exit_code == 0, shown.stderr
    assert read_whole(moving) == 4


def test_while_another_process_moves_a_run_a_sentence_says_so(moving):
    lock = Lock(moving / replacement.LOCK, moving)
    shown = run_command("report", moving)
    lock.release()
    assert shown.exit_code == 1
    assert f"{moving} is being written by process" in shown.stderr
    assert (moving / ".incoming").is_dir()


def test_files_in_the_place_of_a_run_are_not_replaced_unasked(made, cache_path, tmp_path):
    out = tmp_path / "project"
    out.mkdir()
    (out / "config.json").write_text("of another program")
    with pytest.raises(HeliographError, match=r"holds config\.json, whose place the run would"):
        train(cache_path, out, **BRIEF)
    assert (out / "config.json").read_text() == "of another program"


def test_a_result_that_is_added_late_is_not_added_to_another_run(made, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(made.folder, out)
    opened = Run.open(out)
    made.write(out)
    before = contents(out)
    with pytest.raises(HeliographError, match="holds another run since it was opened"):
        opened.add_metrics({"notes": ["of the old run"]})
    with pytest.raises(HeliographError, match="holds another run since it was opened"):
        opened.messages()
    assert contents(out) == before


def test_a_control_of_the_run_before_goes(made, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(made.folder, out)
    assert Run.open(out).control() is not None
    made.write(out)
    assert not (out / CONTROL).exists()
    assert not (out / "report.html").exists()
    assert (out / "notes.txt").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".replacing/unfinished", "something that is not a folder is in the way"),
        (".replacing", "something else is in its place"),
        (".replaced", "something that is not a folder is in the way"),
        (".new", "something else is in its place"),
    ],
)
def test_what_is_in_the_way_of_a_run_is_named(made, tmp_path, name, reason):
    out = tmp_path / "r"
    (out / name).parent.mkdir(parents=True)
    (out / "unfinished").mkdir()
    (out / name).write_text("of the user")
    with pytest.raises(WriteError, match=f"r/{name} cannot be written: {reason}"):
        made.write(out)
    assert (out / name).read_text() == "of the user"
