"""Each file of a run, and each cache, is read once by a command."""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import safetensors.torch

from data import cache
from data.cache import Features
from pipeline import dataset
from pipeline.evaluation import evaluate
from pipeline.message import load
from pipeline.report import write_report
from pipeline.runs import Run
from pipeline.runs import run as run_module
from pipeline.training import train

_counters: list[Counter[Path]] = []


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
    """How often caches are hashed and loaded, and weights are loaded, by name and path."""
    counter: Counter[str] = Counter()

    def counting(name, function):
        def count(path, *rest, **options):
            counter[f"{name} {path}"] += 1
            return function(path, *rest, **options)

        return count

    for module in (run_module, dataset.sources):
        monkeypatch.setattr(module, "sha256_file", counting("hash", module.sha256_file))
    monkeypatch.setattr(cache, "load", counting("load", cache.load))
    weights = counting("weights", safetensors.torch.load_file)
    monkeypatch.setattr(safetensors.torch, "load_file", weights)
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
    own = {path: count for path, count in reads.items() if path.is_relative_to(run.folder)}
    assert {path.name for path in own} >= {"config.json", "messages.jsonl"}
    assert {path: count for path, count in own.items() if count > 1} == {}
    source = run.source.path
    expected = {f"hash {source}": 1, f"load {source}": 2 if command is message else 1}
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
