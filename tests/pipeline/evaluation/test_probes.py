"""Compression and probes, where it is known what messages hold."""

import numpy as np
import pytest

from benchmarks.coverage import Case, sample
from pipeline.dataset import ridge
from pipeline.evaluation import probes
from tests.helpers.rounding import last_bits


def kernels_of(context, features):
    return [ridge.linear_kernel(features, split.train) for split in context.splits]


def test_compression_counts_bits(compositional):
    found = probes.compression(compositional, feature_bits=6400)
    assert found["bits_capacity"] == pytest.approx(2 * np.log2(5))
    assert found["bits_used"]["mean"] == pytest.approx(np.log2(25))
    assert found["bits_symbols"]["mean"] == pytest.approx(2 * np.log2(5))
    assert found["ratio"] == pytest.approx(6400 / (2 * np.log2(5)))


def test_the_kernel_of_messages_is_the_share_of_equal_positions():
    found = probes.message_kernel(np.array([[0, 1], [0, 2], [3, 2]]))
    assert found.tolist() == [[1, 0.5, 0], [0.5, 1, 0.5], [0, 0.5, 1]]


def test_probes_find_what_messages_hold_and_nothing_else(compositional, raw_features):
    rng = np.random.default_rng(3)
    labels = {
        "alpha": compositional.labels[:, 0],
        "sum": compositional.labels.sum(1),
        "luck": rng.random(50),
        "noise": raw_features[:, 3],
        "rare": np.where(np.arange(50) < 6, 1.0, np.nan),
        "constant": np.ones(50),
    }
    found = probes.probe(compositional, kernels_of(compositional, raw_features), labels)
    assert found["alpha"]["trained_on"] is True
    assert found["sum"]["trained_on"] is False
    assert set(found) == {"alpha", "sum", "luck", "noise"}
    for kind in ("ridge", "mlp"):
        assert found["alpha"][kind]["messages"]["mean"] > 0.95
        assert found["sum"][kind]["messages"]["spearman"]["mean"] > 0.9
        assert found["sum"][kind]["retained"]["value"] == pytest.approx(1, abs=0.15)
        assert found["luck"][kind]["retained"] is None
        low, high = found["luck"][kind]["messages"]["interval"]
        assert low < 0.5 < high
        kept = found["noise"][kind]["retained"]  # in the features, not in the messages
        assert found["noise"][kind]["messages"]["mean"] < 0.65
        assert kept is None or kept["value"] < 0.5
    assert found["noise"]["ridge"]["features"]["mean"] > 0.85


def test_what_is_retained_has_an_interval_that_shrinks_with_what_both_share():
    first, second = sample(Case(30, 30, 4, 2, alike=True), (0.6, 0.05, 0.05), 0)
    kept = probes.retained(first, second)
    ratio = float((first.mean[0] - 0.5) / (second.mean[0] - 0.5))
    low, high = kept["interval"]
    assert kept["value"] == pytest.approx(ratio)
    assert (low + high) / 2 == pytest.approx(ratio)
    alone = first.half_width()[0] / (second.mean[0] - 0.5)  # as if the features were known
    assert 0 < (high - low) / 2 < alone
    assert probes.retained(second, second) == {"value": 1.0, "interval": [1.0, 1.0]}
    chance, _ = sample(Case(5, 5, 2, 1, alike=True), (50.0, 0.3, 0.5), 1)
    assert probes.retained(chance, chance) is None


def test_probes_never_see_test_labels(compositional, raw_features):
    """Labels of test clips are replaced: predictions, and so accuracies on the rest, stay."""
    column = compositional.labels[:, 0]
    kernels = kernels_of(compositional, raw_features)
    before = probes._predict_by_mlp(kernels, column[:, None], compositional)
    replaced = column.copy()
    replaced[compositional.splits[0].test] = -99
    after = probes._predict_by_mlp(kernels, replaced[:, None], compositional)
    assert np.array_equal(before[0], after[0])


def test_predictions_that_differ_in_the_last_bit_are_a_tie():
    values, column = np.repeat([0.2, 0.3, 0.5], 4), np.arange(12.0)
    exact, other = (probes.score_label_pairs(v, column, 0.0) for v in (values, last_bits(values)))
    assert (last_bits(values) != values).any()
    assert np.array_equal(exact[0], other[0])


def test_probes_do_not_depend_on_the_last_bit(compositional, raw_features, monkeypatch, request):
    """25 messages for 50 clips: clips with the same message are predicted alike."""
    labels = {"sum": compositional.labels.sum(1), "noise": raw_features[:, 3]}
    kernels = kernels_of(compositional, raw_features)
    exact = probes.probe(compositional, kernels, labels)
    request.getfixturevalue("other_rounding")
    mlp = probes._predict_by_mlp
    monkeypatch.setattr(probes, "_predict_by_mlp", lambda *given: last_bits(mlp(*given)))
    assert probes.probe(compositional, kernels, labels) == exact


def test_the_mlp_predicts_equal_messages_alike(compositional):
    kernels = [probes.message_kernel(messages) for messages in compositional.tokens]
    values = probes._predict_by_mlp(kernels, compositional.labels, compositional)
    pairs = values.reshape(len(values), 25, 2, -1)  # two clips of each message
    assert np.ptp(pairs, axis=2).max() < 1e-10


def test_many_clips_are_probed_in_the_space_of_their_features(
    compositional, raw_features, monkeypatch
):
    labels = {"sum": compositional.labels.sum(1), "noise": raw_features[:, 3]}
    expected = probes.probe(compositional, kernels_of(compositional, raw_features), labels)
    monkeypatch.setattr(ridge, "MOST_CLIPS", 10)
    vectors = [ridge.likeness([raw_features], split.train) for split in compositional.splits]
    found = probes.probe(compositional, vectors, labels)
    for name in labels:
        for source in ("messages", "features"):
            own, before = (entry[name]["ridge"][source] for entry in (found, expected))
            assert own["per_seed"] == pytest.approx(before["per_seed"], abs=1e-9)
            assert own["interval"] == pytest.approx(before["interval"], abs=1e-9)
            mlp, before = (entry[name]["mlp"][source]["mean"] for entry in (found, expected))
            assert mlp == pytest.approx(before, abs=0.1)  # axes have other signs
