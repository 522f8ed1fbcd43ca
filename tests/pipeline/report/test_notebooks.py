"""A run in a notebook: its lexicon, with what comes from files as text."""

import shutil

import pytest

from data.simulate import simulate
from pipeline.extraction import extract
from pipeline.message import Speaker, load_lexicon
from pipeline.report.notebooks import run_table
from pipeline.runs import Run, load_inputs
from pipeline.training import train
from tests.helpers.pages import EVIL


def test_the_lexicon_is_shown_and_why_there_are_no_pictures(spoken_run):
    shown = spoken_run._repr_html_()
    assert shown == run_table(spoken_run)
    lexicon = load_lexicon(spoken_run)
    meanings = [meaning for position in lexicon.positions for meaning in position.meanings]
    assert shown.count("<tr>") == 1 + len(meanings)
    assert "There are no pictures: the features of made were imported" in shown
    assert "mass, size, " in shown


def test_what_comes_from_files_is_escaped(run):
    assert EVIL not in run_table(run)
    message = next(Speaker(run).messages([EVIL], [load_inputs(run).caches[0].features[:1]]))
    assert EVIL not in message._repr_html_()
    assert message.to_json()["message"] in message._repr_html_()


def test_a_run_without_its_lexicon_says_so(run, tmp_path):
    copy = tmp_path / "<b>run"
    shutil.copytree(run.folder, copy)
    (copy / "manifest.json").unlink()
    (copy / "lexicon.json").unlink()
    (copy / "messages.jsonl").unlink()
    shown = Run.open(copy)._repr_html_()
    assert "is missing" in shown
    assert "no manifest" in shown
    assert "<b>" not in shown


@pytest.mark.slow
def test_symbols_have_pictures_of_their_clips(tmp_path):
    simulate("spring", tmp_path / "clips", grid=5, per_cell=1, size=64, seconds=1.0, workers=1)
    extract(tmp_path / "clips" / "manifest.jsonl", tmp_path / "a.h5", backbone="pixels")
    run = train(tmp_path / "a.h5", tmp_path / "run", seeds=1, epochs=2)
    shown = run._repr_html_()
    lexicon = load_lexicon(run)
    meanings = [meaning for position in lexicon.positions for meaning in position.meanings]
    assert shown.count('<img src="data:image/jpeg;base64,') == len(meanings)


def test_a_run_becomes_a_data_frame(spoken_run):
    pytest.importorskip("pandas")
    frame = spoken_run.to_pandas()
    lines = spoken_run.messages()
    assert frame["clip"].tolist() == [line["clip"] for line in lines]
    assert frame["message"].tolist() == [line["message"] for line in lines]
    assert frame["mass"].tolist() == [line["labels"]["mass"] for line in lines]
    metrics = spoken_run.metrics().to_pandas().set_index("key")
    stored = spoken_run.metrics().accuracy_last_epoch
    assert metrics.loc["accuracy_last_epoch", "mean"] == stored.mean
