"""What messages are worth, where it is known what they hold."""

import numpy as np
import pytest

from pipeline.evaluation import probes as worth
from pipeline.evaluation import ridge


def grams(context, features):
    return [ridge.gram(features, split.train) for split in context.splits]


def test_compression_counts_bits(compositional):
    found = worth.compression(compositional, feature_bits=6400)
    assert found["bits_capacity"] == pytest.approx(2 * np.log2(5))
    assert found["bits_used"]["mean"] == pytest.approx(np.log2(25))
    assert found["bits_symbols"]["mean"] == pytest.approx(2 * np.log2(5))
    assert found["ratio"] == pytest.approx(6400 / (2 * np.log2(5)))


def test_likeness_of_messages_is_the_share_of_equal_positions():
    found = worth.message_gram(np.array([[0, 1], [0, 2], [3, 2]]))
    assert found.tolist() == [[1, 0.5, 0], [0.5, 1, 0.5], [0, 0.5, 1]]


def test_probes_find_what_messages_hold_and_nothing_else(compositional, raw):
    rng = np.random.default_rng(3)
    labels = {
        "alpha": compositional.labels[:, 0],
        "sum": compositional.labels.sum(1),
        "luck": rng.random(50),
        "noise": raw[:, 3],
        "rare": np.where(np.arange(50) < 6, 1.0, np.nan),
        "constant": np.ones(50),
    }
    found = worth.probe(compositional, grams(compositional, raw), labels)
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


def test_probes_never_see_test_labels(compositional, raw):
    """Labels of test clips are torn up: predictions, and so accuracies on the rest, stay."""
    column = compositional.labels[:, 0]
    kernels = grams(compositional, raw)
    before = worth._mlp(kernels, column[:, None], compositional)
    torn = column.copy()
    torn[compositional.splits[0].test] = -99
    after = worth._mlp(kernels, torn[:, None], compositional)
    assert np.array_equal(before[0], after[0])
