"""The typed settings: what is refused and in which words, and the JSON that is stored."""

import json
import math
from typing import Literal

import pytest
from pydantic import ValidationError

from data.errors import HeliographError, InvalidValueError
from pipeline.config import (
    StrictModel,
    TrainConfig,
    build_config,
    parse_agents,
    parse_setting,
    sentence,
    setting_fields,
)

STORED_BEFORE_GAMES = {
    "properties": ["mass"], "preset": "default", "split": "auto", "agents": 2, "sees": [],
    "heads": 2, "vocab": 8, "hidden_dim": 128, "channel": "discrete", "logit_clamp": 0.0,
    "epochs": 160, "batch": 32, "pairings": 16, "sender_lr": 0.0003, "receiver_lr": 0.001,
    "weight_decay": 1e-05, "tau_start": 3.0, "tau_end": 1.0, "soft_epochs": 30, "receivers": 3,
    "reset_interval": 40, "resets": "simultaneous", "grad_clip": 1.0, "entropy_threshold": 0.1,
    "entropy_bonus": 0.03, "oracle_epochs": 0, "oracle_lr": 0.001, "tie_margins": [0.5],
    "train_on_ties": False, "axes": 64, "shrinkage": 1.0, "standardise": False, "refit": True,
    "shuffle_labels": False,
}  # fmt: skip


def test_what_was_stored_before_is_read_and_written_again_alike():
    config = TrainConfig.from_json(STORED_BEFORE_GAMES)
    assert config == build_config("default", ("mass",))
    written = json.dumps(config.to_json())
    assert written.startswith(json.dumps(STORED_BEFORE_GAMES)[:-1])
    assert TrainConfig.from_json(json.loads(written)) == config


def test_a_setting_that_older_runs_lack_is_stored_where_it_is_set():
    config = build_config("default", ("mass",))
    assert not {"keep_mean", "null", "kept_epoch"} & set(config.to_json())
    kept = config.replace(keep_mean=True, null=2, kept_epoch="last")
    stored = json.loads(json.dumps(kept.to_json()))
    assert TrainConfig.from_json(stored) == kept
    stored["null_seeds"] = stored.pop("null")
    assert TrainConfig.from_json(stored) == kept


def test_missing_keys_take_their_defaults_and_newer_ones_are_refused():
    config = TrainConfig.from_json({"properties": ["mass"], "tie_margins": [0.5]})
    assert config == TrainConfig(properties=("mass",), tie_margins=(0.5,))
    with pytest.raises(HeliographError, match=r"newer version: unknown settings luck"):
        TrainConfig.from_json(STORED_BEFORE_GAMES | {"luck": 1})
    with pytest.raises(HeliographError, match="vocab must be at least 2, got 0") as refused:
        TrainConfig.from_json(STORED_BEFORE_GAMES | {"vocab": 0})
    assert not isinstance(refused.value, InvalidValueError)  # nobody typed it


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"tau_end": 0.0}, "tau_end must be above 0, got 0.0"),
        ({"sender_lr": math.inf}, "sender_lr must be finite, got inf"),
        ({"sender_lr": math.nan}, "sender_lr must be finite, got nan"),
        ({"vocab": "8"}, "vocab cannot be '8'"),
        ({"vocab": True}, "vocab cannot be True"),
        ({"vocab": 2.5}, "vocab cannot be 2.5"),
        ({"refit": 1}, "refit cannot be 1"),
        ({"resets": "x"}, "no resets 'x': choose one of simultaneous, staggered"),
        ({"luck": 1}, "no setting 'luck': the settings are properties, preset, split, "),
        ({"batch": 4, "pairings": 5}, "pairings must be at most batch, got 5 pairings of a batch"),
        ({"sees": (0, 1, 0)}, "2 agents, but caches for 3 of them"),
        ({"properties": ()}, "a run needs at least one property"),
        ({"properties": ("a", "a")}, "a property is named twice: a, a"),
        ({"tie_margins": ()}, "needs one tie margin of at least 0 per property, got ()"),
        ({"tie_margins": (-1.0,)}, "needs one tie margin of at least 0 per property, got (-1.0,)"),
        ({"tie_margins": (math.nan,)}, "needs one tie margin of at least 0 per property"),
    ],
)
def test_wrong_settings_are_one_sentence(settings, sentence):
    with pytest.raises(InvalidValueError) as refused:
        TrainConfig(**{"properties": ("mass",), "tie_margins": (0.5,)} | settings)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_settings_never_change_but_may_be_replaced():
    config = build_config("default", ("mass",))
    with pytest.raises(ValueError, match="frozen"):
        config.vocab = 5
    assert config.replace(vocab=5).vocab == 5
    assert config.vocab == 8
    with pytest.raises(InvalidValueError, match="vocab must be at least 2, got 1"):
        config.replace(vocab=1)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("vocab", "3", 3), ("sender_lr", "1e-3", 1e-3), ("refit", "no", False), ("split", "x", "x")],
)
def test_settings_are_read_from_text(name, text, value):
    assert parse_setting(name, setting_fields(TrainConfig)[name], text) == value


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("vocab", "x", "vocab cannot be 'x'"),
        ("vocab", "1", "vocab must be at least 2, got 1"),
        ("refit", "maybe", "refit cannot be 'maybe'"),
        ("sender_lr", "nan", "sender_lr must be finite, got nan"),
    ],
)
def test_text_that_is_no_value_is_refused(name, text, sentence):
    with pytest.raises(InvalidValueError, match=sentence):
        parse_setting(name, setting_fields(TrainConfig)[name], text)


def test_every_setting_explains_itself():
    for name, field in setting_fields(TrainConfig).items():
        assert field.description, name


def test_agents_are_a_number_or_the_names_of_caches():
    assert parse_agents("vjepa+dino") == ("vjepa", "dino")
    with pytest.raises(InvalidValueError, match="--agents must be at least 1, got 0"):
        parse_agents("0")
    with pytest.raises(InvalidValueError, match="leaves an agent without a cache"):
        parse_agents("vjepa,")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"axes": 0, "shrinkage": 10.0}, "shrinkage changes nothing where axes is 0: leave it out"),
        ({"axes": 0, "keep_mean": True}, "keep_mean changes nothing where axes is 0"),
        ({"axes": 0, "standardise": True}, "or give another axes"),
        ({"oracle_lr": 0.01}, "oracle_lr changes nothing where oracle_epochs is 0"),
        ({"channel": "continuous", "tau_end": 0.5}, "tau_end changes nothing where channel is c"),
        ({"game": "referential", "pairings": 4}, "pairings changes nothing where game is ref"),
    ],
)
def test_a_setting_that_would_change_nothing_is_one_sentence(settings, words):
    with pytest.raises(InvalidValueError) as error:
        build_config("default", ("mass",), **settings)
    assert words in str(error.value)


def test_what_a_preset_says_of_axes_may_be_idle_and_so_may_a_default():
    config = build_config("default", ("mass",), axes=0, keep_mean=False, oracle_lr=1e-3)
    assert (config.axes, config.shrinkage) == (0, 1.0)


def test_an_only_choice_is_not_one_of_several():
    class Table(StrictModel):
        weights: Literal["random"] | None = None

    with pytest.raises(ValidationError) as error:
        Table(weights="best")
    assert sentence(error.value.errors()[0], {}) == "no weights 'best': the only one is random"
