"""The `hub` commands, and addresses of the hub in place of runs, caches and checkpoints."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.runs import Run
from tests.helpers.command import run
from tests.helpers.hub import Hub, serve_hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serve_hub(Hub(), monkeypatch, tmp_path / "hub cache"):
        yield Hub()


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spoken_run: Run) -> Iterator[Hub]:
    """A hub with a run that `hub push --out` wrote, and its cache in the dataset user/clips."""
    hub, copy = Hub(), tmp_path / "copy"
    with serve_hub(hub, monkeypatch, tmp_path / "hub cache"):
        shown = run("hub", "push", spoken_run.folder, "user/ramp", "-o", copy)
        assert (shown.exit_code, shown.stdout) == (0, f"{copy}\n"), shown.stderr
        assert "nothing was sent" in shown.stderr
        names = [path for path in copy.rglob("*") if path.is_file()]
        files = {path.relative_to(copy).as_posix(): path.read_bytes() for path in names}
        hub.add("user/ramp", files)
        hub.add("datasets/user/clips", {"made.h5": spoken_run.sources[0].path.read_bytes()})
        assert not hub.sent
        yield hub


def test_commands_take_addresses_for_runs_caches_and_checkpoints(
    shared: Hub, spoken_run: Run, tmp_path: Path
):
    commit = shared.commits["datasets/user/clips"][0][0]
    cache = "hf://datasets/user/clips/made.h5"
    of_run = f"hf://user/ramp@{shared.commits['user/ramp'][0][0]}"

    said = run("message", "hf://user/ramp", cache)
    assert said.exit_code == 0, said.stderr
    assert f"hf://user/ramp: {of_run}" in said.stderr
    mine = run("message", spoken_run.folder, spoken_run.sources[0].path)
    messages = [[line.split("\t")[1] for line in one.stdout.splitlines()] for one in (said, mine)]
    assert messages[0] == messages[1]

    made = run("train", f"spring={cache}", "-o", tmp_path / "new", "--property", "mass",
               "--seeds", 1, "--epochs", 1)  # fmt: skip
    assert made.exit_code == 0, made.stderr
    (source,) = Run.open(tmp_path / "new").sources
    assert source.name == "spring"
    assert source.path.parts[-3:] == ("snapshots", commit, "made.h5")

    imported = run("import-checkpoint", "hf://user/ramp/model.pt", "-o", tmp_path / "old",
                   "--cache", cache, "--json")  # fmt: skip
    assert imported.exit_code == 1  # ridge encoders are none of the paper's
    assert "has no encoder as the paper's" in imported.stderr

    scored = run("evaluate", "hf://user/ramp", "--cache", cache)
    assert scored.exit_code == 1
    assert f"`heliograph hub pull {of_run} -o RUN` makes a run of your own" in scored.stderr
    compared = run("compare", spoken_run.folder, of_run, "--json")
    assert compared.exit_code == 0, compared.stderr
    found = run("cache", "verify", cache)
    assert found.exit_code == 0, found.stderr


def test_a_pulled_run_is_reported_and_pulled_again_only_where_it_may(shared: Hub, tmp_path: Path):
    pulled = run("hub", "pull", "user/ramp", "-o", tmp_path / "run")
    assert pulled.exit_code == 0, pulled.stderr
    again = run("hub", "pull", "user/ramp", "-o", tmp_path / "run")
    assert (again.exit_code, again.stderr.count("holds a run already")) == (1, 1)
    assert run("hub", "pull", "user/ramp", "-o", tmp_path / "run", "--overwrite").exit_code == 0
    assert run("report", tmp_path / "run").exit_code == 0
    stored = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert stored["pulled_from"] == f"hf://user/ramp@{shared.commits['user/ramp'][0][0]}"


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["cache", "info", "hf://user"], 2, "hf://user is no address of the Hugging Face Hub"),
        (["cache", "info", "hf://user/no/a.h5"], 1, "a dataset's address is hf://datasets/user/no"),
        (
            ["cache", "label", "hf://user/a/a.h5", "b.csv"],
            1,
            "a.h5 cannot be fetched: the server answers 401",
        ),
        (["runs", "hf://user/a"], 2, "hf://user/a is an address, and this has to be on this"),
        (
            ["probe", "hf://user/a/a.mp4"],
            1,
            "a.mp4 cannot be fetched: the server answers 401",
        ),
        (["hub", "pull", "user", "-o", "run"], 2, "hf://user is no address"),
        (["hub", "push", "missing", "user/a", "-o", "copy"], 1, "there is no such folder"),
        (["hub", "push", "run", "user/a", "--clips", "b"], 2, "which --with-pictures shows"),
        (["hub", "push", "run", "user/a", "-o", "/"], 1, "is not an empty folder"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_what_goes_wrong_is_said(words, code, sentence, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.csv").write_text("path,mass\na.mp4,1\n")
    (tmp_path / "a.mp4").touch()
    shown = run(*words)
    assert (shown.exit_code, sentence in shown.stderr) == (code, True), shown.stderr
