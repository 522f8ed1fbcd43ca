"""Whose clip is it: caches joined by content, by id, or not at all."""

import dataclasses

import numpy as np
import pytest
import torch

from data import cache
from data.cache import Features
from data.errors import HeliographError
from data.interchange import import_features, write_pt
from pipeline.dataset import join_caches, left_out_sentence, match, read_inputs
from pipeline.dataset.joining import join
from pipeline.evaluation import evaluate
from pipeline.training import train

QUICK = {"properties": ["mass"], "epochs": 2, "seeds": 1, "vocab": 3}


def clips(contents: str, *, ids: str = "", known: bool = True, **changes: object) -> Features:
    """A clip for each letter, which is its content; its one feature is the letter's number."""
    numbers = np.array([ord(letter) for letter in contents], dtype=np.float32)
    values: dict[str, object] = {
        "features": numbers[:, None, None],
        "clip_id": list(ids or contents),
        "object": [""] * len(contents),
        "scenario": [""] * len(contents),
        "labels": {},
        "fingerprint": {"name": "made"},
        "source_sha256": [f"{ord(letter):064x}" if known else "" for letter in contents],
    }
    return Features(**values | changes)


def pairs(one: Features, two: Features) -> str:
    """The letters that are joined."""
    a, b = join_caches({"one": one, "two": two})
    return " ".join(
        chr(int(x)) + chr(int(y))
        for x, y in zip(a.features.ravel(), b.features.ravel(), strict=True)
    )


def test_clips_are_one_if_their_content_is():
    assert pairs(clips("abc"), clips("cba", ids="pqr")) == "aa bb cc"
    assert pairs(clips("abc"), clips("bcd", ids="abc")) == "bb cc"
    assert pairs(clips("abcd", ids="wxyz"), clips("dab", ids="xyz")) == "aa bb dd"


def test_segments_of_one_file_are_told_apart():
    one = clips("aa", ids="xy", start=np.array([0.0, 2.0]), end=np.array([2.0, 4.0]))
    two = clips("aa", ids="pq", start=np.array([2.0, 0.0]), end=np.array([4.0, 2.0]))
    assert match(one, two, "one", "two").tolist() == [1, 0]
    whole = clips("a", ids="x")
    assert match(one, whole, "one", "two").tolist() == [-1, -1]


def test_segments_of_version_1_are_joined_by_id():
    old = clips("aab", ids="xyz", key=["1" * 64] * 3)  # start and end are in their keys alone
    new = clips("aab", ids="xyz", start=np.array([0.0, 2.0, 0]), end=np.array([2.0, 4.0, 1]))
    assert match(old, new, "one", "two").tolist() == [0, 1, 2]
    assert match(new, old, "one", "two").tolist() == [0, 1, 2]


def test_of_several_clips_with_one_content_those_with_one_id_come_first():
    one, two = clips("aab", ids="xyz"), clips("aab", ids="yxq")
    assert match(one, two, "one", "two").tolist() == [1, 0, 2]
    assert match(one, clips("aa", ids="py"), "one", "two").tolist() == [0, 1, -1]


def test_without_known_content_ids_decide():
    assert pairs(clips("abc", known=False), clips("xyz", ids="cba")) == "az by cx"
    partly = clips("abc")
    partly = dataclasses.replace(partly, source_sha256=[partly.source_sha256[0], "", ""])
    assert pairs(partly, clips("zbc", ids="abc")) == "bb cc"  # of a it is known that it differs


def test_what_is_left_out_is_counted_by_reason():
    joined = join({"one": clips("abcde"), "two": clips("abxy", ids="abcz")})
    assert joined.left_out == {
        "one": {"of other content than in two": 1, "not in two": 2},
        "two": {"of other content than in one": 1, "not in one": 1},
    }
    assert left_out_sentence("two", joined.left_out["two"]) == (
        "2 clips of two left out: 1 of other content than in one, 1 not in one"
    )
    three = join({"one": clips("abc"), "two": clips("abc"), "three": clips("bcd")})
    assert three.left_out == {
        "one": {"not in three": 1},
        "two": {"not in three": 1},
        "three": {"not in one": 1},
    }


def test_a_clip_that_is_its_own_object_disagrees_with_nobody():
    one = clips("ab", object=["a", "b"])
    two = clips("ab", ids="pq", object=["p", "cup"])
    a, _ = join_caches({"one": one, "two": two})
    assert list(a.object) == ["a", "cup"]
    assert list(join_caches({"two": two, "one": one})[0].object) == ["p", "cup"]


def test_units_that_differ_are_refused():
    one = clips("ab", labels={"mass": np.ones(2)}, label_units={"mass": "g"})
    two = clips("ab", labels={"mass": np.ones(2)}, label_units={"mass": "kg"})
    with pytest.raises(HeliographError, match="disagree on the unit of mass: 'g' and 'kg'"):
        join_caches({"one": one, "two": two})
    (a, _) = join_caches({"one": clips("ab"), "two": two})
    assert a.label_units == {"mass": "kg"}


def test_tiny_labels_that_differ_are_no_rounding():
    one = clips("ab", labels={"mass": np.array([1e-9, 2e-9])})
    two = clips("ab", labels={"mass": np.array([1e-9, 3e-9])})
    with pytest.raises(HeliographError, match="disagree on the mass of b: 2e-09 and 3e-09"):
        join_caches({"one": one, "two": two})


# Files of the paper's format


def paper_file(path, trials: dict[str, list[int]]):
    """A cache of such a file: feature 0 is the trial, which nothing else says."""
    names = [name for name, own in trials.items() for _ in own]
    numbers = np.array([trial for own in trials.values() for trial in own], dtype=np.float32)
    features = np.zeros((len(names), 2, 3), np.float32)
    features[:, :, 0] = numbers[:, None]
    masses = np.array([10.0 + list(trials).index(name) for name in names])
    write_pt({"features": torch.tensor(features), "obj_names": names, "mass_values": masses}, path)
    cache.save(import_features(path), path.with_suffix(".h5"))
    return path.with_suffix(".h5")


def test_trials_that_are_only_counted_are_not_joined_where_counts_differ(tmp_path):
    everything = {f"thing{number:02d}": list(range(6)) for number in range(12)}
    lacking = everything | {"thing03": [1, 2, 3, 4, 5]}
    one, two = (
        paper_file(tmp_path / f"{name}.pt", trials)
        for name, trials in (("one", everything), ("two", lacking))
    )
    with pytest.raises(HeliographError) as error:
        train([one, two], tmp_path / "run", agents=("one", "two"), **QUICK)
    assert "thing03 has 6 clips in one and 5 in two" in str(error.value)
    assert "extract both caches from the videos" in str(error.value)
    short = {name: trials[1:] for name, trials in everything.items()}
    three = paper_file(tmp_path / "three.pt", short)
    with pytest.raises(HeliographError, match="thing00 has 6 clips in one and 5 in two, and 11"):
        read_inputs({"one": one, "two": three})


def test_trials_that_are_only_counted_are_joined_where_counts_agree(tmp_path):
    trials = {f"thing{number:02d}": list(range(6)) for number in range(12)}
    one, two = (paper_file(tmp_path / f"{name}.pt", trials) for name in ("one", "two"))
    inputs = read_inputs({"one": one, "two": two})
    assert np.array_equal(inputs.caches[0].features, inputs.caches[1].features)
    assert not inputs.left_out


def test_a_baseline_on_another_cache_is_joined_by_content(tmp_path, features):
    known = dataclasses.replace(
        features, source_sha256=[f"{number:064x}" for number in range(len(features))]
    )
    cache.save(known, tmp_path / "own.h5")
    other = known.select(range(len(known))[::-1])
    other = dataclasses.replace(other, clip_id=[f"x{name}" for name in other.clip_id])
    cache.save(other, tmp_path / "other.h5")
    run = train(tmp_path / "own.h5", tmp_path / "run", **QUICK)
    metrics = evaluate(run.folder, permutations=20, against={"other": tmp_path / "other.h5"})
    stored = metrics.to_json()["baselines"]
    assert stored["ridge_other"] == stored["ridge"]
