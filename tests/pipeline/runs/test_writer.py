"""Run folders: complete, readable, in the paper's formats, and never overwritten by accident."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from backbones import BackboneError
from data import cache
from data.errors import HeliographError
from pipeline.agents import message_text
from pipeline.evaluation import evaluate
from pipeline.runs import Run
from pipeline.training import train

SMALL = {"epochs": 3, "oracle_epochs": 1, "seeds": range(2)}


class PapersEncoder(nn.Module):
    """A plain re-implementation of the paper's usage example."""

    def __init__(self, hidden_dim, input_dim):
        super().__init__()
        self.temporal = nn.Sequential(
            nn.Conv1d(input_dim, 256, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv1d(256, 128, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(1),
        )
        self.fc = nn.Sequential(nn.Linear(128, hidden_dim), nn.ReLU())

    def forward(self, x):
        return self.fc(self.temporal(x.permute(0, 2, 1)).squeeze(-1))


class PapersSender(nn.Module):
    def __init__(self, hidden_dim, input_dim, vocab_size, n_heads):
        super().__init__()
        self.encoder = PapersEncoder(hidden_dim, input_dim)
        self.heads = nn.ModuleList([nn.Linear(hidden_dim, vocab_size) for _ in range(n_heads)])

    def forward(self, x):
        h = self.encoder(x)
        return torch.stack([head(h).argmax(dim=-1) for head in self.heads], dim=1)


@pytest.mark.parametrize("axes", [0, 6])
def test_a_2x8_checkpoint_speaks_in_the_papers_usage_example(cache_path, tmp_path, features, axes):
    out = tmp_path / "run"
    train(cache_path, out, properties=["mass", "volume"], agents=1, axes=axes, **SMALL)
    checkpoint = torch.load(out / "model.pt", weights_only=True)
    assert set(checkpoint) == {"sender_2x8", "receiver_2x8"}
    sender = PapersSender(hidden_dim=128, input_dim=12, vocab_size=8, n_heads=2)
    sender.load_state_dict(checkpoint["sender_2x8"], strict=True)
    sender.eval()
    said = sender(torch.from_numpy(features.features)).numpy()
    lines = (out / "messages.jsonl").read_text().splitlines()
    assert [json.loads(line)["tokens"] for line in lines] == said[:, None].tolist()


def test_the_published_heads_are_named_as_published(cache_path, tmp_path, features):
    renamed = tmp_path / "grid.h5"
    bins = np.arange(len(features)) % 25
    labels = {"elasticity": bins // 5 * 0.2, "friction": bins % 5 * 0.1}
    made = replace(features, labels=labels, object=[f"cell_{i}" for i in bins])
    cache.save(made, renamed)
    run = train(renamed, tmp_path / "run", vocab=8, agents=1, preset="published", **SMALL)
    assert run.config.properties == ("elasticity", "friction")
    receiver = torch.load(tmp_path / "run" / "model.pt", weights_only=True)["receiver_2x8"]
    assert receiver["elast_head.weight"].shape == (1, 64)
    assert receiver["friction_head.weight"].shape == (1, 64)


def test_a_run_folder_holds_what_the_design_says(cache_path, tmp_path, features):
    out = tmp_path / "run"
    run = train(cache_path, out, properties=["mass"], vocab=5, **SMALL)
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    own = {"model.safetensors", "model.pt", "metrics.json", "messages.jsonl"}
    seeds = {f"seeds/{seed}/{name}" for seed in (0, 1) for name in own}
    learnt = {"lexicon.json", "readout.json"}
    assert names == {"config.json", "history.csv", "manifest.json", *learnt, *own, *seeds}

    lines = [json.loads(line) for line in (out / "messages.jsonl").read_text().splitlines()]
    assert [line["clip"] for line in lines] == list(features.clip_id)
    for line in lines:
        assert line["message"] == message_text(line["tokens"])
        assert np.shape(line["tokens"]) == (2, 2)
    assert lines[-1]["labels"] == {"mass": None}
    assert lines[-1]["part"] is None

    metrics = json.loads((out / "metrics.json").read_text())
    for score in ("accuracy_test", "accuracy_last_epoch", "accuracy_published_protocol"):
        assert len(metrics[score]["per_seed"]) == 2
        assert metrics[score]["mean"] == pytest.approx(np.mean(metrics[score]["per_seed"]))
    assert metrics["accuracy_published_protocol"]["selected_on_test"] is True
    chosen = out / "seeds" / str(metrics["chosen_seed"])
    assert (chosen / "model.pt").read_bytes() == (out / "model.pt").read_bytes()

    rows = list(csv.DictReader((out / "history.csv").open()))
    assert {row["seed"] for row in rows} == {"0", "1"}
    assert [row["epoch"] for row in rows if row["seed"] == "0"] == ["1", "3"]
    again = Run.open(out)
    assert again.config == run.config
    assert np.array_equal(again.tokens(), [line["tokens"] for line in lines])


def test_a_preset_without_validation_has_no_honest_choice(cache_path, tmp_path):
    run = train(cache_path, tmp_path / "run", properties=["mass"], preset="published", **SMALL)
    metrics = run.metrics()
    assert metrics.accuracy_test is None
    assert metrics.chosen_seed == 0
    top, lowest = (run.folder / name / "model.pt" for name in ("", "seeds/0"))
    assert top.read_bytes() == lowest.read_bytes()


def test_the_same_command_gives_the_same_run(cache_path, tmp_path):
    for name in ("one", "two"):
        train(cache_path, tmp_path / name, properties=["mass"], **SMALL)
    for file in ("model.safetensors", "metrics.json", "history.csv", "messages.jsonl"):
        one, two = ((tmp_path / name / file).read_bytes() for name in ("one", "two"))
        assert one == two, file


def test_a_run_is_not_overwritten_unasked(cache_path, tmp_path):
    out = tmp_path / "run"
    train(cache_path, out, properties=["mass"], **SMALL)
    before = (out / "model.pt").read_bytes()
    with pytest.raises(HeliographError, match="holds a run already"):
        train(cache_path, out, properties=["mass"], vocab=3, **SMALL)
    assert (out / "model.pt").read_bytes() == before
    train(cache_path, out, properties=["mass"], vocab=3, overwrite=True, **SMALL)
    assert Run.open(out).config.vocab == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"properties": ["weight"]}, "no label 'weight': its labels are mass, volume"),
        ({"preset": "best"}, "no preset 'best': choose one of published, stabilised, default"),
        ({"split": "half"}, "no split 'half'"),
        ({"device": "tpu9"}, "no device 'tpu9': choose one of auto, cpu, cuda"),
        ({"properties": ["mass", "mass"]}, "named twice"),
        ({"vocab": 1}, "vocab must be at least 2, got 1"),
    ],
)
def test_wrong_words_get_one_sentence(cache_path, tmp_path, arguments, sentence):
    with pytest.raises((HeliographError, BackboneError)) as error:
        train(cache_path, tmp_path / "run", **{"properties": ["mass"]} | arguments | SMALL)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_evaluate_adds_baselines_and_metrics_beside_chance(cache_path, tmp_path):
    run = train(cache_path, tmp_path / "run", properties=["mass", "volume"], **SMALL)
    before = run.metrics()
    after = evaluate(run.folder, permutations=50)
    for name in before.model_fields_set:
        assert getattr(after, name) == getattr(before, name)
    assert {"majority", "ridge"} <= set(after.baselines)
    assert after.baselines["ridge"].properties["mass"].mean > 0.8
    assert after.baselines["majority"].properties["mass"].mean == pytest.approx(0.5)
    for metric in after.compositionality.values():
        assert 0 < metric.p_value <= 1
    stored = json.loads((run.folder / "metrics.json").read_text())
    assert stored == json.loads(json.dumps(after.to_json()))


def test_position_metrics_are_null_for_one_property(cache_path, tmp_path):
    run = train(cache_path, tmp_path / "run", properties=["mass"], **SMALL)
    found = evaluate(run.folder, permutations=20).compositionality
    assert found["posdis_wmcp"] is None
    assert found["bosdis_chaabouni2020"] is None
    assert found["topsim"] is not None
