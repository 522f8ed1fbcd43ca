"""Recipes: ours are sound without running them, and mistakes in others are one sentence."""

import os
from importlib import resources

import numpy as np
import pytest

from data.errors import HeliographError
from data.simulate import SCENES
from pipeline.config import CONVOLUTION
from pipeline.experiments import recipe
from pipeline.runs import has_key

GOOD = """
title = "T"
[clips]
scene = "ramp"
grid = 3
per_cell = 2
[views.moving]
steps = 4
[train]
properties = ["elasticity", "friction"]
[measures]
"compositionality.topsim" = "TopSim"
[[runs]]
name = "two"
[runs.paper]
accuracy = ["98 %", "somewhere"]
"""


def test_every_recipe_in_the_package_has_a_name_that_can_be_asked_for():
    files = {file.name for file in (resources.files("pipeline.experiments") / "recipes").iterdir()}
    assert files == {f"{name}.toml" for name in recipe.NAMES}


@pytest.mark.parametrize("name", recipe.NAMES)
def test_our_recipes_are_sound(name):
    found = recipe.find(name)
    assert found.title
    assert found.question
    for word in (f"heliograph experiment {name}", "# Time: ", "# Expect: "):
        assert word in found.text
    assert "TIME" not in found.text
    assert "EXPECT" not in found.text
    for own in found.trainings:
        config = own.config()
        assert set(config.properties) == set(own.settings["properties"])
        for number in own.paper.values():
            assert number.text[0].isdigit()
            assert number.source.startswith(("EXPERIMENTS.md, phase", "results/"))
    assert all(has_key(path) for path in found.measures)


@pytest.mark.parametrize("name", ["collision"])
def test_outcomes_of_recipes_are_labels_of_their_scenes(name):
    found = recipe.find(name)
    scene = SCENES[found.clips.scene]
    levels = [float(prop.levels(3)[1]) for prop in scene.properties]
    trial = scene.simulate(*levels, np.random.default_rng(0), 48, 24.0)
    assert {found.evaluation["outcome"], found.evaluation["action"]} <= set(trial.labels)


def test_ramp_recipes_share_their_clips():
    made = {own.clips.name for own in map(recipe.find, recipe.NAMES) if own.clips}
    assert made == {"ramp-5x5x12-2s", "collision-5x5x12-2s"}


def test_a_recipe_can_be_sized():
    own = recipe.find("ramp").sized(grid=3, per_cell=2, seeds=1, epochs=7)
    assert own.clips.name == "ramp-3x3x2-2s"
    for training in own.trainings:
        assert training.settings["seeds"] == 1
        assert training.config().epochs == 7
        learned = training.config().encoder == CONVOLUTION
        assert training.config().oracle_epochs == (7 if learned else 0)
    assert recipe.find("ramp").sized() == recipe.find("ramp")
    nulls = [run.config().null for run in recipe.find("ramp").trainings]
    assert nulls == [39, 39, 39, 0]  # none beside learned encoders, which take long
    assert {run.config().null for run in recipe.find("ramp").sized(null=2).trainings} == {2}


def test_a_holistic_control_is_checked_too():
    beside = recipe.find("holistic").trainings[0]
    assert beside.config().receivers == 1  # as the published checkpoints
    wrong = GOOD.replace('name = "two"', 'name = "two"\nvocab = 100\n[runs.control]\ntitle = "C"')
    with pytest.raises(HeliographError, match=r"holistic control of 100\*\*2"):
        recipe.parse(wrong, "own", "own.toml")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('title = "T"', 'titel = "T"', "own.toml: no key 'titel': did you mean title?"),
        ('title = "T"', "", "own.toml: title is missing"),
        ('title = "T"', "title = 3", "own.toml: title cannot be 3"),
        ('title = "T"', "title", "own.toml is not TOML: "),
        ('"ramp"', '"slide"', "own.toml, clips: no scene 'slide': there are collision, "),
        ("grid = 3", 'grid = "3"', "own.toml, clips: grid cannot be '3'"),
        ("grid = 3", "grid = true", "own.toml, clips: grid cannot be True"),
        ("[clips]", 'given = "x"\n[clips]', "either makes [clips] or says what is given"),
        ("[views.moving]\nsteps = 4", "", "no [views.NAME] says which features"),
        ("steps = 4", "steps = 0", "views.moving: steps must be at least 1, got 0"),
        ("steps = 4", "steps = 4\nframes = 8", "views.moving: frames stands alone, without steps"),
        ("steps = 4", "still = true\nframes = 1", "views.moving: frames stands alone, without sti"),
        ("steps = 4", 'still = true\npool = "grid2+motion"', "nothing moves in one frame: still a"),
        ("steps = 4", 'weights = "random"', "weights are those of a backbone, which is missing"),
        (
            "steps = 4",
            'weights = "best"',
            "views.moving: no weights 'best': the only one is random",
        ),
        ("steps = 4", "order = 1", "moving: a view of another has one of order, averaged and wit"),
        ("steps = 4", 'of = "x"', "moving: a view of another has one of order, averaged and wit"),
        (
            "steps = 4",
            'of = "x"\norder = 1\naveraged = 2',
            "has one of order, averaged and without",
        ),
        ("steps = 4", 'of = "x"\norder = 0', "moving: no view 'x' that it is of: there are feat"),
        (
            "steps = 4",
            'steps = 4\n[views.b]\nof = "moving"\norder = 0\nframes = 8',
            "b: frames is of features that are made from clips",
        ),
        ("compositionality.topsim", "luck", "measures: metrics.json has no luck"),
        ('"friction"]', '"colour"]', "two: no property 'colour': the scene has elasticity and "),
        ('name = "two"', 'name = "a/b"', "run 1: 'a/b' is no name of a folder"),
        ('name = "two"', 'name = "two"\nvocab = 1', "run 1: vocab must be at least 2, got 1"),
        ('name = "two"', 'name = "two"\npreset = "x"', "run 1, two: no preset 'x'"),
        ('name = "two"', 'name = "two"\nluck = 1', "run 1: no key 'luck'"),
        ('name = "two"', 'name = "two"\nagents = ["x"]', "two: no view 'x' to see: there are mov"),
        ("accuracy =", "topsim =", "run 1: a number of the paper for topsim, which is no measure"),
        ('["98 %", "somewhere"]', '"98 %"', "run 1: accuracy of the paper is not [number, source]"),
        (
            'name = "two"',
            'name = "two"\ndistractors = 3',
            "run 1, two: distractors is no setting of the game comparison",
        ),
        ('name = "two"', 'name = "two"\ngame = "chess"', "run 1, two: no game 'chess'"),
        ('name = "two"', 'name = "two"\ncontrol = 3', "run 1: control cannot be 3"),
        ('title = "T"', 'title = "T"\nruns = 3', "TOML"),
        ("[[runs]]", '[evaluate]\noutcome = "x"\n[[runs]]', "outcome and action go together"),
        ("[[runs]]", '[[runs]]\nname = "two"\n[[runs]]', "every run needs a name of its own"),
    ],
)
def test_a_mistake_is_one_sentence(old, new, sentence):
    assert old in GOOD
    with pytest.raises(HeliographError) as error:
        recipe.parse(GOOD.replace(old, new, 1), "own", "own.toml")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_settings_of_a_game_are_keys_too():
    text = GOOD.replace('name = "two"', 'name = "two"\ngame = "referential"\ndistractors = 3')
    config = recipe.parse(text, "own", "own.toml").trainings[0].config()
    assert (config.game, config.game_settings) == ("referential", {"distractors": 3})


def test_several_views_are_dealt_by_name():
    several = GOOD.replace("[views.moving]", "[views.still]\nstill = true\n[views.moving]")
    with pytest.raises(HeliographError, match="agents is a list of what they see"):
        recipe.parse(several, "own", "own.toml")


def test_a_view_of_given_features_is_a_file():
    start, rest = GOOD.split("[clips]")[0], GOOD[GOOD.index("[views.moving]") :]
    given = f'{start}given = "x"\n{rest}'
    with pytest.raises(HeliographError, match=r"moving: steps is of features that are made from"):
        recipe.parse(given, "own", "own.toml")
    found = recipe.parse(given.replace("steps = 4", ""), "own", "own.toml")
    assert found.sources == ("moving",)
    assert recipe.find("phase87").sources == ("features",)


def test_views_of_others_are_no_files():
    more = GOOD.replace("steps = 4", 'steps = 4\n[views.mixed]\nof = "moving"\norder = 0')
    found = recipe.parse(more.replace('"two"', '"two"\nagents = ["mixed"]'), "own", "own.toml")
    assert found.sources == ("moving",)
    assert found.trainings[0].sees(["moving", "mixed"]) == ("mixed",)


def test_properties_of_every_run_can_be_others():
    own = recipe.find("claims").sized(properties=["mass"])
    assert {tuple(run.config().properties) for run in own.trainings} == {("mass",)}


def test_a_name_that_is_none_is_said(tmp_path):
    with pytest.raises(HeliographError, match="no experiment 'jump': choose one of ramp, "):
        recipe.find("jump")
    with pytest.raises(HeliographError, match=r"gone\.toml cannot be read: No such file"):
        recipe.find(str(tmp_path / "gone.toml"))


@pytest.mark.parametrize(
    ("plant", "sentence"),
    [
        (os.mkfifo, "is not read: it is a FIFO, not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "is not read: it is a device, not a file"),
        (lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 1 << 42), "has more than"),
        (lambda path: path.write_bytes(b"\xff"), "cannot be read: invalid start byte"),
    ],
)
def test_what_is_no_file_of_a_recipe_is_refused_at_once(tmp_path, plant, sentence):
    path = tmp_path / "own.toml"
    plant(path)
    with pytest.raises(HeliographError, match=sentence):
        recipe.find(str(path))


def test_a_recipe_may_be_a_link_to_a_file(tmp_path):
    (tmp_path / "there.toml").write_text(GOOD)
    (tmp_path / "own.toml").symlink_to("there.toml")
    assert recipe.find(str(tmp_path / "own.toml")).name == "own"
