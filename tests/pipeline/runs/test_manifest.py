"""The manifest of a run: nothing that was damaged is served, and nothing sound is refused."""

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from data import cache
from data.cache import Features
from data.errors import HeliographError
from data.files import UnsafeFileError, WriteError
from data.screening import record
from pipeline.evaluation import compare
from pipeline.message import load, load_lexicon
from pipeline.report import write_report
from pipeline.runs import Run, import_checkpoint
from pipeline.runs.manifest import MANIFEST, RunFiles, new_id
from pipeline.training import train
from tests.helpers.command import run as run_command
from tests.helpers.kills import dies_after
from tests.helpers.runs import reseal, unseal

READERS: dict[str, Callable[[Path], object]] = {
    "config.json": Run.open,
    "model.safetensors": lambda folder: Run.open(folder).sender(),
    "messages.jsonl": lambda folder: Run.open(folder).messages(),
    "metrics.json": lambda folder: Run.open(folder).metrics(),
    "lexicon.json": lambda folder: load_lexicon(Run.open(folder)),
    "history.csv": lambda folder: Run.open(folder).history(),
    "model.pt": lambda folder: import_checkpoint(
        folder / "model.pt",
        folder / "new",
        cache_path=folder.parent / "made.h5",
        property="mass",
    ),
    "seeds/1/model.safetensors": lambda folder: Run.open(folder).of_seed(1).receiver(),
    "seeds/1/messages.jsonl": lambda folder: Run.open(folder).tokens(1),
    "seeds/1/model.pt": lambda folder: import_checkpoint(
        folder / "seeds" / "1" / "model.pt",
        folder / "new",
        cache_path=folder.parent / "made.h5",
        property="mass",
    ),
}
"""What reads each file of a run."""
BRIEF = ("--property", "mass", "--epochs", 2, "--seeds", 2)


@pytest.fixture(scope="module")
def made(tmp_path_factory, features: Features) -> Run:
    folder = tmp_path_factory.mktemp("manifest")
    cache.save(features, folder / "made.h5")
    return train(folder / "made.h5", folder / "run", properties=["mass"], epochs=2, seeds=2)


@pytest.fixture
def folder(made: Run, tmp_path: Path) -> Path:
    """A copy of the run."""
    shutil.copytree(made.folder, tmp_path / "run")
    os.link(made.folder.parent / "made.h5", tmp_path / "made.h5")
    return tmp_path / "run"


@pytest.mark.parametrize("name", READERS)
def test_no_bit_that_flipped_is_served(folder, name):
    READERS[name](folder)
    shutil.rmtree(folder / "new", ignore_errors=True)
    path = folder / name
    content, draw = path.read_bytes(), random.Random(name)
    for _ in range(20):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(HeliographError) as error:
            READERS[name](folder)
        assert str(error.value).startswith(f"{path} is damaged: it is not what was written")
    assert not (folder / "new").exists()


def test_no_flip_of_the_manifest_makes_it_vouch_for_another_file(folder):
    path = folder / MANIFEST
    content, draw = path.read_bytes(), random.Random(1)
    before = Run.open(folder).messages()
    for _ in range(60):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        files = RunFiles(folder)
        try:
            files._load()
            assert files.read("messages.jsonl") == (folder / "messages.jsonl").read_bytes()
        except HeliographError as error:
            assert "is damaged" in str(error) or "has schema version" in str(error)  # noqa: PT017
    path.write_bytes(content)
    assert Run.open(folder).messages() == before


def test_a_file_that_is_not_in_the_manifest_is_not_read(folder):
    stored = json.loads((folder / MANIFEST).read_text())
    del stored["files"]["history.csv"]
    (folder / MANIFEST).write_text(json.dumps(stored))
    reseal(folder)
    with pytest.raises(HeliographError, match=r"history\.csv is damaged: it is not what was writ"):
        Run.open(folder).history()


def test_every_command_refuses_a_damaged_file_with_exit_code_1(made, folder):
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    commands = [
        ("message", folder, folder.parent / "made.h5"),
        ("report", folder),
        ("evaluate", folder, "--permutations", 10),
        ("compare", folder, made.folder),
        ("compare", made.folder, folder),
        ("train", folder.parent / "made.h5", "-o", folder, "--resume", *BRIEF),
    ]
    for words in commands:
        shown = run_command(*words)
        assert shown.exit_code == 1, words
        assert f"Error: {weights} is damaged: it is not what was written" in shown.stderr


TOP = [
    "config.json",
    "model.safetensors",
    "model.pt",
    "metrics.json",
    "history.csv",
    "messages.jsonl",
    "lexicon.json",
    "readout.json",
]


@pytest.mark.parametrize("name", TOP)
def test_opening_a_run_checks_what_is_at_its_top(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(HeliographError, match=f"{name} is damaged: it is not what was written"):
        Run.open(folder)


def test_all_files_at_the_top_of_a_run_are_checked_but_its_page(folder):
    write_report(folder)
    listed = json.loads((folder / MANIFEST).read_text())["files"]
    assert {name for name in listed if "/" not in name} == {*TOP, "report.html"}
    (folder / "report.html").write_text("half a page")
    Run.open(folder)  # nothing is answered from the page, and `report` makes it anew
    write_report(folder)
    assert RunFiles.open(folder).read("report.html").startswith(b"<!doctype html>")


def test_a_file_that_no_answer_needs_may_be_missing(folder):
    (folder / "model.pt").unlink()
    assert run_command("message", folder, folder.parent / "made.h5").exit_code == 0


def read(folder: Path) -> None:
    """Read what every command reads."""
    run = Run.open(folder)
    run.sender()
    run.metrics()
    run.stored_object("lexicon.json")


# Changes


def test_a_change_that_is_killed_leaves_a_sound_run(folder):
    original, found = folder, []
    for changes in range(100):
        folder = original.with_name(str(changes))
        shutil.copytree(original, folder)
        was_killed = dies_after(
            changes,
            lambda: Run.open(folder).add_metrics({"notes": ["a new note"]}),  # noqa: B023
        )
        run = Run.open(folder)
        found.append(list(run.metrics().notes))
        run.messages()
        run.write("lexicon.json", (folder / "lexicon.json").read_bytes())  # the next change
        stored = json.loads((folder / MANIFEST).read_text())
        assert not any("replaces" in entry for entry in stored["files"].values())
        assert not list(folder.glob(".*.tmp"))
        assert list(Run.open(folder).metrics().notes) == found[-1]
        if not was_killed:
            break
    before = list(Run.open(original).metrics().notes)
    assert [found[0], found[-1]] == [before, ["a new note"]]
    assert len(found) > 8


def test_a_file_that_is_new_and_never_came_is_not_missed(folder):
    stored = json.loads((folder / MANIFEST).read_text())
    planned = stored["files"]["config.json"] | {"replaces": None}
    stored["files"]["report.html"] = planned
    (folder / MANIFEST).write_text(json.dumps(stored))
    record(RunFiles.open(folder).identity)
    Run.open(folder).add_metrics({"notes": []})
    assert "report.html" not in json.loads((folder / MANIFEST).read_text())["files"]


def test_a_full_disk_leaves_a_sound_run(folder, monkeypatch):
    run = Run.open(folder)
    before = run.metrics()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(WriteError, match=r"manifest\.json cannot be written: the disk is full"):
            run.add_metrics({"notes": ["never"]})
    assert Run.open(folder).metrics() == before
    Run.open(folder).add_metrics({"notes": ["now"]})


def test_processes_that_change_a_run_take_turns(folder):
    first, second = Run.open(folder), Run.open(folder)
    first.add_metrics({"notes": ["first"]})
    second.write("report.html", "<p>")
    second.add_metrics({"imported_from": "second"})
    last = Run.open(folder).metrics()
    assert (list(last.notes), last.imported_from) == (["first"], "second")
    assert RunFiles.open(folder).read("report.html") == b"<p>"


# The id of a run


def test_two_runs_that_are_equal_have_two_ids(made, tmp_path):
    again = train(made.source.path, tmp_path / "run", properties=["mass"], epochs=2, seeds=2)
    assert again.sha256("model.safetensors") == made.sha256("model.safetensors")
    assert again.id != made.id
    before = made.id
    Run.open(again.folder).add_metrics({"notes": ["changed"]})
    assert Run.open(again.folder).id == again.id
    assert Run.open(made.folder).id == before


def test_a_result_is_not_added_to_an_equal_run_that_came_since(made, folder):
    opened = Run.open(folder)
    stored = json.loads((folder / MANIFEST).read_text()) | {"id": new_id()}
    (folder / MANIFEST).write_text(json.dumps(stored))
    record(RunFiles.open(folder).identity)
    with pytest.raises(HeliographError, match="holds another run since it was opened"):
        opened.add_metrics({"notes": ["of the old run"]})


@pytest.mark.parametrize("change", [{"id": "0" * 40}, {"id": 3}, {"ie": new_id()}, {"id": "a"}])
def test_a_damaged_id_is_refused(folder, change):
    stored = json.loads((folder / MANIFEST).read_text())
    if "ie" in change:
        del stored["id"]
    (folder / MANIFEST).write_text(json.dumps(stored | change))
    with pytest.raises(HeliographError, match=r"manifest\.json is damaged: it has no id, or"):
        Run.open(folder)


def test_a_run_of_an_older_version_has_no_id_and_gets_none(folder):
    stored = json.loads((folder / MANIFEST).read_text())
    del stored["id"]
    (folder / MANIFEST).write_text(json.dumps(stored))
    record(RunFiles.open(folder).identity)
    run = Run.open(folder)
    run.add_metrics({"notes": ["changed"]})
    assert run.id == ""
    assert "id" not in json.loads((folder / MANIFEST).read_text())


# Runs without a manifest


def test_a_run_without_a_manifest_is_read_and_marked(made, folder):
    unseal(folder)
    run = Run.open(folder)
    assert "no manifest.json" in run.unchecked
    assert run.metrics() == made.metrics()
    assert run.messages() == made.messages()
    assert compare(made.folder, folder)["unchecked"] == [str(folder)]
    shown = run_command("compare", made.folder, folder).stdout
    assert f"{folder}: not checked" in " ".join(shown.split())
    page = write_report(folder).path.read_text()
    assert page.lower().count("the files of this run are not checked") >= 2
    said = run_command("message", folder, run.source.path, "--json")
    assert all("not checked" in json.loads(line)["unchecked"] for line in said.stdout.splitlines())
    assert "are not checked" in said.stderr
    shown = run_command("evaluate", folder, "--permutations", 10, "--json")
    assert json.loads(shown.stdout)["unchecked"] is True
    assert not (folder / MANIFEST).exists()  # nothing vouches for what was there before
    assert Run.open(folder).metrics().unchecked is True


def test_a_checked_run_is_not_marked(made):
    assert made.unchecked == ""
    assert compare(made.folder, made.folder)["unchecked"] == []
    (first, *_) = load(made.folder).messages_for_caches([cache.load(made.source.path)])
    assert "unchecked" not in first.to_json()
    assert made.metrics().unchecked is None


# Runs from elsewhere


def link_to_fifo(path: Path) -> None:
    os.mkfifo(path.with_name("fifo"))
    path.symlink_to("fifo")


NO_FILES: list[tuple[Callable[[Path], object], str]] = [
    (os.mkfifo, "is not read: it is a FIFO"),
    (Path.mkdir, "is not read: it is a folder"),
    (link_to_fifo, "is not read: it is a FIFO"),
    (lambda path: path.symlink_to("/dev/zero"), "is not read: it is a device"),
    (lambda path: path.symlink_to(path.parent), "is not read: it is a folder"),
    (lambda path: path.symlink_to(path.name), "cannot be read: Too many levels of symbolic links"),
    (lambda path: path.symlink_to("gone"), "is a symbolic link to a missing file"),
]


@pytest.mark.parametrize("name", ["model.safetensors", "metrics.json", MANIFEST, "config.json"])
@pytest.mark.parametrize(("plant", "sentence"), NO_FILES)
def test_what_is_no_file_is_refused_at_once(folder, name, plant, sentence):
    (folder / name).unlink()
    plant(folder / name)
    with pytest.raises(HeliographError, match=f"{name} {sentence}"):
        read(folder)


@pytest.fixture
def snapshot(folder, tmp_path) -> Path:
    """The run as the cache of the Hugging Face hub has it: links to files named by their hash."""
    place, blobs = tmp_path / "snapshots" / "0123abcd", tmp_path / "blobs"
    blobs.mkdir()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "lock":
            content = path.read_bytes()
            blob = blobs / hashlib.sha256(content).hexdigest()
            blob.write_bytes(content)
            link = place / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
    return place


def test_a_run_of_links_is_read_as_the_run_itself(made, snapshot, tmp_path):
    run = Run.open(snapshot)
    assert run.messages() == made.messages()
    assert run.of_seed(1).receiver() is not None
    source = tmp_path / "made.h5"
    said = [run_command("message", each, source, "--json") for each in (made.folder, snapshot)]
    assert said[0].exit_code == said[1].exit_code == 0
    assert said[0].stdout == said[1].stdout
    shown = run_command("compare", snapshot, made.folder, "--json")
    assert shown.exit_code == 0, shown.stderr
    shown = run_command("report", snapshot, "-o", tmp_path / "page.html")
    assert shown.exit_code == 0, shown.stderr


def test_the_process_that_checks_a_run_from_elsewhere_reads_links_too(snapshot, no_record):
    Run.open(snapshot)
    assert RunFiles.open(snapshot).identity in no_record.read_text()


def test_a_link_to_other_content_is_refused(snapshot):
    path = snapshot / "messages.jsonl"
    other = (snapshot / "history.csv").resolve()
    path.unlink()
    path.symlink_to(other)
    with pytest.raises(HeliographError, match="is damaged: it is not what was written"):
        Run.open(snapshot)


@pytest.mark.parametrize("words", [["evaluate"], ["report"]])
def test_nothing_is_written_through_a_link(snapshot, words):
    before = {path: path.read_bytes() for path in snapshot.rglob("*") if path.is_file()}
    blobs = set(snapshot.parents[1].joinpath("blobs").iterdir())
    shown = run_command(*words, snapshot)
    assert shown.exit_code == 1
    assert "manifest.json is not written: it is a symbolic link" in shown.stderr
    assert f"copy the run with `cp -rL {snapshot} COPY`" in shown.stderr
    assert "reading the cache" not in shown.stderr  # before any work
    assert {path: path.read_bytes() for path in snapshot.rglob("*") if path.is_file()} == before
    assert set(snapshot.parents[1].joinpath("blobs").iterdir()) == blobs


def test_links_of_a_run_without_a_manifest_are_not_followed(snapshot):
    (snapshot / MANIFEST).unlink()  # nothing says what they have to lead to
    with pytest.raises(UnsafeFileError, match=r"config\.json is not read: it is a symbolic link"):
        Run.open(snapshot)


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        ("agents", 10**6, "which its model.safetensors of .* bytes cannot hold"),
        ("heads", 10**6, "which its model.safetensors of .* bytes cannot hold"),
        ("vocab", 10**6, "which its model.safetensors of .* bytes cannot hold"),
        ("hidden_dim", 10**6, "which its model.safetensors of .* bytes cannot hold"),
        ("hidden_dim", 10**15, "hidden_dim must be at most 1,000,000"),
        ("hidden_dim", 127, "does not fit the configuration"),
        ("agents", float("inf"), "is not the configuration of a run"),
    ],
)
def test_sizes_that_the_weights_cannot_have_are_refused(folder, setting, value, sentence):
    stored = json.loads((folder / "config.json").read_text())
    stored["config"][setting] = "THIS"
    text = json.dumps(stored).replace('"THIS"', "9" * 5000 if value > 10**99 else str(value))
    (folder / "config.json").write_text(text)
    reseal(folder)
    with pytest.raises(HeliographError, match=sentence):
        Run.open(folder).sender()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda own: own.update(seeds=[10**400]), "its seeds are not numbers from 0 to 4,294,967"),
        (lambda own: own.update(seeds="01"), "its seeds are not numbers"),
        (lambda own: own.update(seeds=list(range(200_000))), "200,000 seeds, more than 100,000"),
        (lambda own: own["caches"][0].update(steps=10**9), "one of no or too many time steps"),
        (lambda own: own["caches"][0].update(steps="8"), "the steps of a cache is '8'"),
        (lambda own: own["caches"][0].update(fingerprint=[1]), "the fingerprint of a cache is"),
        (lambda own: own["caches"].append(own["caches"][0]), "two of its caches have one name"),
    ],
)
def test_a_configuration_of_something_else_is_refused(folder, change, sentence):
    stored = json.loads((folder / "config.json").read_text())
    change(stored)
    (folder / "config.json").write_text(json.dumps(stored))
    reseal(folder)
    with pytest.raises(HeliographError, match=sentence):
        Run.open(folder)


@pytest.mark.parametrize("name", ["config.json", "metrics.json", "lexicon.json", MANIFEST])
def test_json_that_is_nested_too_deeply_is_refused(folder, name):
    (folder / name).write_text("[" * 200_000)
    if name != MANIFEST:
        reseal(folder)
    with pytest.raises(HeliographError, match=r"is damaged|is not the configuration"):
        read(folder)


def test_a_run_of_another_account_is_read_once_in_another_process(folder, no_record, monkeypatch):
    asked = []
    screen = "data.screening.screen"
    monkeypatch.setattr(screen, lambda paths, checker, **_: asked.append(checker) or {})
    with pytest.raises(HeliographError, match="was changed while it was read"):
        Run.open(folder)
    assert asked == ["pipeline.runs.run:check"]
    monkeypatch.undo()


@pytest.mark.slow
def test_the_other_process_accepts_a_sound_run_and_refuses_a_hostile_one(folder, no_record):
    Run.open(folder)
    assert RunFiles.open(folder).identity in no_record.read_text()
    weights = folder / "seeds" / "1" / "model.safetensors"
    weights.write_bytes(bytes(weights.stat().st_size))
    reseal(folder)
    no_record.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data.screening._recorded_here", set())
        with pytest.raises(HeliographError, match=r"seeds/1/model\.safetensors is damaged"):
            Run.open(folder)
