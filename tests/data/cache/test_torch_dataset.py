"""Features as a dataset of PyTorch: the right rows, and no object in two splits."""

import math

import numpy as np
import pytest
import torch

from data import cache
from data.errors import HeliographError
from tests.helpers.features import make_features

FEATURES = make_features()
PARTS = ("train", "validation", "test")


def test_items_are_features_labels_and_the_id():
    dataset = FEATURES.to_torch(labels=["volume", "mass"])
    assert len(dataset) == len(FEATURES)
    features, labels, clip = dataset[3]
    assert features.dtype == labels.dtype == torch.float32
    assert np.array_equal(features.numpy(), FEATURES.features[3])
    assert labels.tolist() == [FEATURES.labels["volume"][3], FEATURES.labels["mass"][3]]
    assert clip == FEATURES.clip_id[3]
    assert math.isnan(dataset[len(dataset) - 1][1][1])
    with pytest.raises(IndexError):
        dataset[len(dataset)]


@pytest.mark.parametrize("rule", ["objects", "kfold-3"])
def test_splits_share_no_object_and_are_all_labelled_clips(rule):
    with pytest.warns(UserWarning, match=rf"in no split: 1 of {len(FEATURES)}.*\(mass of 1\)"):
        parts = {name: FEATURES.to_torch(name, rule=rule, seed=3) for name in PARTS}
    objects = [set(part.objects) for part in parts.values()]
    assert sum(map(len, objects)) == len(set.union(*objects))
    ids = [clip for part in parts.values() for clip in part.clip_id]
    assert sorted(ids) == sorted(FEATURES.clip_id[:-1])  # the last one's mass is unknown
    for part in parts.values():
        for number, clip in enumerate(part.clip_id):
            row = FEATURES.clip_id.index(clip)
            assert np.array_equal(part[number][0].numpy(), FEATURES.features[row])
            assert part[number][1][0] == FEATURES.labels["mass"][row]


def test_a_loader_makes_batches_of_a_mapped_cache(tmp_path):
    cache.save(FEATURES, tmp_path / "a.h5")
    dataset = cache.load(tmp_path / "a.h5", mapped=True).to_torch("test", labels=["mass", "volume"])
    batches = list(torch.utils.data.DataLoader(dataset, batch_size=3))
    assert batches[0][0].shape == (3, 4, 12)
    assert batches[0][1].shape == (3, 2)
    assert [clip for *_, ids in batches for clip in ids] == dataset.clip_id


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"split": "val"}, "no split 'val': choose one of train, validation, test, structure"),
        ({"labels": ["size"]}, "no label 'size': choose some of mass, volume"),
        ({"split": "test", "rule": "odd"}, "no split 'odd'"),
        ({"split": "test", "seed": "a"}, "no seed 'a': it is a whole number from 0 to"),
        ({"split": "test", "seed": -1}, "no seed -1"),
        ({"split": "test", "seed": 0.5}, "no seed 0.5"),
        ({"labels": "size"}, "no label 'size'"),
    ],
)
def test_a_wrong_word_is_a_sentence(words, sentence):
    with pytest.raises(HeliographError, match=sentence):
        FEATURES.to_torch(**words)
    assert FEATURES.to_torch(labels="mass")[0][1].shape == (1,)
    few = FEATURES.select(range(8))
    with pytest.raises(HeliographError, match="2 objects are too few"):
        few.to_torch("train")
