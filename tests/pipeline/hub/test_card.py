"""The model card of a run, by huggingface_hub's own reading of it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from pipeline.hub import prepare
from pipeline.hub.card import model_card
from pipeline.message import load_lexicon
from pipeline.report import headline, interval_of
from pipeline.runs import AccuracyEstimate, Run


@pytest.fixture(scope="module")
def copy(planted: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return prepare(planted, "user/ramp", tmp_path_factory.mktemp("card") / "copy")


@pytest.fixture(scope="module")
def card(copy: Run) -> ModelCard:
    return ModelCard.load(copy.folder / "README.md")


def test_accuracies_null_and_baselines_are_its_model_index(card: ModelCard, copy: Run):
    results = {result.metric_name: result for result in card.data.eval_results}
    metrics = copy.metrics()
    assert results["agents"].metric_value == metrics.accuracy_test.mean
    assert results["agents"].metric_args["seeds"] == 2
    low, high, over = interval_of(metrics.accuracy_test)
    assert f" | {100 * low:.1f}–{100 * high:.1f} % over seeds |" in card.text
    assert results["agents"].metric_args["interval_95"] == [low, high]
    assert results["agents"].metric_args["interval_over"] == over == "seeds"
    null = results["null: agents that learned from permuted labels"]
    assert null.metric_value == metrics.shuffled_labels.mean
    ridge = results["baseline: ridge (regression on the raw features)"]
    assert ridge.metric_value == metrics.baselines["ridge"].mean == 0.5
    assert ridge.metric_args["interval_95"] == [0.4, 0.6]
    assert not any("pixels" in name for name in results)  # it is null


def test_the_interval_of_the_kept_receiver_is_said_to_be_its(copy: Run, monkeypatch):
    spread = {"mean": 0.5, "std": 0.0, "per_seed": [0.5, 0.5], "interval": [0.25, 0.75]}
    kept = AccuracyEstimate.model_validate(spread)
    metrics = copy.metrics().model_copy(update={"kept_receiver": kept})
    monkeypatch.setattr(Run, "metrics", lambda _: metrics)
    text = model_card(copy, "user/a", None, has_picture=False, names_clips=False)
    mean = metrics.accuracy_test.mean
    assert mean != kept.mean
    interval = "25.0–75.0 % over objects, of the kept receiver"
    assert f"| **agents** | {100 * mean:.1f} % | {interval} |" in text
    agents = ModelCard(text).data.eval_results[0]
    assert agents.metric_value == mean == headline(metrics).accuracy
    assert agents.metric_args["interval_of"] == "the kept receiver"
    assert "Chance is 50.0 %; always the most frequent answer is right 50.0 % of the time." in text


def test_its_metadata_survives_the_libraries_reading(card: ModelCard):
    name, results = card.data.model_name, card.data.eval_results
    index = eval_results_to_model_index(name, results)
    assert model_index_to_eval_results(index) == (name, results)
    assert ModelCard(card.content).data.to_dict() == card.data.to_dict()
    assert card.data.library_name == "heliograph"


def test_it_says_what_how_and_what_not(card: ModelCard, copy: Run):
    headings = re.findall("^## (.+)$", card.text, re.MULTILINE)
    wanted = "Accuracy, What the symbols mean, How it was made, Limits, Licences, Citation"
    assert headings == wanted.split(", ")
    assert "![The symbols of each position, each with its word](lexicon.png)" in card.text
    assert (copy.folder / "lexicon.png").is_file()
    lexicon = load_lexicon(copy)
    for position in lexicon.positions:
        for meaning in position.meanings:
            word = position.gloss(meaning.symbol)
            assert f"{meaning.symbol}: {word}" in card.text
    assert "unknown: its features came from another program" in card.text
    assert "arXiv:2604.03266" in card.text
    assert "heliograph import-checkpoint phase54b.pt -o RUN --cache made.h5" in card.text
    assert copy.metrics().leaks.mark.split()[0] in card.text


def test_a_run_without_a_lexicon_and_an_evaluation_has_a_card(copy: Run, tmp_path: Path):
    bare = replace(copy.control(), folder=copy.folder / "control")
    text = model_card(bare, "user/bare", None, has_picture=False, names_clips=False)
    assert "The run has no lexicon" in text
    assert "Baselines are not known" in text
    assert "Chance is 50.0 %." in text
    assert "lexicon.png" not in text


def test_the_licence_of_a_backbone_is_named(copy: Run):
    source = replace(copy.source, fingerprint={"name": "dinov2_vits14"})
    text = model_card(
        replace(copy, sources=(source,)), "user/a", None, has_picture=False, names_clips=False
    )
    assert "- Backbone dinov2\\_vits14: Apache-2.0." in text
