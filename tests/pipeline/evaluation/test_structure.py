"""Structure on clips that nothing was trained or chosen on, and verdicts from null seeds."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from data import cache
from data.cache import Features
from pipeline.dataset import Split, build_examples, drawn
from pipeline.evaluation import context as contexts
from pipeline.evaluation import structure as structures
from pipeline.evaluation.structure import NullSeed, assess_messages, binned
from pipeline.message import load_lexicon
from pipeline.metrics import METRICS
from pipeline.runs import RunMetrics, load_inputs
from pipeline.runs.metrics_schema import StructuralMetric
from pipeline.training import train
from tests.pipeline.evaluation.conftest import compositional_meaning, make_message_context

NAME = "posdis_chaabouni2020"
EACH = 6
CELLS = np.repeat(np.stack(np.divmod(np.arange(25), 5), axis=1), EACH, axis=0)
NAMES = tuple(f"cell_{a}{b}" for a, b in CELLS)


def grid_context(tokens, *, rule="cells-validated", structure=True, seeds=2):
    """A grid whose split has clips set aside, or not; tokens of every clip, the same or by seed."""
    made = make_message_context(
        np.zeros((50, 2), int), compositional_meaning(), agents=2, seeds=seeds
    )
    return dataclasses.replace(
        made,
        config=made.config.replace(split=rule),
        labels=CELLS.astype(float),
        objects=NAMES,
        splits=tuple(split_of(CELLS, structure) for _ in range(seeds)),
        tokens=np.broadcast_to(tokens, (seeds, len(CELLS), 2)).copy(),
    )


def split_of(cells, structure=True):
    """The diagonal tests; of each other cell two clips are set aside, and the others train."""
    numbers = np.arange(len(cells))
    of_cell = np.array([(cells[:clip] == cells[clip]).all(1).sum() for clip in numbers])
    test = cells[:, 0] == cells[:, 1]
    aside = ~test & (of_cell >= EACH - 2) & structure
    return Split(
        numbers[~test & ~aside], numbers[:0], numbers[test], np.random.RandomState(0),
        numbers[aside],
    )  # fmt: skip


def null_seeds(count, structure=True):
    """Seeds that say the labels they learned from of training clips, and noise of all others."""
    rng = np.random.default_rng(7)
    found = []
    for _ in range(count):
        cells = np.repeat(CELLS[::EACH][rng.permutation(25)], EACH, axis=0)
        split = split_of(cells, structure)
        tokens = rng.integers(0, 5, cells.shape)
        tokens[split.train] = cells[split.train]
        found.append(NullSeed(tokens, cells.astype(float), split))
    return found


def verdicts(found):
    return {
        name: entry["verdict"]
        for name, entry in found["compositionality"].items()
        if METRICS[name].structural
    }


def remembered(context):
    """Of every seed what it was trained on, and noise of the rest."""
    tokens = np.random.default_rng(1).integers(0, 5, context.tokens.shape)
    for said, split in zip(tokens, context.splits, strict=True):
        said[split.train] = CELLS[split.train]
    return dataclasses.replace(context, tokens=tokens)


def test_what_agents_remember_counts_for_nothing():
    found = assess_messages(remembered(grid_context(CELLS)), null_seeds(39), permutations=49)
    entry = found["compositionality"][NAME]
    assert entry["clips"] == "held out"
    assert entry["on_training_clips"]["mean"] > 0.8  # the code of the clips it remembers
    assert entry["mean"] < 0.4
    assert entry["compositional_seeds"]["value"] < 0.5
    assert entry["compositional_seeds"]["interval"][0] == 0
    assert set(verdicts(found).values()) <= {"no better than chance", "undecided"}


def test_of_too_many_clips_some_are_drawn_whatever_the_other_seeds_are(monkeypatch):
    monkeypatch.setattr(structures, "MOST_CLIPS", 30)
    context = remembered(grid_context(CELLS))
    alone = dataclasses.replace(
        context,
        seeds=context.seeds[1:],
        splits=context.splits[1:],
        tokens=context.tokens[1:],
        receivers={name: value[1:] for name, value in context.receivers.items()},
    )
    both, one = (
        assess_messages(own, permutations=9)["compositionality"] for own in (context, alone)
    )
    bins = binned(context.labels)
    for name, entry in both.items():
        metric, clips = METRICS[name], drawn(context.splits[1].structure, 30)
        assert len(clips) == 30
        assert entry["per_seed"][1] == float(metric(context.tokens[1, clips], bins[clips]))
        assert one[name]["per_seed"] == entry["per_seed"][1:]


def test_a_code_that_holds_is_compositional_among_39_null_seeds():
    found = assess_messages(grid_context(CELLS), null_seeds(39), permutations=49)
    words = verdicts(found)
    assert (words[NAME], words["topsim"]) == ("compositional", "compositional")
    entry = found["compositionality"][NAME]
    assert entry["null_seeds"]["p_value"] == pytest.approx(1 / 40)
    assert len(entry["null_seeds"]["per_seed"]) == 39
    for own in found["own_positions"].values():
        assert own["mean"] > 1.0
        assert own["p_value"] == pytest.approx(1 / 40)
    share = entry["compositional_seeds"]
    assert share["value"] == 1
    assert share["interval"] == [pytest.approx(0.025 ** (1 / share["of"])), 1]  # of S in S
    StructuralMetric.model_validate(entry)


def test_without_null_seeds_nothing_is_tested():
    found = assess_messages(grid_context(CELLS), permutations=19)
    assert set(verdicts(found).values()) == {"not tested"}
    assert "null_seeds" not in found["compositionality"][NAME]
    assert {own["p_value"] for own in found["own_positions"].values()} == {None}


def test_few_null_seeds_decide_nothing_for_a_code():
    words = verdicts(assess_messages(grid_context(CELLS), null_seeds(5), permutations=19))
    assert (words[NAME], words["topsim"]) == ("undecided", "undecided")


@pytest.mark.parametrize(
    ("rule", "word"), [("cells", "not tested"), ("cells-validated", "undecided")]
)
def test_a_grid_without_clips_aside_is_measured_in_training_and_not_judged(rule, word):
    context = grid_context(CELLS, rule=rule, structure=False)
    found = assess_messages(context, null_seeds(39, structure=False), permutations=19)
    assert set(verdicts(found).values()) == {word}
    entries = found["compositionality"]
    assert entries[NAME]["clips"] == "training"
    assert entries[NAME]["mean"] == entries[NAME]["on_training_clips"]["mean"]
    assert entries["topsim"]["clips"] == "held out"  # of the test cells


def test_one_property_has_nothing_to_compose():
    code = np.random.default_rng(0).integers(0, 5, (50, 2))
    made = make_message_context(code, compositional_meaning(), labels=CELLS[::3, :1].astype(float))
    found = assess_messages(made, permutations=19)
    assert found["compositionality"]["topsim"]["verdict"] == "undefined"
    assert found["compositionality"][NAME] is None
    assert found["own_positions"] is None


def test_a_run_is_read_by_the_parts_that_its_messages_name(tmp_path, features):
    path = tmp_path / "made.h5"
    cache.save(features, path)
    run = train(path, tmp_path / "run", properties=["mass", "volume"], seeds=1, epochs=1, null=1)
    lines = run.messages(0)
    told = contexts.recorded_split(lines)
    for name, clips in told.parts().items():
        assert clips.tolist() == [n for n, line in enumerate(lines) if line["part"] == name]
    (null,) = NullSeed.all_of(run)
    assert null.tokens.shape == (len(lines), run.config.agents * run.config.heads)
    assert null.split.train.size
    assert contexts.recorded_split([{"part": None}] * 3) is None
    moved = [line | {"part": "structure"} if line["part"] == "test" else line for line in lines]
    assert contexts.recorded_split(moved).structure.tolist() == told.test.tolist()
    assert isinstance(run.metrics(), RunMetrics)


# What agents make of pure noise: they remember it, and their messages have structure there.

CLIPS, STEPS, DIMENSIONS = 60, 4, 16
NULLS = 39
POSITIVE = ("compositional", "informative, not compositional")


def most(runs: int) -> float:
    """5 % of the runs, and two standard errors."""
    return 0.05 * runs + 2 * np.sqrt(0.05 * 0.95 * runs)


def claims(folder: Path, number: int, **settings) -> tuple[bool, bool]:
    """Whether agents of noise get a positive verdict, and whether they get a sure word."""
    rng = np.random.default_rng(number)
    names = [f"clip_{clip:02d}" for clip in range(CLIPS)]
    features = Features(
        features=rng.normal(size=(CLIPS, STEPS, DIMENSIONS)).astype(np.float32),
        clip_id=names,
        object=names,
        scenario=["noise"] * CLIPS,
        labels={name: rng.normal(size=CLIPS) for name in ("mass", "volume")},
        fingerprint={"imported": True, "source": "noise.pt", "sha256": "0" * 64},
    )
    cache.save(features, folder / f"{number}.h5")
    run = train(
        folder / f"{number}.h5", folder / str(number), seeds=1, null=NULLS, vocab=5, **settings
    )
    inputs = load_inputs(run)
    context = contexts.MessageContext.of(run, build_examples(inputs.caches, run.config.properties))
    found = assess_messages(context, NullSeed.all_of(run), permutations=99)
    words = [entry.get("verdict") for entry in found["compositionality"].values()]
    lexicon = load_lexicon(run)
    assert lexicon is not None
    sure = any(one.is_sure(m) for one in lexicon.positions for m in one.meanings)
    return any(word in POSITIVE for word in words), sure


@pytest.mark.slow
def test_noise_gets_no_verdict_and_no_sure_word(tmp_path):
    brief = {"preset": "ridge", "epochs": 30, "refit": False}
    found = np.array([claims(tmp_path, number, **brief) for number in range(15)])
    assert (found.sum(0) <= most(len(found))).all(), found.sum(0)


RUNS_OF_A_PART = 4


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(25))
def test_a_hundred_runs_on_noise(tmp_path, part):
    """Four of the hundred: together they are judged as 25 parts, each by itself."""
    learned = {"preset": "default", "epochs": 100, "oracle_epochs": 25}
    first = 1000 + RUNS_OF_A_PART * part
    found = np.array(
        [claims(tmp_path, first + number, **learned) for number in range(RUNS_OF_A_PART)]
    )
    assert (found.sum(0) <= most(len(found))).all(), found.sum(0)
