"""Settings of a game: options, keys of recipes and of --sweep, and refusals of those of another."""

import subprocess
import sys

import pytest

from data.errors import InvalidValueError
from pipeline.game import GAMES
from pipeline.training import group_game_settings, known_settings, setting_choices
from pipeline.training.sweep import parse_axis
from tests.helpers.command import run


def test_settings_of_every_game_are_known():
    for game in GAMES.values():
        assert set(game.Settings.model_fields) <= set(known_settings())


def test_choices_are_the_names_in_a_registry_with_the_default_first():
    assert setting_choices("game")[0] == "comparison"
    assert set(setting_choices("game")) == set(GAMES)
    assert setting_choices("channel") == ("discrete", "continuous")
    assert setting_choices("vocab") == ()


def test_settings_of_the_game_are_grouped_and_complete():
    assert group_game_settings({"vocab": 5, "distractors": None}) == {"vocab": 5}
    chosen = group_game_settings({"game": "referential", "distractors": 7, "vocab": 5})
    assert chosen == {"game": "referential", "vocab": 5, "game_settings": {"distractors": 7}}
    assert group_game_settings({"game": "referential"})["game_settings"] == {"distractors": 3}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"distractors": 3},
            "distractors is no setting of the game comparison",
        ),
        ({"game": "chess"}, "no game 'chess': choose one of comparison, referential"),
        ({"channel": "smoke"}, "no channel 'smoke': choose one of discrete, continuous"),
        ({"game": "referential", "distractors": 0}, "distractors must be at least 1, got 0"),
        ({"game": "comparison", "game_settings": {"luck": 1}}, "no setting 'luck'"),
    ],
)
def test_what_does_not_fit_is_refused(settings, sentence):
    with pytest.raises(InvalidValueError) as refused:
        group_game_settings(settings)
    assert sentence in str(refused.value)


def test_a_setting_of_a_game_is_an_option_and_a_key_of_sweeps(cache_path, tmp_path):
    assert parse_axis("distractors=1,3") == ("distractors", ["1", "3"])
    with pytest.raises(InvalidValueError, match="--sweep: distractors must be at least 1, got 0"):
        parse_axis("distractors=0")
    with pytest.raises(InvalidValueError, match="--sweep: no game 'chess'"):
        parse_axis("game=chess")
    words = ("train", cache_path, "-o", tmp_path / "run", "--property", "mass", "--distractors", 3)
    shown = run(*words)
    assert shown.exit_code == 2
    assert "it needs --game referential" in shown.stderr
    assert not (tmp_path / "run").exists()


def test_the_help_shows_settings_of_a_game_when_it_is_asked_for():
    code = (
        "import sys; from click.testing import CliRunner; from pipeline.cli import main; "
        "shown = CliRunner().invoke(main, ['train', '--help']); "
        "assert '--game NAME' in shown.output, shown.output; "
        "print('torch' in sys.modules, '--distractors' in shown.output)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.stdout.split() == ["False", "False"], shown.stderr
    shown = run("train", "--game", "referential", "--help")
    assert shown.exit_code == 0
    assert "--distractors N" in shown.stdout
