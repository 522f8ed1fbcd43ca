"""Accuracies from counts: counted right, and intervals that cover."""

import numpy as np
import pytest

from pipeline.config import build_config
from pipeline.evaluation.pair_scores import PairScorer, count_pairs, score_auc, score_pairs
from pipeline.game import ClipTable, PairAnswers, build_game
from tests.pipeline.metrics.make_metric_references import REFERENCES, scores


def test_accuracies_are_those_of_the_game():
    rng = np.random.default_rng(0)
    says = rng.random((3, 12, 12, 2)) < 0.5  # of 12 clips, each of its own message
    labels = rng.integers(4, size=(12, 2)).astype(float)
    margins = (0.0, 1.0)
    clips = np.arange(12)
    scores = PairScorer([str(clip) for clip in clips], [clips]).score_pairs(
        [says], labels, [clips], margins
    )
    game = build_game(build_config("default", ("a", "b"), tie_margin={"b": 1.0}))
    accuracy = game.accuracy(PairAnswers(says, clips), ClipTable(labels, clips), clips)
    assert scores.per_seed[0].tolist() == pytest.approx([*accuracy.each, accuracy.together])


def test_objects_count_not_clips():
    """Twelve clips of each object are no more evidence about objects than one."""
    objects = [f"object_{number}" for number in range(8)]
    labels = np.arange(8.0)[:, None]
    scores = np.random.default_rng(1).permutation(8).astype(float) + labels[:, 0]
    widths = []
    for each in (1, 12):
        clips = np.arange(8 * each)
        values = np.repeat(scores, each)
        says = (values[:, None] > values)[..., None]
        found = PairScorer(np.repeat(objects, each).tolist(), [clips]).score_pairs(
            [says], np.repeat(labels, each, axis=0), [clips], (0.0,)
        )
        widths.append(float(np.ptp(found.interval()[0])))
    assert widths[0] == pytest.approx(widths[1], rel=1e-9)
    assert widths[0] > 0.1


def test_the_interval_covers_the_truth():
    """Objects with an accuracy of their own about 0.7: the interval holds it 19 times in 20."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(60):
        clips = np.arange(30)
        objects = [str(clip) for clip in clips]
        chance = np.clip(0.7 + 0.15 * rng.standard_normal(30), 0, 1)
        says = rng.random((30, 30)) < (chance[:, None] + chance) / 2
        truth = np.arange(30)[:, None] > np.arange(30)
        said = np.where(says, truth, ~truth)[..., None]
        scorer = PairScorer(objects, [clips])
        found = scorer.score_pairs([said], np.arange(30.0)[:, None], [clips], (0.0,))
        low, high = found.interval()[0]
        held += low <= 0.7 <= high
    assert held >= 51


def test_differences_are_paired():
    rng = np.random.default_rng(0)
    clips = np.arange(40)
    labels = rng.random((40, 1))
    objects = [str(clip // 4) for clip in clips]
    scorer = PairScorer(objects, [clips, clips])
    noisy = labels[:, 0] + 0.5 * rng.standard_normal((2, 40))
    says = [(one[:, None] > one)[..., None] for one in noisy]
    scores = scorer.score_pairs(says, labels, [clips, clips], (0.0,))
    assert (scores - scores).interval()[0].tolist() == [0, 0]
    assert np.ptp(scores.interval()[0]) > 0.02


def test_pairs_within_the_margin_do_not_count():
    labels = np.array([[1.0], [1.4], [3.0]])
    right, asked = score_pairs(np.ones((3, 3, 1), bool), labels, (0.5,))
    assert asked[..., 0].sum() == 4
    assert (right * asked)[..., 0].sum() == 2


def test_auc_is_scikit_learns():
    values, labels = (column[:, None] for column in scores())
    clips = np.arange(len(labels))
    scorer = PairScorer([str(clip) for clip in clips], [clips])
    found = scorer.score([count_pairs(*score_auc(values, labels > 0), clips)])
    assert found.per_seed[0, 0] == pytest.approx(REFERENCES["auc"], abs=1e-12)


def test_auc_counts_scores_that_differ_in_the_last_bit_half():
    right, _ = score_auc(np.array([[0.3], [0.1 + 0.2]]), np.array([[True], [False]]))
    assert right[..., 0].tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_a_tally_for_another_number_of_seeds_is_refused():
    scorer = PairScorer(["a", "b"], [np.arange(2)])
    with pytest.raises(ValueError, match="0 counts for 1 seeds"):
        scorer.score([])
