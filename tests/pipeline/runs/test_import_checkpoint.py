"""Published checkpoints become run folders that speak as their own agents do."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from data import cache
from data.errors import HeliographError
from pipeline.agents import CompositionalReceiver, CompositionalSender
from pipeline.report import write_report
from pipeline.report.provenance import command_to_repeat
from pipeline.runs import Run, import_checkpoint
from pipeline.training import train
from tests.helpers.command import run as run_command
from tests.helpers.paper_files import save_pt


@pytest.fixture
def parts():
    """What is in a file as the paper publishes it, over 12 dimensions."""
    torch.manual_seed(0)
    parts = {}
    for heads, vocab in ((2, 8), (1, 64)):
        size = f"{heads}x{vocab}"
        sender = CompositionalSender(input_dim=12, vocab_size=vocab, n_heads=heads)
        parts[f"sender_{size}"] = sender.state_dict()
        parts[f"receiver_{size}"] = CompositionalReceiver(heads * vocab).state_dict()
    return parts


@pytest.fixture
def published(parts, tmp_path):
    """Such a file, which is known and needs no process of its own to be read."""
    return save_pt(parts, tmp_path / "phase54_model.pt")


@pytest.fixture
def grid(tmp_path, features):
    """The clips of a 5x5 grid of elasticity and friction."""
    bins = np.arange(len(features)) % 25
    labels = {"elasticity": bins // 5 * 0.2, "friction": bins % 5 * 0.1}
    made = replace(features, labels=labels, object=[f"cell_{i}" for i in bins])
    cache.save(made, tmp_path / "grid.h5")
    return tmp_path / "grid.h5"


def test_a_published_checkpoint_speaks_and_is_scored(parts, grid, tmp_path, features):
    published = tmp_path / "phase54_model.pt"
    torch.save(parts, published)  # a file from elsewhere
    run = import_checkpoint(published, tmp_path / "run", cache_path=grid)
    sender = CompositionalSender(input_dim=12)
    sender.load_state_dict(parts["sender_2x8"], strict=True)
    said = sender(torch.from_numpy(features.features)).numpy()
    again = Run.open(tmp_path / "run")
    assert np.array_equal(again.tokens(), said[:, None])
    assert again.config.properties == ("elasticity", "friction")
    assert again.config.split == "cells"
    words = ["message", str(tmp_path / "run"), str(grid), "--json"]
    lines = run_command(*words).stdout.splitlines()
    assert [json.loads(line)["tokens"] for line in lines] == said[:, None].tolist()
    metrics = run.metrics()
    assert metrics.accuracy_test is None
    assert 0 <= metrics.accuracy_last_epoch.mean <= 1
    assert "imported from phase54_model.pt: which clips it was trained on" in metrics.notes[0]
    control = Run.open(tmp_path / "run" / "control")
    assert (control.config.heads, control.config.vocab) == (1, 64)
    assert control.config.logit_clamp == 15
    written = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    assert set(written) == set(parts)
    for key, state in parts.items():
        for name, value in state.items():
            assert torch.equal(written[key][name], value), (key, name)


def test_clips_without_the_properties_are_spoken_of_all_the_same(published, cache_path, tmp_path):
    run = import_checkpoint(published, tmp_path / "run", cache_path=cache_path)
    assert run.tokens().shape == (56, 1, 2)
    assert run.metrics().accuracy_last_epoch.mean is None
    words = ["message", str(run.folder), str(cache_path)]
    shown = run_command(*words)
    assert len(shown.stdout.splitlines()) == 56
    assert "no gloss: no training clip has every label" in shown.stderr
    page = write_report(run.folder).path.read_text()
    assert "No two test clips can be compared" in page
    assert "nothing to learn a lexicon from" in page


def test_the_page_of_an_import_claims_nothing_about_its_training(published, grid, tmp_path):
    run = import_checkpoint(published, tmp_path / "run", cache_path=grid)
    assert run.metrics().imported_from
    page = write_report(run.folder).path.read_text()
    assert "which clips it was trained on is not in the file" in page
    for claim in (
        "never met in training",
        "were in no training",
        "chosen on the test",
        "200 epochs",
    ):
        assert claim not in page
    repeat = f"heliograph import-checkpoint {published} -o {run.folder} --cache {grid}"
    assert command_to_repeat(run) == repeat


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["sender_2x8", "receiver_1x64"])
def test_weights_that_are_not_finite_are_refused_by_name(part, bad, published, grid, tmp_path):
    parts = torch.load(published, weights_only=True)
    name = list(parts[part])[-1]
    parts[part][name].view(-1)[-1] = bad
    torch.save(parts, published)
    with pytest.raises(HeliographError, match=rf"{part}\.{name} holds numbers that are NaN or inf"):
        import_checkpoint(published, tmp_path / "run", cache_path=grid)
    assert not (tmp_path / "run").exists()


def test_what_we_write_is_read_back(cache_path, tmp_path):
    run = train(cache_path, tmp_path / "run", properties=["mass"], agents=2, epochs=1, seeds=1)
    again = import_checkpoint(
        run.folder / "model.pt", tmp_path / "again", cache_path=cache_path, property="mass"
    )
    assert again.config.agents == 2
    assert np.array_equal(again.tokens(), run.tokens())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda parts: {"features": torch.zeros(3)},
            "no checkpoint of agents: it has no sender_2x8",
        ),
        (lambda parts: {"sender_2x8": parts["sender_2x8"]}, "has no weights receiver_2x8"),
        (
            lambda parts: (
                parts
                | {"sender_2x8": parts["sender_2x8"] | {"encoder.fc.0.weight": torch.tensor(1.0)}}
            ),
            "sender_2x8 has no encoder",
        ),
        (
            lambda parts: parts | {"sender_2x8": {}},
            "sender_2x8 has no encoder as the paper's agents have; agents with another one",
        ),
        (lambda parts: parts | {"receiver_2x8": parts["receiver_1x64"]}, "does not fit the agents"),
    ],
)
def test_what_is_no_checkpoint_is_refused(parts, grid, tmp_path, change, sentence):
    changed = save_pt(change(parts), tmp_path / "changed.pt")
    with pytest.raises(HeliographError) as error:
        import_checkpoint(changed, tmp_path / "run", cache_path=grid)
    assert sentence in str(error.value)
    assert not (tmp_path / "run").exists()


def test_other_features_are_refused_with_both_sizes(published, tmp_path, features):
    wide = np.zeros((len(features), 4, 7), np.float32)
    cache.save(replace(features, features=wide), tmp_path / "wide.h5")
    with pytest.raises(HeliographError, match=r"of 12 dimensions, .*wide\.h5 has 7"):
        import_checkpoint(published, tmp_path / "run", cache_path=tmp_path / "wide.h5")
    short = np.zeros((len(features), 1, 12), np.float32)
    cache.save(replace(features, features=short), tmp_path / "short.h5")
    with pytest.raises(HeliographError, match="a kernel of 3 time steps"):
        import_checkpoint(published, tmp_path / "run", cache_path=tmp_path / "short.h5")


def test_a_checkpoint_with_fewer_weights_than_its_names_say_is_refused(cache_path, tmp_path):
    run = train(cache_path, tmp_path / "run", properties=["mass"], epochs=1, seeds=1)
    weights = torch.load(run.folder / "model.pt", weights_only=True)
    for end in ("99999999x8", "2x99999999"):
        renamed = {name.replace("2x8", end): part for name, part in weights.items()}
        save_pt(renamed, tmp_path / "odd.pt")
        with pytest.raises(HeliographError, match=f"sender_{end} has too few weights"):
            import_checkpoint(tmp_path / "odd.pt", tmp_path / "new", cache_path=cache_path)


def test_an_unfinished_training_is_not_replaced_unasked(cache_path, tmp_path):
    (tmp_path / "run" / "unfinished").mkdir(parents=True)
    with pytest.raises(HeliographError, match="holds an unfinished training"):
        import_checkpoint(tmp_path / "odd.pt", tmp_path / "run", cache_path=cache_path)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod."])
def test_weights_of_a_wrapped_module_are_those_of_the_module(wrapper, parts, grid, tmp_path):
    plain = import_checkpoint(
        save_pt(parts, tmp_path / "plain.pt"), tmp_path / "plain", cache_path=grid
    )
    wrapped = {
        key: {wrapper + name: value for name, value in state.items()}
        for key, state in parts.items()
    }
    path = save_pt(wrapped, tmp_path / "wrapped.pt")
    assert list(import_checkpoint(path, tmp_path / "wrapped", cache_path=grid).messages()) == list(
        plain.messages()
    )
