"""Meanings of symbols: found where they are, and not found where they are not."""

import json
import math

import numpy as np
import pytest

from pipeline.message import Lexicon, load_lexicon, write_lexicon
from pipeline.message.lexicon import build_lexicon, learn_lexicon
from pipeline.runs import Run
from pipeline.training import train

OBJECTS = 24
EACH = 4


def objects() -> list[str]:
    return [f"object_{number:02d}" for number in range(OBJECTS) for _ in range(EACH)]


def masses() -> np.ndarray:
    return np.repeat(np.linspace(10.0, 240.0, OBJECTS), EACH)


def thirds(values: np.ndarray) -> np.ndarray:
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    return np.where(values <= low, 0, np.where(values >= high, 2, 1))


def unseen() -> list[str]:
    """As many objects again, which nothing was learnt from."""
    return [f"unseen_{name}" for name in objects()]


def one_position(symbols: np.ndarray, held_out: np.ndarray | None = None):
    """The lexicon of one position, checked on other objects that have its symbols, or others."""
    tokens, labels = symbols[:, None, None], masses()[:, None]
    said = symbols if held_out is None else held_out
    check = said[:, None, None], labels, unseen()
    return build_lexicon(tokens, labels, objects(), ["mass"], held_out=check)


def test_a_symbol_for_each_third_means_that_third():
    code = np.array([5, 0, 3])  # symbols are names: their order means nothing
    lexicon = one_position(code[thirds(masses())])
    (position,) = lexicon.positions
    assert position.about == "mass"
    assert position.p_values[0] == pytest.approx(0.001)
    assert [one.symbol for one in position.meanings] == [0, 3, 5]
    assert [position.gloss(symbol) for symbol in (5, 0, 3)] == ["light", "of middle mass", "heavy"]
    heavy = position.meaning(3)
    assert (heavy.share, heavy.clips, heavy.objects, heavy.frequency) == (1.0, 32, 8, 1 / 3)
    assert heavy.p_value <= 0.01
    assert position.sentence(3) == (
        "agent 1, position 1 = 3: heavy, 100 % of training clips with it, 170–240 g, "
        "32 clips of 8 objects"
    )
    assert lexicon.thirds["mass"] == pytest.approx(tuple(np.quantile(masses(), [1 / 3, 2 / 3])))


def test_symbols_at_random_say_nothing():
    rng = np.random.default_rng(0)
    (position,) = one_position(rng.integers(4, size=OBJECTS * EACH)).positions
    assert position.about is None
    assert position.gloss(0) == "–"
    assert position.sentence(0) == "agent 1, position 1 = 0: carries nothing above chance"
    assert all(one.band is None and math.isnan(one.median) for one in position.meanings)


def test_naming_objects_is_not_naming_their_mass():
    """A symbol for each object informs about mass as plug-in information counts it; chance too."""
    rng = np.random.default_rng(1)
    names = np.repeat(rng.permutation(OBJECTS) % 8, EACH)
    (position,) = one_position(names).positions
    assert position.information[0] > 0.3
    assert position.chance[0] > 0.3
    assert position.about is None


def test_one_object_is_no_evidence_however_many_clips_it_has():
    symbols = np.where(thirds(masses()) == 2, 1, 0)
    symbols[-EACH:] = 7  # the heaviest object alone
    (position,) = one_position(symbols).positions
    assert position.about == "mass"
    lonely = position.meaning(7)
    assert (lonely.share, lonely.objects) == (1.0, 1)
    assert not position.is_sure(lonely)
    assert position.gloss(7) == "perhaps heavy"
    assert position.gloss(1) == "heavy"


def test_a_symbol_all_over_the_place_has_no_adjective():
    symbols = np.where(masses() > 200, 1, 0)
    symbols[::3] = 2
    position = one_position(symbols).positions[0]
    assert position.meaning(2).band is None
    assert position.gloss(2) == "any mass"
    assert "any mass, " in position.sentence(2)


def test_each_position_finds_its_own_property():
    rng = np.random.default_rng(2)
    other = rng.permutation(OBJECTS).astype(float).repeat(EACH)
    labels = np.stack([masses(), other], axis=1)
    tokens = np.stack([thirds(other), thirds(masses()), rng.integers(3, size=96)], axis=1)
    tokens = tokens[:, :, None]
    lexicon = build_lexicon(
        tokens, labels, objects(), ["mass", "friction"], held_out=(tokens, labels, unseen())
    )
    assert [one.about for one in lexicon.positions] == ["friction", "mass", None]
    assert lexicon.gloss([[0], [2], [1]]) == (("slippery",), ("heavy",), ("–",))
    assert lexicon.position(1, 0).information[0] > 0.7 > lexicon.position(1, 0).information[1]


def test_a_word_that_does_not_hold_on_held_out_clips_is_not_sure():
    symbols = thirds(masses())
    rng = np.random.default_rng(0)
    wrong = np.repeat(rng.integers(3, size=OBJECTS), EACH)  # of an object all the same
    (checked,) = one_position(symbols, held_out=wrong).positions
    assert checked.p_values[0] <= 0.01
    assert checked.meaning(2).p_value <= 0.01
    assert checked.held_out_p > 0.05
    assert checked.held_out_information[0] < 0.6 < checked.information[0]
    assert [checked.gloss(symbol) for symbol in (0, 2)] == ["perhaps light", "perhaps heavy"]
    (holds,) = one_position(symbols).positions
    assert holds.held_out_p == pytest.approx(0.001)
    assert holds.held_out_information == holds.information
    assert holds.gloss(2) == "heavy"


def test_a_single_word_that_does_not_hold_is_not_sure():
    symbols = thirds(masses())
    held_out = symbols.copy()
    held_out[:12] = 2  # three of the light objects are said to be heavy,
    held_out[symbols == 2] = 1  # and none of the heavy ones
    (position,) = one_position(symbols, held_out=held_out).positions
    assert position.meaning(2).held_out_share == 0.0
    assert position.gloss(2) == "perhaps heavy"


def test_without_held_out_clips_no_word_is_sure():
    tokens, labels = thirds(masses())[:, None, None], masses()[:, None]
    (position,) = build_lexicon(tokens, labels, objects(), ["mass"]).positions
    assert position.gloss(2) == "perhaps heavy"
    assert math.isnan(position.held_out_p)
    assert math.isnan(position.meaning(2).held_out_share)


def test_what_agents_remember_of_noise_is_no_sure_word():
    """Messages tell the training clips by heart, and nothing of others."""
    rng = np.random.default_rng(3)
    sure = perhaps = 0
    for _ in range(12):
        labels = rng.normal(size=(60, 2))
        bands = np.stack([thirds(column) for column in labels.T], axis=1)
        tokens = np.concatenate([bands[:40], rng.integers(3, size=(20, 2))])[:, None, :]
        names = [f"o{number}" for number in range(60)]
        lexicon = build_lexicon(
            tokens[:40], labels[:40], names[:40], ["mass", "size"],
            held_out=(tokens[40:], labels[40:], names[40:]),
        )  # fmt: skip
        words = [one.gloss(m.symbol) for one in lexicon.positions for m in one.meanings]
        perhaps += any(word.startswith("perhaps") for word in words)
        sure += any(not word.startswith(("perhaps", "any", "–")) for word in words)
    assert perhaps == 12
    assert sure <= 2


def test_relabelling_symbols_relabels_meanings():
    symbols = thirds(masses())
    names = np.array([4, 1, 6])
    before, after = one_position(symbols), one_position(names[symbols])
    assert before.positions[0].information == pytest.approx(after.positions[0].information)
    for symbol, name in enumerate(names):
        assert before.positions[0].gloss(symbol) == after.positions[0].gloss(name)


def test_a_symbol_never_said_says_so():
    lexicon = one_position(thirds(masses()))
    assert lexicon.gloss([[7]]) == (("never sent in training",),)
    assert lexicon.positions[0].sentence(7).endswith("= 7: never sent in training")


def test_it_is_json_without_nan():
    stored = json.loads(json.dumps(one_position(thirds(masses())).to_json(), allow_nan=False))
    (position,) = stored["positions"]
    assert position["about"] == "mass"
    assert position["meanings"][2]["gloss"] == "heavy"
    assert position["meanings"][2]["held_out_share"] == 1.0
    tokens, labels = thirds(masses())[:, None, None], masses()[:, None]
    unchecked = build_lexicon(tokens, labels, objects(), ["mass"]).to_json()["positions"][0]
    assert unchecked["meanings"][2]["held_out_share"] is unchecked["held_out_p"] is None


@pytest.fixture
def run(cache_path, tmp_path) -> Run:
    return train(cache_path, tmp_path / "run", properties=["mass"], seeds=range(2), epochs=3)


def test_a_run_needs_neither_its_cache_nor_luck(run):
    first = learn_lexicon(run)
    run.source.path.unlink()
    assert learn_lexicon(run).to_json() == first.to_json()
    lines = [line for line in run.messages() if line["part"] == "train"]
    assert first.clips == len(lines)
    said = {line["tokens"][1][0] for line in lines}
    assert {one.symbol for one in first.position(1, 0).meanings} == said


def test_of_many_clips_it_is_learned_from_some(run, monkeypatch):
    most = learn_lexicon(run).clips - 1
    monkeypatch.setattr("pipeline.message.lexicon.MOST_CLIPS", most)
    lexicon = learn_lexicon(run)
    assert lexicon.clips == most
    assert lexicon.to_json() == learn_lexicon(run).to_json()


def test_what_is_written_is_read_again(tmp_path, features, cache_path):
    run = train(cache_path, tmp_path / "run", properties=["mass", "volume"], seeds=1, epochs=3)
    learnt = learn_lexicon(run)
    stored = json.loads((run.folder / "lexicon.json").read_text())
    assert stored == learnt.to_json()
    assert Lexicon.from_json(stored).to_json() == stored
    (run.folder / "lexicon.json").unlink()
    assert load_lexicon(Run.open(run.folder)).to_json() == stored
    assert not (run.folder / "lexicon.json").exists()
    assert write_lexicon(run).to_json() == stored
    assert json.loads((run.folder / "lexicon.json").read_text()) == stored


def test_a_lexicon_whose_places_were_counted_from_0_is_read(tmp_path, cache_path, monkeypatch):
    run = train(cache_path, tmp_path / "run", properties=["mass"], seeds=1, epochs=2)
    path = run.folder / "lexicon.json"
    stored = json.loads(path.read_text())
    places = [(agent, head) for agent in (1, 2) for head in (1, 2)]
    assert [(one["agent"], one["position"]) for one in stored["positions"]] == places
    older = json.loads(path.read_text())
    for entry in (*older["positions"], *older["dictionary"]):
        entry["agent"] -= 1
        entry["head"] = entry.pop("position") - 1
    run.write("lexicon.json", json.dumps(older))
    monkeypatch.setattr("pipeline.message.lexicon.learn_lexicon", None)
    assert load_lexicon(Run.open(run.folder)).to_json() == stored


def test_the_stored_lexicon_is_read_and_not_learnt_again(tmp_path, cache_path, monkeypatch):
    run = train(cache_path, tmp_path / "run", properties=["mass"], seeds=1, epochs=2)
    monkeypatch.setattr("pipeline.message.lexicon.learn_lexicon", None)
    assert load_lexicon(run).properties == ("mass",)


def test_the_lexicon_of_an_older_run_is_learnt_again(tmp_path, cache_path):
    run = train(cache_path, tmp_path / "run", properties=["mass"], seeds=1, epochs=2)
    path = run.folder / "lexicon.json"
    stored = json.loads(path.read_text())
    older = json.loads(path.read_text())
    for position in older["positions"]:
        del position["held_out_p"], position["held_out_information"]
    run.write("lexicon.json", json.dumps(older))
    assert load_lexicon(Run.open(run.folder)).to_json() == stored


def test_a_continuous_channel_has_no_lexicon(tmp_path, cache_path):
    run = train(
        cache_path, tmp_path / "run", properties=["mass"], seeds=1, epochs=1, channel="continuous"
    )
    assert write_lexicon(run) is None
    assert not (run.folder / "lexicon.json").exists()
