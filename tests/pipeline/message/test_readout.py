"""What a message says of each property: an estimate, its interval, its confidence."""

import json
import shutil

import numpy as np
import pytest

from pipeline.message import load
from pipeline.message.readout import (
    PropertyReadout,
    Reading,
    Readout,
    learn_readout,
    load_readout,
)
from pipeline.runs import Run
from tests.helpers.command import run as run_command


def test_train_writes_what_is_learnt_from_the_messages(spoken_run):
    stored = json.loads((spoken_run.folder / "readout.json").read_text())
    assert stored == json.loads(json.dumps(learn_readout(spoken_run).to_json()))
    assert load_readout(spoken_run).to_json() == learn_readout(spoken_run).to_json()
    assert "readout.json" in json.loads((spoken_run.folder / "manifest.json").read_text())["files"]
    mass = load_readout(spoken_run).properties["mass"]
    assert mass.logarithm
    assert not load_readout(spoken_run).properties["size"].logarithm
    assert len(mass.points) == 4
    assert mass.objects >= 12  # of four seeds
    assert mass.reach < 1.5  # of five, from the lightest to the heaviest


def test_held_out_clips_are_estimated(spoken_run):
    lines = [line for line in spoken_run.messages() if line["part"] == "test"]
    tokens = np.array([line["tokens"] for line in lines])
    readings = load_readout(spoken_run).read(tokens)
    true = np.log([line["labels"]["mass"] for line in lines])
    said = np.log([mass.value for mass, _ in readings])
    assert np.corrcoef(true, said)[0, 1] > 0.9
    inside = [
        mass.interval[0] <= line["labels"]["mass"] <= mass.interval[1]
        for line, (mass, _) in zip(lines, readings, strict=True)
    ]
    assert np.mean(inside) > 0.7
    for _, size in readings:
        assert size.interval[0] >= 0  # no clip has a size below zero
        assert 1 / 3 < size.confidence < 1


def test_a_run_without_its_readout_learns_it_anew(spoken_run, tmp_path):
    old = shutil.copytree(spoken_run.folder, tmp_path / "old")
    (old / "readout.json").unlink()
    assert load_readout(Run.open(old)).to_json() == load_readout(spoken_run).to_json()


def test_the_command_prints_estimates_in_a_column_of_their_own(spoken_run):
    words = ("message", spoken_run.folder, spoken_run.folder.parent / "made.h5", "--device", "cpu")
    rows = [line.split("\t") for line in run_command(*words).stdout.splitlines()]
    assert {len(row) for row in rows} == {6}
    mass, size = rows[0][5].split(" | ")
    assert mass.startswith("mass ")
    assert " g at 90 %, " in mass
    assert size.endswith(" %")
    told = json.loads(run_command(*words, "--json").stdout.splitlines()[0])
    assert set(told["estimates"]) == {"mass", "size"}
    assert told["estimates"]["mass"]["unit"] == "g"
    assert told["estimates"]["mass"]["level"] == 0.9
    (said,) = list(
        load(spoken_run, device="cpu").messages(["one"], [np.zeros((1, 4, 6), np.float32)])
    )
    assert said.missing == ()


def test_a_reading_is_text():
    reading = Reading(
        name="mass", value=118.2, interval=(81.0, 164.4), level=0.9, band="high", confidence=0.74
    )
    assert str(reading) == "mass 118 g, 81–164 g at 90 %, heavy 74 %"
    alone = Reading(name="mass", value=5.0, interval=None, level=0.9, band="low", confidence=None)
    assert str(alone) == "mass 5 g, light"


def test_an_estimate_of_what_is_never_negative_is_not(spoken_run):
    made = PropertyReadout(
        logarithm=False, offset=-1.0, points=((0.0, 0.5),), edges=(1.0, 2.0), positive=True,
        reach=2.0, errors=(-1.0, 0.0, 1.0), objects=12,
    )  # fmt: skip
    low, high = made.read("size", np.array([[0], [1]]))
    assert (low.value, low.interval) == (0.0, (0.0, 1.0))
    assert high.interval == (0.0, 1.5)
    assert low.band == "low"


@pytest.mark.parametrize("objects", [-1, 12.5, True, None])
def test_a_number_of_objects_that_is_none_is_damage(objects):
    made = PropertyReadout(
        logarithm=False, offset=0.0, points=((0.0, 0.5),), edges=(1.0, 2.0), positive=True,
        reach=2.0, errors=(0.0,), objects=12,
    )  # fmt: skip
    stored = Readout(properties={"size": made}, seeds=(0,)).to_json()
    assert Readout.from_json(stored, shape=(1, 2)).to_json() == stored
    stored["properties"]["size"]["objects"] = objects
    with pytest.raises(ValueError, match="no number of objects"):
        Readout.from_json(stored, shape=(1, 2))
