"""The rules of the game, against plain code written the paper's way."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.agents import CompositionalReceiver, stack_receivers
from pipeline.config import build_config
from pipeline.game import (
    ClipTable,
    PairAnswers,
    Rounds,
    answer_tables,
    base,
    build_game,
    comparison,
    draw_pairs,
)
from pipeline.game.pairs import draw_batches, paired, published_pairs, summed_back

CPU = torch.device("cpu")


def game(properties=("mass",), preset="published", **settings):
    return build_game(build_config(preset, properties, **settings))


def epoch(played, labels, seed=0, clips=None):
    table = ClipTable(labels, np.arange(len(labels)))
    everyone = np.arange(len(labels)) if clips is None else clips
    drawn = played.epochs(np.random.RandomState(seed), everyone, table, 1)
    return Rounds(*(array[0] for array in drawn.arrays))


def accuracies(answers, labels, margins):
    """The pooled and the published accuracy."""
    played = game(
        tuple("abc"[: len(margins)]),
        tie_margin=dict(zip("abc", margins, strict=False)),
    )
    table, clips = ClipTable(labels, np.arange(len(labels))), np.arange(len(labels))
    return played.accuracy(answers, table, clips), played.published_accuracy(answers, table, clips)


@pytest.mark.parametrize("pairings", [1, 2, 5])
def test_what_comes_back_to_messages_is_that_of_rolled_and_joined_ones(pairings):
    torch.manual_seed(0)
    a, b = (torch.randn(2, 5, 3, requires_grad=True) for _ in range(2))
    turned = [b.roll(-shift, dims=1) for shift in range(pairings)]
    expected = torch.cat([torch.cat([a] * pairings, dim=1), torch.cat(turned, dim=1)], dim=-1)
    weights = torch.randn(2, 5 * pairings, 6)
    wanted = torch.autograd.grad((expected * weights).sum(), (a, b))
    both = paired(a, b, pairings)
    assert torch.equal(both, expected)
    for ours, own in zip(torch.autograd.grad((both * weights).sum(), (a, b)), wanted, strict=True):
        assert torch.equal(ours, own)
    halves = weights.unflatten(1, (pairings, 5)).chunk(2, dim=-1)
    for ours, own in zip(summed_back(*halves, in_order=False), wanted, strict=True):
        torch.testing.assert_close(ours, own)


def test_pairs_never_pair_a_clip_with_itself():
    a, b = draw_pairs(np.random.RandomState(0), np.array([4, 9, 11]), 500)
    assert (a != b).all()
    assert set(a) == set(b) == {4, 9, 11}


def test_ties_are_left_out_of_a_mass_game():
    labels = np.array([[10.0], [10.4], [20.0], [30.0]])
    pairs = epoch(game(batch=8), labels)
    a, b = np.split(pairs.described, 2, axis=1)
    tie = np.abs(labels[a] - labels[b]) <= 0.5
    assert tie.any()
    assert (pairs.weight[tie] == 0).all()
    assert (pairs.weight[~tie] == 1).all()
    assert np.array_equal(pairs.answer[..., 0], labels[a, 0] > labels[b, 0])


def test_a_batch_with_fewer_than_four_answers_has_none():
    pairs = epoch(game(batch=4), np.array([[1.0], [1.0], [1.0], [9.0]]), seed=1)
    assert set(pairs.weight.sum(axis=(1, 2))) <= {0.0, 4.0}
    assert (pairs.weight == 0).any()


def test_the_papers_grids_teach_ties_as_not_more():
    labels = np.array([[0.1, 0.2], [0.1, 0.4], [0.5, 0.2]])
    assert (epoch(game(("elasticity", "friction"), batch=16), labels).weight == 1).all()


def test_sampled_ties_have_no_answer_nor_has_a_clip_with_itself():
    labels = np.array([[1.0, 2.0], [1.0, 2.0], [5.0, 7.0]])
    table = ClipTable(labels, np.arange(3))
    lists = [np.array([0, 1]), np.array([0, 2])]
    rounds = game(("a", "b")).sample(np.random.default_rng(0).spawn(2), lists, 20, table)
    assert (rounds.weight[0] == 0).all()
    a, b = np.split(rounds.described[1], 2)
    assert np.array_equal(rounds.weight[1], np.repeat((a != b)[:, None], 2, axis=1))
    assert np.array_equal(rounds.answer[1, :, 0], a > b)


def test_seeds_with_fewer_batches_sit_out():
    played, labels = game(batch=4), np.arange(20.0)[:, None]
    table = ClipTable(labels, np.arange(20))
    drawn = [
        played.epochs(np.random.RandomState(seed), np.arange(clips), table, 2)
        for seed, clips in ((0, 12), (1, 20))
    ]
    epochs = list(played.batches(drawn, CPU))
    assert len(epochs) == 2
    for number, batches in enumerate(epochs):
        playing = [batch.active.tolist() for batch in batches]
        assert playing == [[True, True]] * 3 + [[False, True]] * 2
        assert np.array_equal(batches[1].described[0], drawn[0].described[number, 1])
        assert np.array_equal(batches[4].described[0], drawn[0].described[number, 2])
        assert np.array_equal(batches[4].described[1], drawn[1].described[number, 4])


@pytest.mark.parametrize("clips", [2, 3, 4, 7, 165])
@pytest.mark.parametrize("count", [1, 4, 32])
def test_many_batches_are_the_draws_of_each_to_the_bit(clips, count):
    one, many = np.random.RandomState(5), np.random.RandomState(5)
    numbers = np.arange(clips) * 3
    for batches in (1, 7, 150):
        expected = [draw_pairs(one, numbers, count) for _ in range(batches)]
        a, b = draw_batches(many, numbers, count, batches)
        assert a.shape == b.shape == (batches, count)
        for batch, (first, second) in enumerate(expected):
            assert np.array_equal(a[batch], first)
            assert np.array_equal(b[batch], second)
        assert np.array_equal(one.get_state()[1], many.get_state()[1])
        assert one.get_state()[2] == many.get_state()[2]


def test_too_few_clips_drawn_at_once_are_drawn_again(monkeypatch):
    expected = draw_batches(np.random.RandomState(3), np.arange(2), 8, 500)

    class Lavish(np.random.RandomState):
        """Gives a tenth of what is asked for at first."""

        asked = 0

        def choice(self, clips, size):
            self.asked += 1
            return super().choice(clips, size // 10 if self.asked == 1 else size)

    found = draw_batches(Lavish(3), np.arange(2), 8, 500)
    assert all(map(np.array_equal, found, expected))


def test_the_published_pairs_are_those_of_the_papers_test():
    generator, positions = np.random.RandomState(999), np.arange(40)
    drawn = [draw_pairs(generator, positions, 32) for _ in range(30)]
    for found, expected in zip(published_pairs(40), zip(*drawn, strict=True), strict=True):
        assert np.array_equal(found, np.concatenate(expected))


@pytest.mark.parametrize("most", [1, 3000, 1 << 26])
@pytest.mark.parametrize("name", ["comparison", "referential"])
def test_epochs_are_the_same_however_many_are_drawn_at_once(name, most, monkeypatch):
    monkeypatch.setattr(base, "MOST_BYTES", most)
    played, clips = game(batch=4, game=name), [np.arange(12), np.arange(20)]
    table = ClipTable(np.arange(20.0)[:, None], np.arange(20))
    alone = [np.random.RandomState(seed) for seed in range(2)]
    generators = [np.random.RandomState(seed) for seed in range(2)]
    epochs = list(played.play(generators, clips, [table] * 2, 6, CPU))
    assert [len(batches) for batches in epochs] == [5] * 6
    for batches in epochs:
        drawn = [
            played.epochs(generator, own, table, 1)
            for generator, own in zip(alone, clips, strict=True)
        ]
        for number, batch in enumerate(batches):
            for together, *of_seeds in zip(batch.arrays, *(d.arrays for d in drawn), strict=True):
                assert np.array_equal(together[0], of_seeds[0][0, min(number, 2)])
                assert np.array_equal(together[1], of_seeds[1][0, number])


def test_clips_that_are_alike_leave_nothing_to_compare():
    played = game(("mass", "size"), tie_margin={"mass": 0.5})
    labels = np.array([[10.0, 1.0], [10.4, 1.0], [20.0, 2.0]])
    table = ClipTable(labels, np.arange(3))
    assert played.obstacles(table, np.arange(3)) == []
    assert played.obstacles(table, np.arange(2)) == [
        "differ in mass by 0.4 at most, which its tie margin of 0.5 counts as equal "
        "(see --tie-margin)",
        "all have the same size",
    ]


def test_the_loss_is_the_papers():
    torch.manual_seed(0)
    predicted = torch.randn(1, 3, 8, 1)  # three receivers
    answer = torch.randint(0, 2, (1, 8, 1)).float()
    keep = torch.tensor([1, 1, 0, 1, 0, 1, 1, 1]).bool()
    expected = sum(
        F.binary_cross_entropy_with_logits(predicted[0, r, keep, 0], answer[0, keep, 0])
        for r in range(3)
    )
    nothing = torch.empty(1, 0)
    rounds = Rounds(nothing, nothing, answer, keep.float().view(1, 8, 1))
    torch.testing.assert_close(game().loss(predicted, rounds)[0], expected / 3)


@pytest.mark.parametrize("most", [2048, 4])
def test_receivers_answer_by_distinct_messages_what_they_answer_clip_by_clip(most, monkeypatch):
    monkeypatch.setattr(comparison, "MOST_DISTINCT", most)
    monkeypatch.setattr(comparison, "PAIRS_AT_ONCE", 10)
    torch.manual_seed(0)
    receivers = [[CompositionalReceiver(2 * 2 * 3, properties=("mass",)) for _ in range(2)]]
    tokens = torch.from_numpy(np.random.RandomState(0).randint(0, 3, (9, 2, 2)))
    read = F.one_hot(tokens, 3).flatten(1).float()
    answers = game().answer(stack_receivers(receivers, CPU), read, np.arange(9), None)
    assert isinstance(answers, PairAnswers) == (most == 2048)
    a, b = (side.ravel() for side in np.indices((9, 9)))
    order = np.random.RandomState(1).permutation(9)
    assert np.array_equal(answers.reordered(order).of(a, b), answers.of(order[a], order[b]))
    table = answers.of(np.arange(9)[:, None], np.arange(9))
    assert np.array_equal(table.reshape(2, 81, 1), answers.of(a, b))
    for number, receiver in enumerate(receivers[0]):
        expected = (receiver(read[a], read[b]) > 0).numpy()
        assert np.array_equal(answers.of(a, b)[number], expected)
        assert np.array_equal(answers.by_receiver()[number].of(a, b)[0], expected)


@pytest.mark.parametrize(("most", "at_once"), [(2048, 1), (2048, 2), (4, 2)])
def test_receivers_of_many_seeds_answer_as_each_seeds_alone(most, at_once, monkeypatch):
    """Also where a device takes several seeds at once, with messages of different numbers."""
    monkeypatch.setattr(comparison, "MOST_DISTINCT", most)
    monkeypatch.setattr(answer_tables, "SEEDS_AT_ONCE", {"cpu": at_once})
    torch.manual_seed(0)
    counts, size = (9, 3, 0, 70, 1), 2 * 2 * 3
    receivers = [[CompositionalReceiver(size, properties=("mass", "drag"))] * 2 for _ in counts]
    stack = stack_receivers(receivers, CPU)
    read = [torch.randint(0, 2, (count, size)).float() for count in counts]
    clips = [np.arange(count) for count in counts]
    for n, answers in enumerate(game().answer_each(stack, read, clips, None)):
        alone = {name: value[n : n + 1] for name, value in stack.items()}
        expected = game().answer(alone, read[n], clips[n], None)
        every = clips[n][:, None], clips[n]
        assert np.array_equal(answers.message, expected.message)
        assert np.array_equal(answers.of(*every), expected.of(*every))


@pytest.mark.parametrize("values", [2, 2**20])
def test_distinct_rows_are_those_of_numpy(values):
    rows = np.random.default_rng(0).integers(-values, values, (50, 3)).astype(np.float32)
    expected, number = np.unique(rows, axis=0, return_inverse=True)
    for own, of_numpy in zip(comparison.distinct_rows(rows), (expected, number), strict=True):
        assert np.array_equal(own, of_numpy)


def exact(labels: np.ndarray) -> PairAnswers:
    """Receivers that are always right."""
    return PairAnswers((labels[:, None] > labels[None])[None], np.arange(len(labels)))


def test_accuracy_counts_every_ordered_pair_beyond_the_margin():
    labels = np.array([[1.0], [1.4], [5.0]])
    wrong = exact(-labels)
    assert accuracies(exact(labels), labels, (0.5,))[0].together == 1
    assert accuracies(wrong, labels, (0.5,))[0].together == 0
    always_more = PairAnswers(np.ones((1, 1, 1, 1), bool), np.zeros(3, int))
    assert accuracies(always_more, labels, (0.5,))[0].together == 0.5
    assert math.isnan(accuracies(exact(labels), labels, (9.0,))[0].together)


def many(levels: int | None, clips: int = 300) -> tuple[PairAnswers, np.ndarray]:
    """Receivers that are right of many pairs, and labels of so many levels; None: no two alike."""
    rng = np.random.RandomState(0)
    labels = rng.rand(clips, 2) if levels is None else rng.randint(levels, size=(clips, 2)) * 1.0
    return PairAnswers(rng.rand(3, 12, 12, 2) > 0.4, rng.randint(12, size=clips)), labels


def test_clips_of_equal_messages_and_labels_are_counted_to_the_same_accuracy(monkeypatch):
    answers, labels = many(levels=3)
    every = accuracies(answers, labels, (0.5, 0.0))[0]
    monkeypatch.setattr(comparison, "MOST_DISTINCT", 12 * 9)
    monkeypatch.setattr(comparison, "DRAWN_PAIRS", 0)
    assert accuracies(answers, labels, (0.5, 0.0))[0] == every


def test_of_too_many_clips_pairs_are_drawn(monkeypatch):
    answers, labels = many(levels=None)
    every = accuracies(answers, labels, (0.1, 0.0))[0]
    monkeypatch.setattr(comparison, "MOST_DISTINCT", 100)
    drawn = accuracies(answers, labels, (0.1, 0.0))[0]
    assert drawn == accuracies(answers, labels, (0.1, 0.0))[0] != every
    assert drawn.together == pytest.approx(every.together, abs=0.003)
    assert drawn.each == pytest.approx(every.each, abs=0.003)


def test_no_more_pairs_are_asked_about_than_are_drawn(monkeypatch):
    asked = 0

    class Counted(PairAnswers):
        def of(self, a, b):
            nonlocal asked
            asked += np.broadcast(a, b).size
            return super().of(a, b)

    monkeypatch.setattr(comparison, "DRAWN_PAIRS", 5000)
    for levels, most in ((2, 48**2), (None, 5000)):
        answers, labels = many(levels, clips=20_000)
        asked = 0
        counted = Counted(answers.says_more, answers.message)
        game(("a", "b")).accuracy(counted, ClipTable(labels, labels[:, 0]), np.arange(20_000))
        assert 0 < asked <= most


def test_all_at_once_counts_pairs_that_differ_in_every_property():
    labels = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    flipped = exact(labels * [1, -1])
    accuracy = accuracies(flipped, labels, (0.0, 0.0))[0]
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
    ours = accuracies(PairAnswers(says, np.arange(12)), masses[:, None], (0.5,))[1]
    assert ours.together == pytest.approx(correct / total)
