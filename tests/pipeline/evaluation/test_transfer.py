"""Agents on clips of another cache, and the ridge baseline there."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data import cache
from data.errors import HeliographError
from pipeline.dataset import CacheSource, RunInputs, build_examples
from pipeline.evaluation import evaluate, transfer
from pipeline.evaluation.baselines.predictors import BaselineInputs, ridge_whole
from pipeline.report.summary import transfer_notes
from pipeline.report.text import score_rows
from pipeline.training import train
from tests.helpers.features import make_features


@pytest.mark.parametrize("predict", [transfer._predict_by_features, transfer._predict_by_pixels])
def test_the_ridge_baselines_do_not_depend_on_the_last_bit(compositional, request, predict):
    """Each three clips of the other cache look the same, so many predictions are equal."""
    ours, theirs = make_features(objects=25, each=2), make_features(objects=9, each=1, seed=3)
    theirs = replace(theirs, features=theirs.features[np.arange(9) // 3])
    examples = [build_examples(own, ("mass", "volume")) for own in (ours, theirs)]
    clips = np.arange(8)  # the mass of the last is unknown
    rows = [np.concatenate([examples[0].features, examples[1].features[clips]])]

    def accuracy():
        predictions = predict(compositional, examples[0], rows)
        answers = [transfer.exceeds(values) for values in predictions]
        return transfer._score(compositional, examples[1], answers, [clips] * 3)

    exact = accuracy()
    request.getfixturevalue("other_rounding")
    assert accuracy() == exact


@pytest.mark.parametrize("logarithms", [False, True])
def test_the_ridge_baseline_reads_other_clips_as_it_reads_test_clips(compositional, logarithms):
    """The other cache has the run's own test clips once more, of features that span decades."""
    rng = np.random.default_rng(0)
    told = compositional.labels[:, None] + 0.1 * rng.normal(size=(50, 3, 2))
    features = (np.exp(3 * told) if logarithms else told).astype(np.float32)
    clips = make_features(objects=25, each=2)
    examples = replace(
        build_examples(clips, ("mass", "volume")), caches=(features,), labels=compositional.labels
    )
    inputs = BaselineInputs(
        caches=[features], labels=compositional.labels, objects=compositional.scorer.objects,
        scenario=[], condition=[],
    )  # fmt: skip
    both = [np.concatenate([features, features])]
    found = transfer._predict_by_features(compositional, examples, both)
    for split, values in zip(compositional.splits, found, strict=True):
        expected = ridge_whole(inputs, split, compositional.config)
        np.testing.assert_allclose(values[split.test], expected, atol=1e-9)


def test_many_features_of_a_file_are_not_copied(compositional, monkeypatch):
    for module in ("ridge", "window_ridge"):
        monkeypatch.setattr(f"pipeline.dataset.{module}.MOST_CLIPS", 40)
    ours, theirs = make_features(objects=25, each=2), make_features(objects=9, each=1, seed=3)
    own, clips = build_examples(ours, ("mass", "volume")), np.arange(8)
    mapped = cache.JoinedRows([ours.features[:20], ours.features[20:]])
    joined = transfer._joined(mapped, theirs.features[clips])
    assert isinstance(joined, cache.MappedRows)
    found, expected = (
        transfer._predict_by_features(compositional, own, [features])
        for features in (joined, transfer._joined(ours.features, theirs.features[clips]))
    )
    for values, others in zip(found, expected, strict=True):
        np.testing.assert_allclose(values, others, atol=1e-12)
    other_type = transfer._joined(mapped, theirs.features[clips].astype(np.float16))
    assert not isinstance(other_type, cache.MappedRows)


def inputs_of(clips, frames, **more):
    """A run's cache whose clips have these thumbnails."""
    shown = replace(clips, thumbnails=frames, **more)
    source = CacheSource.of(Path("a.h5"), shown)
    return RunInputs((source,), (shown,), {}, (source.path,))


def test_pixels_carry_over_where_both_caches_have_them():
    clips = make_features(objects=6, each=2)
    frames = np.random.default_rng(0).integers(0, 256, (len(clips), 3, 4, 4), np.uint8)
    examples = build_examples(clips, ("mass",))
    labelled = np.flatnonzero(~np.isnan(examples.labels[:, 0]))
    inputs = inputs_of(clips, frames)
    other = replace(clips, thumbnails=frames[::-1].copy())
    found, missing = transfer.frames_of(inputs, examples, examples, other)
    assert (list(found), missing) == (["pixels", "differences"], {})
    assert np.array_equal(found["pixels"][1][0], frames[::-1])
    assert found["differences"][0][0].shape == (len(clips), 2, 4, 4)
    lacking = np.isin(np.arange(len(clips)), labelled[:1])
    for lacks, reason in (
        (clips, f"{len(labelled)} of {len(labelled)} clips of the other cache have no thumbnails"),
        (replace(clips, thumbnails=frames[:, :2]), "are 2 x 4 x 4, those of the run 3 x 4 x 4"),
        (replace(clips, thumbnails=frames, without_thumbnails=lacking), "1 of"),
    ):
        found, missing = transfer.frames_of(inputs, examples, examples, lacks)
        assert (found, list(missing)) == ({}, ["pixels", "differences"])
        assert reason in missing["pixels"]
    gaps = inputs_of(clips, frames, without_thumbnails=lacking)
    found, missing = transfer.frames_of(gaps, examples, examples, other)
    assert found == {}
    assert "clips of a have no thumbnails" in missing["differences"]
    one = inputs_of(clips, frames[:, :1])
    found, missing = transfer.frames_of(
        one, examples, examples, replace(clips, thumbnails=frames[:, :1])
    )
    assert list(found) == ["pixels"]
    assert missing == {"differences": "each clip has one frame, in which nothing moves"}


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
    with pytest.raises(
        HeliographError, match=f"{sentence} than the run's cache: its crop is not known"
    ):
        transfer.require_same_features(source, clips, tmp_path / "b.h5")


def test_the_evaluation_scores_pixels_on_the_other_clips(tmp_path, monkeypatch, features):
    """The mass is what frames look like; in the other cache it is the other way around."""
    masses = np.nan_to_num(features.labels["mass"])
    grey = (masses / masses.max() * 200).astype(np.uint8)[:, None, None, None]
    frames = np.broadcast_to(grey, (len(features), 2, 4, 4)).copy()
    frames[:, 1] += 9
    for name, shown in (("own", frames), ("other", 250 - frames), ("none", frames[:0])):
        cache.save(replace(features, thumbnails=shown), tmp_path / f"{name}.h5")
    run = train(
        tmp_path / "own.h5", tmp_path / "run", properties=["mass"], seeds=[0], epochs=2,
        oracle_epochs=0,
    )  # fmt: skip
    module = sys.modules[evaluate.__module__]
    parts = [part for part in module.PARTS if part.compute is module._transfer]
    monkeypatch.setattr(module, "PARTS", parts)
    others = [tmp_path / f"{name}.h5" for name in ("own", "other", "none")]
    metrics = evaluate(run.folder, permutations=10, on=others)
    own, other, none = (metrics.transfer[str(path)] for path in others)
    assert own.pixels.mean > 0.95
    assert other.pixels.mean < 0.05
    assert own.differences.mean == pytest.approx(0.5, abs=0.05)
    assert (none.pixels, none.differences) == (None, None)
    shown = [row[0] for row in score_rows(metrics)[1]]
    assert shown.index(f"pixels on {others[0]}") < shown.index(f"ridge on {others[0]}")
    assert f"pixels on {others[2]}" not in shown
    assert "have no thumbnails" in none.missing_baselines["pixels"]
    assert own.trained_on == none.trained_on > 0
    notes = transfer_notes(metrics)
    assert (
        f"on {others[0]}: the agents were trained on {own.trained_on} of its 55 clips" in notes[0]
    )
    assert any(note.startswith(f"no pixels, differences on {others[2]}: 55 of") for note in notes)
