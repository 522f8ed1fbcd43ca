"""Caches joined by clip id: the clips they share, what each knows of them, where they disagree."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from data import cache
from data.cache import Features, MappedRows
from data.errors import HeliographError
from pipeline.dataset import (
    CacheSource,
    Examples,
    build_examples,
    join_caches,
    load_finite_cache,
    read_inputs,
)
from pipeline.runs import Run, load_inputs
from pipeline.training import train
from pipeline.training.plan import name_caches
from tests.helpers.features import make_features
from tests.helpers.runs import reseal

QUICK = {"properties": ["mass"], "epochs": 2, "seeds": 1, "vocab": 3}


def static(features: Features, **changes: object) -> Features:
    """The same clips backwards, one step of five dimensions, and without labels."""
    backwards = features.select(range(len(features))[::-1])
    made = np.random.RandomState(1).randn(len(features), 1, 5).astype(np.float32)
    return dataclasses.replace(backwards, features=made, **{"labels": {}} | changes)


@pytest.fixture
def both(features, tmp_path) -> tuple[Path, Path]:
    paths = tmp_path / "video.h5", tmp_path / "still.h5"
    cache.save(features, paths[0])
    cache.save(static(features), paths[1])
    return paths


def test_caches_are_joined_by_id_in_the_order_of_the_first(features):
    other = static(features).select(range(5, len(features)))
    one, two = join_caches({"video": features, "still": other})
    assert list(one.clip_id) == list(two.clip_id) == list(features.clip_id)[:-5]
    assert np.array_equal(one.features, features.features[:-5])
    row = list(other.clip_id).index(one.clip_id[3])
    assert np.array_equal(two.features[3], other.features[row])
    assert one.labels.keys() == features.labels.keys()


def test_what_only_one_cache_knows_is_known_of_the_clip(features):
    mass = features.labels["mass"].copy()
    unknown = dataclasses.replace(features, labels={"mass": np.full(len(features), np.nan)})
    known = dataclasses.replace(
        features, labels={"mass": mass, "age": mass * 2}, object=[""] * len(features)
    )
    merged, _ = join_caches({"a": unknown, "b": known})
    np.testing.assert_array_equal(merged.labels["mass"], mass)
    np.testing.assert_array_equal(merged.labels["age"], mass * 2)
    assert list(merged.object) == list(features.object)


def test_disagreement_is_said_with_the_clip_and_both_values(features):
    mass = features.labels["mass"].copy()
    mass[2] = 77.0
    other = dataclasses.replace(features, labels={"mass": mass})
    with pytest.raises(
        HeliographError, match=r"a and b disagree on the mass of object_00/2: 10 and 77"
    ):
        join_caches({"a": features, "b": other})
    objects = ["someone", *list(features.object)[1:]]
    other = dataclasses.replace(features, object=objects)
    with pytest.raises(
        HeliographError, match=r"the object of object_00/0: 'object_00' and 'someone'"
    ):
        join_caches({"a": features, "b": other})
    strangers = dataclasses.replace(features, clip_id=[f"x{i}" for i in range(len(features))])
    with pytest.raises(
        HeliographError, match=r"a and b share no clip: 'object_00/0' is in a, 'x0' in b"
    ):
        join_caches({"a": features, "b": strangers})


def test_examples_of_several_caches_have_no_single_features(features):
    examples = build_examples(join_caches({"a": features, "b": static(features)}), ("mass",))
    assert examples.flat_features().shape == (len(features), 4 * 12 + 5)
    assert examples.flat_features().dtype == np.float32
    np.testing.assert_array_equal(examples.flat_features()[3, :48], features.features[3].ravel())
    with pytest.raises(HeliographError, match="2 caches"):
        _ = examples.features
    single = Examples((features.features,), np.zeros((len(features), 1)), tuple(features.object))
    assert single.features is features.features


@pytest.mark.parametrize(
    ("caches", "agents", "names", "sees"),
    [
        (["a/v.h5"], 4, ["v"], ()),
        (["a/v.h5"], None, ["v"], ()),
        (["a/v.h5"], ("v", "v"), ["v"], ()),
        (["a/v.h5", "b/d.h5"], ("v", "d", "v"), ["v", "d"], (0, 1, 0)),
        (["v=a/x.h5", "d=b/x.h5"], ("d", "v"), ["v", "d"], (1, 0)),
        (["a/v.h5"], ("v", "e=c/e.h5"), ["v", "e"], (0, 1)),
    ],
)
def test_agents_are_given_caches_by_name(caches, agents, names, sees):
    named, seen = name_caches(caches, agents)
    assert list(named) == names
    assert seen == sees


@pytest.mark.parametrize(
    ("caches", "agents", "sentence"),
    [
        (["v.h5", "d.h5"], 2, "several caches given: assign one per agent, e.g. --agents v,d"),
        (["v.h5", "d.h5"], None, "--agents v,d"),
        (["v.h5"], ("v", "w"), "no cache is called 'w': the caches are v"),
        (["v.h5", "d.h5"], ("v", "v"), "no agent sees d"),
        (["a/v.h5", "b/v.h5"], ("v", "v"), "two caches are called 'v'"),
    ],
)
def test_a_wrong_name_is_said(caches, agents, sentence):
    with pytest.raises(HeliographError) as error:
        name_caches(caches, agents)
    assert sentence in str(error.value)


def test_a_run_on_two_caches_is_written_opened_and_speaks(both, tmp_path, features):
    said = []
    run = train(
        both, tmp_path / "run", agents=("video", "still", "video"), log=said.append, **QUICK
    )
    again = Run.open(run.folder)
    assert again.sources == run.sources
    assert [source.name for source in again.sources] == ["video", "still"]
    assert [source.name for source in again.agent_sources] == ["video", "still", "video"]
    with pytest.raises(HeliographError, match="several caches: video, still"):
        _ = again.source
    inputs = load_inputs(again)
    caches = {
        source.name: torch_of(own)
        for source, own in zip(inputs.sources, inputs.caches, strict=True)
    }
    sender = again.sender()
    assert {"senders.2.encoder.fc.0.bias", "senders.0.heads.1.bias"} <= set(sender.state_dict())
    tokens = sender(caches).numpy()
    assert np.array_equal(tokens, sender([*caches.values()]).numpy())
    assert (tokens == again.tokens()).mean() > 0.99  # a tie may fall either way by rounding
    assert build_examples(inputs.caches, ("mass",)).flat_features().shape == (len(features), 53)


def torch_of(features: Features):
    import torch

    return torch.from_numpy(features.features)


@pytest.mark.parametrize(
    ("give", "sentence"),
    [
        (lambda a, b: a, "needs the features of video and still: 2 tensors, got 1"),
        (lambda a, b: {"video": a}, "needs the features of video and still, got video"),
        (lambda a, b: [b, a], r"features of video must be (clips, 4, 12), got (55, 1, 5)"),
    ],
)
def test_a_sender_says_what_it_needs(both, tmp_path, features, give, sentence):
    run = train(both, tmp_path / "run", agents=("video", "still"), **QUICK)
    one, two = (torch_of(own) for own in (features, static(features)))
    with pytest.raises(HeliographError) as error:
        run.sender()(give(one[:55], two[:55]))
    assert sentence in str(error.value)


def test_clips_of_one_cache_alone_are_left_out_and_counted(features, tmp_path):
    cache.save(features, tmp_path / "video.h5")
    cache.save(static(features).select(range(40)), tmp_path / "still.h5")
    paths = [tmp_path / "video.h5", tmp_path / "still.h5"]
    said = []
    run = train(paths, tmp_path / "run", agents=("video", "still"), log=said.append, **QUICK)
    assert len(run.messages()) == 40
    assert said[0] == f"{len(features) - 40} clips of video left out: 16 not in still"
    assert not any("of still left out" in line for line in said)


def test_axes_are_folded_into_each_agents_own_cache(both, tmp_path):
    run = train(both, tmp_path / "run", agents=("still", "video"), axes=4, **QUICK)
    caches = load_inputs(run).caches
    tokens = run.sender()([torch_of(own) for own in caches]).numpy()
    assert (tokens == run.tokens()).mean() > 0.98


def test_a_run_of_the_older_form_is_read(cache_path, tmp_path):
    import json

    run = train(cache_path, tmp_path / "run", **QUICK)
    path = run.folder / "config.json"
    stored = json.loads(path.read_text())
    (old,) = stored.pop("caches")
    stored["cache"] = {key: value for key, value in old.items() if key != "name"}
    for name in ("sees", "channel", "resets", "logit_clamp"):
        del stored["config"][name]
    path.write_text(json.dumps(stored))
    reseal(run.folder)
    again = Run.open(run.folder)
    assert again.source == run.source
    assert again.config == run.config
    assert np.array_equal(again.tokens(), run.tokens())


def test_a_source_reads_back_as_it_was_written(cache_path):
    (source,) = read_inputs({"made": cache_path}).sources
    assert CacheSource.from_json(source.to_json()) == source


def test_a_mapped_cache_trains_as_a_loaded_one(tmp_path):
    path = tmp_path / "c.h5"
    cache.save(make_features(), path)
    mapped = build_examples(cache.load(path, mapped=True), ("mass",))
    loaded = build_examples(cache.load(path), ("mass",))
    assert mapped.flat_features().tobytes() == loaded.flat_features().tobytes()


@pytest.mark.filterwarnings("error:The given NumPy array is not writable")
@pytest.mark.parametrize("axes", [0, 4])
def test_a_large_cache_stays_in_its_file_and_trains_to_the_same_bits(tmp_path, monkeypatch, axes):
    path = tmp_path / "c.h5"
    cache.save(make_features(), path)
    expected = train(path, tmp_path / "whole", axes=axes, **QUICK)
    monkeypatch.setattr("data.cache.hdf5_reader.LARGE", 100)
    loaded = load_finite_cache(path)
    assert isinstance(loaded.features, MappedRows)
    (features,) = build_examples(loaded, ("mass",)).caches
    assert not features.flags.owndata
    assert not features.flags.writeable
    found = train(path, tmp_path / "mapped", axes=axes, **QUICK)
    for name in ("model.safetensors", "messages.jsonl"):
        assert (found.folder / name).read_bytes() == (expected.folder / name).read_bytes()


def test_a_large_cache_with_a_number_that_is_none_is_refused_by_clip(tmp_path, monkeypatch):
    made = make_features()
    made.features[5, 0, 0] = np.inf
    cache.save(made, tmp_path / "c.h5")
    monkeypatch.setattr("data.cache.hdf5_reader.LARGE", 100)
    monkeypatch.setattr("pipeline.dataset.blocks.BLOCK_NUMBERS", 100)
    with pytest.raises(HeliographError, match=f"of {made.clip_id[5]} are not finite"):
        load_finite_cache(tmp_path / "c.h5")
