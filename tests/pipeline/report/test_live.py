"""The page that follows a training."""

import math

import pytest

from data.errors import HeliographError
from pipeline.report import LivePage, is_live_page
from pipeline.training import Progress, train
from tests.helpers.command import run
from tests.helpers.pages import read_page


def epoch(number: int, validation: tuple[float, ...] = (0.5, 0.7)) -> Progress:
    return Progress(
        seeds=(0, 1), epoch=number, epochs=900, tau=1.0, loss=1 / number, validation=validation
    )


def test_it_reloads_itself_until_the_training_ends(tmp_path):
    path = tmp_path / "live.html"
    with LivePage(path, "runs/a") as page:
        page.begin("")
        assert is_live_page(path)
        assert "nothing to draw yet" in read_page(path).words
        for number in range(1, 900):
            page(epoch(number))
        page._written = -math.inf
        page(epoch(900))
        shown = read_page(path)
        assert {one.get("http-equiv") for one in shown.all("meta")} >= {"refresh"}
        assert "Seeds 0 to 1, epoch 900 of 900." in shown.words
        accuracy, loss = page.charts()
        assert len(accuracy.seeds) == 2
        assert loss.mean.count(",") <= 201
        assert loss.mean.split()[-1].startswith("100,")  # up to the last epoch
    shown = read_page(path)
    assert "refresh" not in {one.get("http-equiv") for one in shown.all("meta")}
    assert "Finished after" in shown.words
    assert len(shown.all("svg")) == 2


def test_why_a_training_failed_is_said(tmp_path):
    path = tmp_path / "live.html"
    with pytest.raises(HeliographError), LivePage(path, "runs/a"):
        raise HeliographError("seed 0: nothing to compare")
    shown = read_page(path).words
    assert ": seed 0: nothing to compare." in shown
    assert "There is nothing to draw." in shown


def test_what_is_not_known_yet_is_not_drawn(tmp_path):
    page = LivePage(tmp_path / "live.html", "a")
    page(epoch(1, (math.nan, math.nan)))
    page(epoch(2, (math.nan, math.nan)))
    assert [chart.title for chart in page.charts()] == ["loss, in nats"]


def test_a_training_that_stops_says_so(tmp_path):
    with pytest.raises(KeyboardInterrupt), LivePage(tmp_path / "live.html", "a"):
        raise KeyboardInterrupt
    assert "Stopped after" in read_page(tmp_path / "live.html").words


def test_a_page_that_cannot_be_written_stops_no_training(tmp_path, cache_path, capsys):
    (tmp_path / "file").write_text("")
    with LivePage(tmp_path / "file" / "live.html", "a") as page:
        train(cache_path, tmp_path / "run", seeds=1, epochs=2, callbacks=[page])
    assert capsys.readouterr().err.count("the training goes on without its live page: ") == 1
    assert (tmp_path / "run" / "metrics.json").exists()


def test_the_command_follows_a_training_and_replaces_its_own_page_alone(tmp_path, cache_path):
    words = ["train", cache_path, "-o", tmp_path / "run", "--seeds", "1", "--epochs", "2"]
    page = tmp_path / "live.html"
    done = run(*words, "--watch", page)
    assert done.exit_code == 0, done.stderr
    assert "open it in a browser to follow the training" in done.stderr
    assert f"heliograph report {tmp_path / 'run'}" in read_page(page).words
    assert run(*words, "--resume", "--watch", page).exit_code == 0
    page.write_text("mine")
    refused = run(*words, "--resume", "--watch", page)
    assert refused.exit_code == 1
    assert "choose another --watch" in refused.stderr
    assert page.read_text() == "mine"
    before = cache_path.read_bytes()
    for place, reason in (
        (page, "choose another --watch\n"),
        (tmp_path / "run" / "metrics.json", "must end in .html"),
        (cache_path, "must end in .html"),
    ):
        insisted = run(*words, "--overwrite", "--watch", place)
        assert insisted.exit_code in (1, 2)
        assert reason in insisted.stderr
    assert (page.read_text(), cache_path.read_bytes()) == ("mine", before)
    swept = run(*words, "--sweep", "vocab=2,3", "--watch", page)
    assert swept.exit_code == 2
    assert "--watch follows one training" in swept.stderr
