"""Agents on clips of another cache, and the ridge baseline there."""

from dataclasses import replace

import numpy as np
import pytest

from data.errors import HeliographError
from pipeline.dataset import CacheSource, build_examples
from pipeline.evaluation import transfer
from tests.helpers.features import make_features


def test_the_ridge_baseline_does_not_depend_on_the_last_bit(compositional, request):
    """Each three clips of the other cache look the same, so many predictions are equal."""
    ours, theirs = make_features(objects=25, each=2), make_features(objects=9, each=1, seed=3)
    theirs = replace(theirs, features=theirs.features[np.arange(9) // 3])
    examples = [build_examples(own, ("mass", "volume")) for own in (ours, theirs)]
    clips = np.arange(8)  # the mass of the last is unknown

    def accuracy():
        predictions = transfer._predict_by_ridge(compositional, *examples, clips)
        answers = [transfer.exceeds(values) for values in predictions]
        return transfer._score(compositional, examples[1], answers, [clips] * 3)

    exact = accuracy()
    request.getfixturevalue("other_rounding")
    assert accuracy() == exact


@pytest.mark.parametrize(
    ("field", "sentence"),
    [("fingerprint", "another backbone"), ("sampler", "another sampling")],
)
def test_features_made_in_another_way_are_refused(field, sentence, tmp_path):
    clips = make_features()
    made = {"fingerprint": clips.fingerprint, "sampler": clips.sampler}
    made[field] = {**made[field], "crop": 224}
    source = CacheSource(
        path=tmp_path / "a.h5",
        decoder={},
        dtype="float32",
        content_sha256="0" * 64,
        steps=clips.features.shape[1],
        dim=clips.features.shape[2],
        **made,
    )
    with pytest.raises(HeliographError, match=f"{sentence} than the run's cache: its crop is None"):
        transfer.require_same_features(source, clips, tmp_path / "b.h5")
