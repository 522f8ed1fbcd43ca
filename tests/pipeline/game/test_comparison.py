"""The rules of the game, against plain code written the paper's way."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.agents import CompositionalReceiver, stack_receivers
from pipeline.config import build_config
from pipeline.game import (
    Verdicts,
    comparison_loss,
    draw_pairs,
    entropy_bonus,
    epoch_pairs,
    gumbel_softmax,
    hear,
    pooled_accuracy,
    published_accuracy,
    seed_batches,
)
from pipeline.game.comparison import one_hot_messages

CPU = torch.device("cpu")


def test_pairs_never_pair_a_clip_with_itself():
    a, b = draw_pairs(np.random.RandomState(0), np.array([4, 9, 11]), 500)
    assert (a != b).all()
    assert set(a) == set(b) == {4, 9, 11}


def test_ties_are_left_out_of_a_mass_game():
    config = build_config("published", ("mass",), batch=8)
    labels = np.array([[10.0], [10.4], [20.0], [30.0]])
    pairs = epoch_pairs(np.random.RandomState(0), np.arange(4), labels, config)
    tie = np.abs(labels[pairs.a] - labels[pairs.b]) <= 0.5
    assert tie.any()
    assert (pairs.weight[tie] == 0).all()
    assert (pairs.weight[~tie] == 1).all()
    assert np.array_equal(pairs.answer[..., 0], labels[pairs.a, 0] > labels[pairs.b, 0])


def test_a_batch_with_fewer_than_four_answers_has_none():
    config = build_config("published", ("mass",), batch=4)
    labels = np.array([[1.0], [1.0], [1.0], [9.0]])
    pairs = epoch_pairs(np.random.RandomState(1), np.arange(4), labels, config)
    assert set(pairs.weight.sum(axis=(1, 2))) <= {0.0, 4.0}
    assert (pairs.weight == 0).any()


def test_the_papers_grids_teach_ties_as_not_more():
    config = build_config("published", ("elasticity", "friction"), batch=16)
    labels = np.array([[0.1, 0.2], [0.1, 0.4], [0.5, 0.2]])
    pairs = epoch_pairs(np.random.RandomState(0), np.arange(3), labels, config)
    assert (pairs.weight == 1).all()


def test_seeds_with_fewer_batches_sit_out():
    config = build_config("published", ("mass",), batch=4)
    labels = np.arange(20.0)[:, None]
    epochs = [
        epoch_pairs(np.random.RandomState(seed), np.arange(clips), labels, config)
        for seed, clips in ((0, 12), (1, 20))
    ]
    batches = list(seed_batches(epochs, CPU))
    assert [batch.active.tolist() for batch in batches] == [[True, True]] * 3 + [[False, True]] * 2
    assert np.array_equal(batches[1].a[0], epochs[0].a[1])
    assert np.array_equal(batches[4].b[1], epochs[1].b[4])


@pytest.mark.parametrize("hard", [False, True])
def test_gumbel_softmax_is_torchs(hard):
    logits = torch.randn(6, 5, requires_grad=True)
    torch.manual_seed(3)
    expected = F.gumbel_softmax(logits, tau=1.7, hard=hard)
    torch.manual_seed(3)
    noise = torch.empty(6, 5).exponential_()
    ours = gumbel_softmax(logits, noise, 1.7, hard=hard)
    torch.testing.assert_close(ours, expected)
    (gradient,) = torch.autograd.grad(ours.square().sum(), logits, retain_graph=True)
    (reference,) = torch.autograd.grad(expected.square().sum(), logits)
    torch.testing.assert_close(gradient, reference)


def test_the_loss_is_the_papers():
    torch.manual_seed(0)
    predicted = torch.randn(1, 3, 8, 1)  # three receivers
    answer = torch.randint(0, 2, (1, 8, 1)).float()
    keep = torch.tensor([1, 1, 0, 1, 0, 1, 1, 1]).bool()
    expected = sum(
        F.binary_cross_entropy_with_logits(predicted[0, r, keep, 0], answer[0, keep, 0])
        for r in range(3)
    )
    weight = keep.float().view(1, 8, 1)
    torch.testing.assert_close(comparison_loss(predicted, answer, weight)[0], expected / 3)


def test_the_entropy_bonus_is_the_papers():
    config = build_config("published", ("mass",), agents=1, vocab=5, batch=4)
    torch.manual_seed(0)
    logits = torch.randn(1, 1, 8, 2, 5)  # four pairs, two heads
    logits[..., 0, 0] += 30  # head 0 is certain, head 1 is not
    keep = torch.tensor([[1.0, 1.0, 0.0, 1.0]])
    expected = 0.0
    for side in logits[0, 0].split(4):
        for head in side[keep[0].bool()].unbind(1):
            log_p = F.log_softmax(head, dim=-1)
            entropy = -(log_p.exp().clamp(min=1e-8) * log_p).sum(-1).mean()
            if entropy / math.log(5) < 0.1:
                expected += 0.03 * entropy
    assert expected > 0
    torch.testing.assert_close(entropy_bonus(logits, keep, config)[0], expected)


def test_receivers_hear_by_distinct_messages_what_they_hear_clip_by_clip():
    torch.manual_seed(0)
    receivers = [[CompositionalReceiver(2 * 2 * 3, properties=("mass",)) for _ in range(2)]]
    tokens = np.random.RandomState(0).randint(0, 3, (9, 2, 2))
    verdicts = hear(stack_receivers(receivers, CPU), tokens, 3)
    a, b = (side.ravel() for side in np.indices((9, 9)))
    spoken = one_hot_messages(torch.from_numpy(tokens), 3)
    for number, receiver in enumerate(receivers[0]):
        expected = (receiver(spoken[a], spoken[b]) > 0).numpy()
        assert np.array_equal(verdicts.of(a, b)[number], expected)


def exact(labels: np.ndarray) -> Verdicts:
    """Receivers that are always right."""
    return Verdicts((labels[:, None] > labels[None])[None], np.arange(len(labels)))


def test_accuracy_counts_every_ordered_pair_beyond_the_margin():
    labels = np.array([[1.0], [1.4], [5.0]])
    wrong = exact(-labels)
    assert pooled_accuracy(exact(labels), labels, (0.5,)).together == 1
    assert pooled_accuracy(wrong, labels, (0.5,)).together == 0
    always_more = Verdicts(np.ones((1, 1, 1, 1), bool), np.zeros(3, int))
    assert pooled_accuracy(always_more, labels, (0.5,)).together == 0.5
    assert math.isnan(pooled_accuracy(exact(labels), labels, (9.0,)).together)


def test_all_at_once_counts_pairs_that_differ_in_every_property():
    labels = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    flipped = exact(labels * [1, -1])
    accuracy = pooled_accuracy(flipped, labels, (0.0, 0.0))
    assert accuracy.each == (1.0, 0.0)
    assert accuracy.together == 0.0


def test_the_published_accuracy_is_the_papers_loop():
    rng = np.random.RandomState(5)
    masses = rng.rand(12) * 10
    says = rng.rand(3, 12, 12, 1) > 0.5
    er = np.random.RandomState(999)
    correct = total = 0
    for _ in range(30):
        a, b = er.choice(12, 12), er.choice(12, 12)
        same = a == b
        while same.any():
            b[same] = er.choice(12, same.sum())
            same = a == b
        keep = np.abs(masses[a] - masses[b]) > 0.5
        for receiver in says:
            correct += (receiver[a, b, 0] == (masses[a] > masses[b]))[keep].sum()
            total += keep.sum()
    ours = published_accuracy(Verdicts(says, np.arange(12)), masses[:, None], (0.5,))
    assert ours.together == pytest.approx(correct / total)
