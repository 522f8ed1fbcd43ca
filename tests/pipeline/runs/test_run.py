"""Run folders: read once, checked, and refused with a sentence where somebody broke them."""

import hashlib
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch

from data import cache
from data.cache import Features
from data.errors import HeliographError
from pipeline import dataset
from pipeline.evaluation import evaluate
from pipeline.message import load, load_lexicon
from pipeline.message.lexicon import learn_lexicon
from pipeline.report import write_report
from pipeline.runs import Run
from pipeline.training import train
from tests.helpers.command import run as run_command
from tests.helpers.runs import reseal

SMALL = {"epochs": 3, "seeds": 2}
_counters: list[Counter[Path]] = []


def test_what_is_no_run_is_said(tmp_path):
    with pytest.raises(HeliographError, match=r"is no run: it has no config\.json"):
        Run.open(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(HeliographError, match=r"is no run: its .* is that of something else"):
        Run.open(tmp_path)
    (tmp_path / "config.json").write_text('{"schema_version": 99}')
    with pytest.raises(HeliographError, match="schema version 99"):
        Run.open(tmp_path)


def test_a_damaged_model_is_said(cache_path, tmp_path):
    run = train(cache_path, tmp_path / "run", properties=["mass"], **SMALL)
    weights = run.folder / "model.safetensors"
    weights.write_bytes(bytes(weights.stat().st_size))
    reseal(run.folder)
    with pytest.raises(HeliographError, match=r"model\.safetensors is damaged"):
        Run.open(run.folder).sender()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 3e38])
def test_weights_that_no_training_gives_are_refused(cache_path, tmp_path, wrong):
    run = train(cache_path, tmp_path / "run", properties=["mass"], **SMALL)
    path = run.folder / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    for value in weights.values():
        value.fill_(wrong)
    safetensors.torch.save_file(weights, path)
    reseal(run.folder)
    shown = run_command("message", run.folder, cache_path)
    assert shown.exit_code == 1
    assert "has numbers that no training gives" in shown.stderr


def test_evaluate_refuses_a_cache_that_has_changed(cache_path, tmp_path, features):
    run = train(cache_path, tmp_path / "run", properties=["mass"], **SMALL)
    cache.save(features.select(range(20)), cache_path)
    with pytest.raises(HeliographError, match="has changed since"):
        evaluate(run.folder)
    cache_path.unlink()
    with pytest.raises(HeliographError, match="is gone"):
        evaluate(run.folder)


def test_the_cache_of_a_run_may_be_a_folder_of_parts(tmp_path, features):
    folder = tmp_path / "parts.h5"
    cache.save(features, folder, clips_per_part=20)
    assert folder.is_dir()
    run = train(folder, tmp_path / "run", properties=["mass"], **SMALL)
    evaluate(run.folder)
    folder.rename(tmp_path / "elsewhere.h5")
    with pytest.raises(HeliographError, match="is gone"):
        evaluate(run.folder)
    (tmp_path / "elsewhere.h5").rename(run.folder / "parts.h5")
    evaluate(run.folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory, features: Features) -> Run:
    folder = tmp_path_factory.mktemp("damage")
    cache.save(features, folder / "made.h5")
    train(folder / "made.h5", folder / "other", properties=["mass"], vocab=3, epochs=1, seeds=1)
    return train(folder / "made.h5", folder / "run", properties=["mass"], **SMALL)


def with_feature(features: Features, value: float) -> Features:
    changed = features.features.copy()
    changed[5, 1, 3] = value
    return replace(features, features=changed)


def with_label(features: Features, value: float) -> Features:
    changed = features.labels["mass"].copy()
    changed[5] = value
    return replace(features, labels={"mass": changed})


@pytest.mark.parametrize(
    ("change", "value", "sentence"),
    [
        (with_feature, np.nan, "odd.h5: the features of object_01/1 are not finite numbers"),
        (with_feature, np.inf, "odd.h5: the features of object_01/1 are not finite numbers"),
        (with_label, -np.inf, "odd.h5: the mass of object_01/1 is infinite"),
    ],
)
@pytest.mark.parametrize("preset", ["default", "published"])
def test_numbers_that_are_not_finite_are_refused(
    features, tmp_path, change, value, sentence, preset
):
    cache.save(change(features, value), tmp_path / "odd.h5")
    with pytest.raises(HeliographError) as error:
        train(tmp_path / "odd.h5", tmp_path / "run", properties=["mass"], preset=preset, **SMALL)
    assert sentence in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_cache_with_such_numbers_gets_no_messages(made, features, tmp_path):
    cache.save(with_feature(features, np.nan), tmp_path / "odd.h5")
    shown = run_command("message", made.folder, tmp_path / "odd.h5")
    assert shown.exit_code == 1
    assert "the features of object_01/1 are not finite" in shown.stderr


@pytest.mark.parametrize(
    ("labels", "words", "sentence"),
    [
        (
            lambda own: {"mass": own / 1000},
            {},
            "at most, which its tie margin of 0.5 counts as equal",
        ),
        (lambda own: {}, {}, "has no labels, so there is nothing to learn"),
        (
            lambda own: {
                "a": np.where(own < 70, np.nan, own),
                "b": np.where(own < 70, own, np.nan),
            },
            {},
            "odd.h5 has a value of every property (of 56 clips, 31 have a, 24 have b): name those",
        ),
        (
            lambda own: {"mass": own * np.nan},
            {},
            "odd.h5 has a value of mass: name another property with --property",
        ),
        (lambda own: {"mass": own}, {"seeds": 0}, "a run needs at least one seed"),
        (lambda own: {"mass": own}, {"sender_lr": np.inf}, "sender_lr must be finite, got inf"),
        (lambda own: {"mass": own}, {"tie_margin": {"mass": np.nan}}, "at least 0 per property"),
        (lambda own: {"mass": own}, {"tie_margin": {"mass": np.inf}}, "at least 0 per property"),
    ],
)
def test_labels_and_settings_with_nothing_to_learn_are_refused(
    features, tmp_path, labels, words, sentence
):
    cache.save(replace(features, labels=labels(features.labels["mass"])), tmp_path / "odd.h5")
    with pytest.raises(HeliographError) as error:
        train(tmp_path / "odd.h5", tmp_path / "run", **SMALL | words)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def written(name: str, content: bytes):
    return lambda folder: (folder / name).write_bytes(content)


def edited(name: str, change):
    def damage(folder: Path) -> None:
        stored = json.loads((folder / name).read_text())
        change(stored)
        (folder / name).write_text(json.dumps(stored))

    return damage


def first_line(change):
    def damage(folder: Path) -> None:
        first, *rest = (folder / "messages.jsonl").read_text().splitlines()
        line = json.loads(first)
        change(line)
        (folder / "messages.jsonl").write_text("\n".join([json.dumps(line), *rest]) + "\n")

    return damage


def shortened(folder: Path) -> None:
    path = folder / "seeds" / "1" / "messages.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:9]))


METRICS, MESSAGES = "metrics.json is damaged: ", "messages.jsonl is damaged: "
CONFIG = "config.json is not the configuration of a run: "
DAMAGE = [
    ("report", edited("config.json", lambda own: own["config"].update(agents=-1)), "config.json: "),
    ("report", edited("config.json", lambda own: own["config"].update(luck=1)), "config.json: the"),
    ("report", written("metrics.json", b"{oops"), METRICS),
    ("report", written("metrics.json", b"[]"), METRICS),
    ("compare", written("metrics.json", b"{}"), METRICS + "it has no 'properties'"),
    ("evaluate", edited("metrics.json", lambda own: own.pop("properties")), METRICS),
    ("compare", edited("metrics.json", lambda own: own["properties"].clear()), METRICS),
    (
        "report",
        edited("metrics.json", lambda own: own["accuracy_test"]["per_seed"].pop()),
        METRICS + "its accuracy_test is no mean, std and per_seed of 2 seeds",
    ),
    ("report", edited("metrics.json", lambda own: own.update(accuracy_last_epoch=None)), METRICS),
    ("report", written("messages.jsonl", b"\xff{"), MESSAGES),
    ("message", written("messages.jsonl", b""), MESSAGES + "it has no lines"),
    ("message", written("messages.jsonl", b'{"clip": "a"}\n'), MESSAGES + "it has no 'object'"),
    ("message", first_line(lambda line: line.pop("tokens")), MESSAGES),
    ("report", first_line(lambda line: line.update(tokens=[[1]])), MESSAGES),
    ("report", first_line(lambda line: line.update(tokens=[[8, 0], [0, 0]])), MESSAGES),
    ("report", first_line(lambda line: line["labels"].clear()), MESSAGES + "it has no 'mass'"),
    ("evaluate", shortened, "seed 1 has messages of 9 clips, its cache 56 clips"),
    ("report", written("history.csv", b"seed,epoch\n0,x\n"), "history.csv is damaged: "),
    *(
        (
            command,
            edited("config.json", lambda own, name=name: own["config"].update({name: ""})),
            f"{CONFIG}no {name} '': choose one of ",
        )
        for name in ("channel", "game", "split")
        for command in ("report", "message")
    ),
    ("report", edited("config.json", lambda own: own.update(caches=[])), CONFIG),
    ("report", edited("config.json", lambda own: own.update(seeds=[])), CONFIG),
    ("message", edited("config.json", lambda own: own.update(seeds="x")), CONFIG),
    ("message", edited("config.json", lambda own: own["config"].update(sees=[0, 5])), CONFIG),
    ("message", written("lexicon.json", b"{"), "lexicon.json is damaged: "),
    ("report", written("lexicon.json", b"[]"), "lexicon.json is damaged: it is no object"),
    (
        "message",
        edited("lexicon.json", lambda own: own.pop("thirds")),
        "lexicon.json is damaged: it has no 'thirds'",
    ),
    (
        "report",
        edited("lexicon.json", lambda own: own["positions"].pop()),
        "lexicon.json is damaged: its positions are not those of the run's agents",
    ),
    (
        "message",
        edited("lexicon.json", lambda own: own["positions"][0].update(about=["mass"])),
        "lexicon.json is damaged: ['mass'] is none of mass",
    ),
    (
        "report",
        edited("lexicon.json", lambda own: own["positions"][0]["meanings"][0].update(symbol=[])),
        "lexicon.json is damaged: [] is no whole number",
    ),
    (
        "report",
        edited("lexicon.json", lambda own: own["thirds"].update(mass=[1, "x"])),
        "lexicon.json is damaged: 'x' is no number",
    ),
    ("message", written("readout.json", b"{"), "readout.json is damaged: "),
    (
        "message",
        edited("readout.json", lambda own: own["properties"].update(size={})),
        "readout.json is damaged: it has no 'points'",
    ),
    (
        "message",
        edited("readout.json", lambda own: own["properties"]["mass"]["points"].pop()),
        "readout.json is damaged: its mass is not for the messages of the run",
    ),
    (
        "message",
        edited("readout.json", lambda own: own["properties"]["mass"].update(reach=-1)),
        "readout.json is damaged: the reach of its mass is -1",
    ),
    (
        "message",
        edited("readout.json", lambda own: own["properties"]["mass"].update(offset=float("nan"))),
        "readout.json is damaged: a number of its mass is not finite",
    ),
    (
        "message",
        lambda folder: shutil.copy(
            folder.parent / "other.safetensors", folder / "model.safetensors"
        ),
        "model.safetensors does not fit the configuration of its run: ",
    ),
]


@pytest.mark.parametrize(("command", "damage", "sentence"), DAMAGE)
def test_a_run_that_somebody_broke_is_refused_with_its_file(
    made, tmp_path, command, damage, sentence
):
    folder = tmp_path / "run"
    shutil.copytree(made.folder, folder)
    other = made.folder.parent / "other" / "model.safetensors"
    shutil.copy(other, tmp_path / "other.safetensors")
    damage(folder)
    reseal(folder)
    words = {"message": [made.source.path], "compare": [made.folder]}.get(command, [])
    shown = run_command(command, folder, *words)
    assert shown.exit_code == 1
    said = shown.stderr.strip().splitlines()[-1]
    assert said.startswith("Error: ")
    assert sentence in said
    assert str(folder) in said


def test_runs_whose_seeds_speak_of_other_clips_are_compared_on_what_they_share(made, tmp_path):
    shutil.copytree(made.folder, tmp_path / "run")
    shortened(tmp_path / "run")
    reseal(tmp_path / "run")
    shown = run_command("compare", made.folder, tmp_path / "run", "--json")
    assert json.loads(shown.stdout)["agreement"]["clips"] == 9


def test_an_overwritten_run_leaves_nothing_of_the_one_before(made, tmp_path):
    out, source = tmp_path / "run", made.source.path
    train(source, out, properties=["mass"], vocab=2, control=True, **SMALL | {"epochs": 1})
    run_command("report", out)
    assert {"control", "report.html", "lexicon.json"} <= {path.name for path in out.iterdir()}
    train(source, out, properties=["mass"], overwrite=True, **SMALL | {"epochs": 1})
    names = {path.name for path in out.iterdir()}
    assert names.isdisjoint({"control", "report.html"})
    again = Run.open(out)
    assert load_lexicon(again).to_json() == learn_lexicon(again).to_json()


def test_names_in_brackets_stand_in_tables_as_they_are(features, tmp_path):
    mass = features.labels["mass"]
    labels = {"speed [m]": mass, "[odd]": np.arange(len(mass)) % 5.0}
    cache.save(replace(features, labels=labels), tmp_path / "odd.h5")
    out = tmp_path / "run"
    brief = ("--epochs", 1, "--oracle-epochs", 0, "--seeds", 2)
    shown = run_command("train", tmp_path / "odd.h5", "-o", out, *brief)
    assert shown.exit_code == 0
    assert "speed [m]" in shown.stdout
    assert "[odd]" in shown.stdout
    told = run_command("compare", out, out).stdout  # two seeds: no interval
    assert "nan" not in told


def _count_open(event: str, details: tuple) -> None:
    if event == "open" and _counters and isinstance(details[0], str):
        mode = details[1] or ""
        if not set(mode) & set("wax+"):
            _counters[-1][Path(details[0])] += 1


sys.addaudithook(_count_open)  # cannot be removed; it counts only inside `counted_reads`


@contextmanager
def counted_reads() -> Iterator[Counter[Path]]:
    counter: Counter[Path] = Counter()
    _counters.append(counter)
    try:
        yield counter
    finally:
        _counters.remove(counter)


@pytest.fixture(scope="module")
def run(tmp_path_factory, features: Features) -> Run:
    folder = tmp_path_factory.mktemp("reads")
    cache.save(features, folder / "made.h5")
    return train(
        folder / "made.h5", folder / "run", properties=["mass", "volume"], seeds=2, epochs=3
    )


@pytest.fixture
def uses(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often caches are hashed and loaded, by path, and weights loaded, by their hash."""
    counter: Counter[str] = Counter()

    def counting(name, function):
        def count(path, *rest, **options):
            counter[f"{name} {path}"] += 1
            return function(path, *rest, **options)

        return count

    hashing = counting("hash", dataset.sources.sha256_file)
    monkeypatch.setattr(dataset.sources, "sha256_file", hashing)
    monkeypatch.setattr(cache, "load", counting("load", cache.load))
    weights = safetensors.torch.load

    def count_weights(content):
        counter[f"weights {hashlib.sha256(content).hexdigest()}"] += 1
        return weights(content)

    monkeypatch.setattr(safetensors.torch, "load", count_weights)
    return counter


def message(folder: Path) -> None:
    speaker = load(folder)
    (first, *_) = speaker.messages_for_caches([cache.load(speaker.run.source.path)])
    assert first.gloss
    assert first.distance


def evaluate_briefly(folder: Path) -> None:
    evaluate(folder, permutations=10)


@pytest.mark.parametrize("command", [evaluate_briefly, message, write_report])
def test_each_file_of_a_run_is_read_once(run, uses, command):
    with counted_reads() as reads:
        command(run.folder)
    own = {run.folder / name: reads[run.folder / name] for name in run.files.entries}
    own = {path: count for path, count in own.items() if count}
    assert {path.name for path in own} >= {"config.json", "messages.jsonl"}
    assert {path: count for path, count in own.items() if count > 1} == {}
    source = run.source.path
    expected = {f"load {source}": 2 if command is message else 1}
    weights = {key: count for key, count in uses.items() if key.startswith("weights")}
    assert uses == expected | weights
    assert set(weights.values()) <= {1}


def test_a_file_that_changed_is_read_again(run):
    opened = Run.open(run.folder)
    before = opened.metrics()
    assert opened.metrics() is before
    Run.open(run.folder).add_metrics({"notes": ["another process"]})
    assert opened.metrics().notes == ["another process"]
    assert opened.add_metrics({"notes": []}) is opened.metrics()


def test_the_run_of_a_seed_shares_what_was_read(run):
    opened = Run.open(run.folder)
    with counted_reads() as reads:
        first = opened.messages(1)
        assert opened.of_seed(1).messages() is first
    assert reads[run.folder / "seeds" / "1" / "messages.jsonl"] == 1


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        ("c.h5", "it is a cache, so train on it"),
        ("notes.txt", "it is a file, and a run is a folder"),
        ("sweep/sweep.csv sweep/a/config.json sweep/b/config.json", "whose runs are in it: a, b"),
        ("out/experiment.json", "it is an experiment, whose runs are in"),
        ("demo/run/config.json", "its run is"),
        ("clips/manifest.jsonl", "it is a folder of clips, so extract their features first"),
        ("", "there is no such folder"),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "report", "message"])
def test_what_is_given_for_a_run_is_named(made, sentence, command, tmp_path):
    if (command, made.split("/")[0]) == ("report", "sweep"):
        pytest.skip("a sweep has a page of its own")
    for name in made.split():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    given = tmp_path / (made.split() or ["gone"])[0].split("/")[0]
    shown = run_command(command, given, *[given] * (command == "message"))
    assert shown.exit_code == 1
    assert f"{given} is no run: " in shown.stderr
    assert sentence in shown.stderr


class TestACacheThatWasMoved:
    @pytest.fixture
    def run(self, cache_path, tmp_path) -> Run:
        made = train(cache_path, tmp_path / "run", properties=["mass"], **SMALL)
        (tmp_path / "there").mkdir()
        return made

    @pytest.mark.parametrize("place", ["there", "there/run"])
    def test_next_to_the_run_or_in_it_it_is_found(self, place, run, cache_path, tmp_path):
        shutil.move(run.folder, tmp_path / "there" / "run")
        shutil.move(cache_path, tmp_path / place / cache_path.name)
        metrics = evaluate(tmp_path / "there" / "run", permutations=10)
        assert metrics.to_json()["baselines"]
        assert not [n for n in write_report(tmp_path / "there" / "run").notes if "gone" in n]

    @pytest.mark.parametrize("command", ["evaluate", "report"])
    def test_elsewhere_it_is_named(self, command, run, cache_path, tmp_path):
        moved = tmp_path / "there" / "other.h5"
        shutil.move(cache_path, moved)
        if command == "evaluate":
            shown = run_command(command, run.folder, "--permutations", "10")
            assert shown.exit_code == 1
            assert "is gone" in shown.stderr
            assert "--cache" in shown.stderr
            words = ("--permutations", "10", "--cache", moved)
        else:
            words = ("--cache", f"{cache_path.stem}={moved}")
        shown = run_command(command, run.folder, *words)
        assert shown.exit_code == 0, shown.stderr
        assert "missing" not in shown.stderr

    def test_a_cache_of_other_content_is_refused(self, run, cache_path, tmp_path, features):
        cache_path.unlink()
        cache.save(features.select(range(20)), tmp_path / cache_path.name)
        with pytest.raises(HeliographError, match="has changed since"):
            evaluate(run.folder)

    def test_quite_another_cache_is_not_said_to_have_changed(
        self, run, cache_path, tmp_path, features
    ):
        other = tmp_path / "other.h5"
        cache.save(features.select(range(20)), other)
        shown = run_command("evaluate", run.folder, "--cache", other)
        assert shown.exit_code == 1
        assert f"{other} is not the cache that {run.folder} was trained on" in shown.stderr
        assert f"that is {cache_path}, " in shown.stderr

    def test_a_name_that_no_cache_of_the_run_has(self, run, tmp_path, features):
        paths = [tmp_path / "a.h5", tmp_path / "b.h5"]
        for path in paths:
            cache.save(features, path)
        both = train(paths, tmp_path / "both", agents=["a", "b"], properties=["mass"], **SMALL)
        shown = run_command("evaluate", both.folder, "--cache", f"c={paths[0]}")
        assert shown.exit_code == 2
        assert (
            f"is called 'c': they are a, b; name this one as --cache a={paths[0]}" in shown.stderr
        )
