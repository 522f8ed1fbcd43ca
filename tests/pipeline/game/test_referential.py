"""The referential game: candidates of different objects, a judge with chance 1 / (K + 1)."""

import numpy as np
import pytest
import torch

from data.errors import HeliographError, InvalidValueError
from pipeline.agents import AgentFactory, AgentWindows
from pipeline.config import build_config
from pipeline.dataset import blocks, build_examples
from pipeline.game import GAMES, ClipTable, build_game, referential
from pipeline.game.referential import SETS, CandidateScores, share_of_guess
from pipeline.training import fit

CPU = torch.device("cpu")
TABLE = ClipTable(np.zeros((30, 1)), np.repeat(np.arange(10), 3))
CLIPS = np.arange(30)


def settings(distractors=2, **more):
    return {"game": "referential", "game_settings": {"distractors": distractors}} | more


UNKNOWN = {"game_settings": {"rivals": 3}}


def game(distractors=2, **more):
    return build_game(build_config("default", ("mass",), **settings(distractors, **more)))


def scores(function):
    """A receiver that gives clip j this score for the message of clip i."""
    pairs = [[function(i, j) for j in CLIPS] for i in CLIPS]
    return CandidateScores(np.array([pairs], np.float32))


def test_games_are_found_by_their_files():
    assert list(GAMES) == ["comparison", "referential"]


def test_candidates_are_of_different_objects_and_the_first_is_meant():
    played = game(3, batch=8)
    rounds = played.epochs(np.random.RandomState(0), CLIPS, TABLE, 2)
    assert rounds.described.shape == (2, 3, 8)
    parts = (array.reshape(6, *array.shape[2:]) for array in rounds.arrays[:3])
    for targets, pool, rows in zip(*parts, strict=True):
        candidates = pool[rows]  # (rounds, K + 1)
        assert np.array_equal(candidates[:, 0], targets)
        objects = TABLE.objects[candidates]
        assert all(len(set(row)) == 4 for row in objects)


def test_a_pool_has_candidates_however_few_objects_its_targets_have():
    rounds = game(9).draw(np.random.RandomState(0), CLIPS, 1, TABLE)
    assert set(TABLE.objects[rounds.shown[rounds.answer[0]]]) == set(range(10))


def test_the_judge_draws_the_same_sets_again_and_candidates_stay_in_their_part():
    played, part = game(2), np.arange(12, 24)
    sets = played.candidate_sets(TABLE, part)
    assert sets.shape == (12, SETS, 3)
    assert np.array_equal(sets, played.candidate_sets(TABLE, part))
    assert np.array_equal(sets[:, :, 0], np.repeat(np.arange(12)[:, None], SETS, axis=1))
    assert all(len(set(row)) == 3 for row in TABLE.objects[part][sets].reshape(-1, 3))


def test_accuracies_of_receivers_that_know_everything_nothing_and_the_opposite():
    played = game(3)
    exact = played.accuracy(scores(lambda i, j: float(i == j)), TABLE, CLIPS)
    assert (exact.together, exact.each) == (1.0, ())
    same_object = played.accuracy(scores(lambda i, j: float(i // 3 == j // 3)), TABLE, CLIPS)
    assert same_object.together == 1.0  # no distractor is of the object
    assert played.accuracy(scores(lambda i, j: 1.0), TABLE, CLIPS).together == pytest.approx(1 / 4)
    assert played.accuracy(scores(lambda i, j: -float(i == j)), TABLE, CLIPS).together == 0
    assert played.published_accuracy(scores(lambda i, j: 1.0), TABLE, CLIPS) is None


def test_messages_of_other_clips_are_as_good_as_a_guess():
    exact = scores(lambda i, j: float(i == j))
    rng = np.random.default_rng(0)
    found = [
        game(3).accuracy(exact.reordered(rng.permutation(30)), TABLE, CLIPS).together
        for _ in range(30)
    ]
    assert np.mean(found) == pytest.approx(1 / 4, abs=0.04)


def test_a_tie_up_to_rounding_is_shared():
    assert share_of_guess(np.array([1.0, 1.0 + 1e-7, 0.2])) == 0.5


def test_too_few_objects_are_named():
    few = np.arange(6)
    assert game(1).obstacles(TABLE, few) == []
    assert game(2).obstacles(TABLE, few) == [
        "show 2 objects, and a round with 2 distractors needs 3 (see --distractors)"
    ]
    assert np.isnan(game(2).accuracy(scores(lambda i, j: 1.0), TABLE, few).together)


def test_wrong_settings_are_refused():
    with pytest.raises(InvalidValueError, match="distractors must be at least 1, got 0"):
        game(0)
    with pytest.raises(InvalidValueError, match="no setting 'rivals'"):
        game(**UNKNOWN)
    with pytest.raises(InvalidValueError, match="learns from no labels"):
        game(shuffle_labels=True)
    with pytest.raises(InvalidValueError, match="--null is no control"):
        game(null=1)


@pytest.mark.parametrize("shapes", [((8, 6),), ((8, 6), (1, 5)), ((4, 6), (4, 6))])
def test_stacked_receivers_equal_their_modules(shapes):
    torch.manual_seed(0)
    played = game(2, batch=5)
    steps, dims = zip(*shapes, strict=True)
    factory = AgentFactory(played.config, steps, dims)
    modules = [[played.build_receiver(12, factory) for _ in range(2)] for _ in range(3)]
    stack = played.stack_receivers(modules, CPU)
    features = [torch.randn(30, *shape) for shape in shapes]
    epochs = [played.epochs(np.random.RandomState(seed), CLIPS, TABLE, 1) for seed in range(3)]
    rounds = next(played.batches(epochs, CPU))[0]
    messages = torch.randn(3, 5, 12)
    logits = played.predict(stack, messages, rounds, AgentWindows.whole(features))
    assert logits.shape == (3, 2, 5, 3)
    for seed in range(3):
        candidates = rounds.shown[seed][rounds.answer[seed]]  # (rounds, K + 1)
        for number, module in enumerate(modules[seed]):
            expected = module(messages[seed], [cache[candidates] for cache in features])
            torch.testing.assert_close(logits[seed, number], expected, atol=1e-5, rtol=1e-5)
            copy = played.build_receiver(12, factory)
            played.unstack_receiver(stack, seed, number, copy)
            for name, value in module.state_dict().items():
                assert torch.equal(copy.state_dict()[name], value), name


def test_the_loss_is_the_cross_entropy_of_the_target():
    played = game(2, batch=5)
    epochs = [played.epochs(np.random.RandomState(0), CLIPS, TABLE, 1)]
    rounds = next(played.batches(epochs, CPU))[0]
    predicted = torch.randn(1, 2, 5, 3)
    expected = torch.nn.functional.cross_entropy(
        predicted.flatten(0, 2), torch.zeros(10, dtype=torch.int64)
    )
    torch.testing.assert_close(played.loss(predicted, rounds)[0], expected)
    assert played.played(rounds).tolist() == [[1.0] * 5]


def test_axes_of_features_in_blocks_are_those_of_all(monkeypatch):
    rng = np.random.default_rng(0)
    caches = [rng.normal(size=(50, 3, 40)).astype(np.float16), rng.normal(size=(50, 1, 30))]
    train = np.arange(0, 50, 2)
    expected = referential._leading_axes(caches, train)
    assert expected.shape == (50, 24)  # of 25 clips about their mean
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", 700)
    monkeypatch.setattr(referential, "BLOCK_NUMBERS", 700)
    found = referential._leading_axes(caches, train)
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, atol=1e-8)


def test_baselines_of_clips_that_features_tell_apart():
    rng = np.random.default_rng(0)
    objects = 5 * rng.standard_normal((10, 1, 6))
    features = np.repeat(objects, 3, axis=0) + 0.1 * rng.standard_normal((30, 2, 6))
    played = game(3, agents=1, heads=2, vocab=3)
    baselines = played.baselines([features], TABLE, CLIPS[:24], CLIPS)
    judged = {name: played.accuracy(own, TABLE, CLIPS) for name, own in baselines.items()}
    assert judged["other_trial"].together > 0.95
    assert judged["clusters"].together > 0.6
    alone = ClipTable(TABLE.labels, CLIPS)
    assert played.baselines([features], alone, CLIPS[:24], CLIPS)["other_trial"] is None


def test_one_seed_alone_equals_the_same_seed_in_a_chunk(features):
    quick = settings(epochs=3, agents=2, vocab=4, refit=False, oracle_epochs=2)
    config = build_config("default", ("mass",), **quick)
    examples = build_examples(features, ("mass",))
    alone = next(iter(fit(examples, config, [1])))
    beside = list(fit(examples, config, [0, 1]))[1]
    assert np.array_equal(alone.tokens, beside.tokens)
    for module in ("sender", "receiver"):
        states = [getattr(result, module).state_dict() for result in (alone, beside)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert alone.accuracy_published_protocol is None


def test_it_learns_to_tell_objects_apart(features):
    quick = settings(1, epochs=60, agents=1, refit=False, sender_lr=3e-3, receiver_lr=3e-3)
    config = build_config("default", ("mass",), **quick)
    results = list(fit(build_examples(features, ("mass",)), config, range(2)))
    assert np.mean([result.accuracy_test.together for result in results]) > 0.6


def test_a_part_with_too_few_objects_is_refused(features):
    config = build_config("default", ("mass",), **settings(7, epochs=1))
    with pytest.raises(HeliographError, match=r"clips show \d objects, and a round with 7"):
        list(fit(build_examples(features, ("mass",)), config, [0]))


@pytest.mark.parametrize("own_features", [False, True])
@pytest.mark.parametrize("at_once", [2, 8])
def test_seeds_that_are_judged_together_score_as_each_alone(monkeypatch, at_once, own_features):
    torch.manual_seed(0)
    played = game(2)
    factory = AgentFactory(played.config, (4,), (6,))
    receivers = played.fresh_receivers(12, factory, range(5), CPU, count=2)
    shape = (5, 30, 4, 6) if own_features else (30, 4, 6)
    windows = AgentWindows.whole([torch.randn(shape)])
    clips = [CLIPS[:7], CLIPS[3:24], CLIPS[:0], CLIPS[20:], CLIPS[5:6]]
    messages = [torch.randn(len(own), 12) for own in clips]
    alone = [
        played.answer(
            {name: value[n : n + 1] for name, value in receivers.items()},
            messages[n],
            own,
            windows.of_seed(n),
        )
        for n, own in enumerate(clips)
    ]
    for found, expected in zip(
        played.answer_each(receivers, messages, clips, windows), alone, strict=True
    ):
        assert np.array_equal(found.scores, expected.scores)  # on a CPU, to the bit
    calls, scores = [], referential._scores
    monkeypatch.setattr(referential, "SEEDS_AT_ONCE", {"cpu": at_once})
    monkeypatch.setattr(referential, "_scores", lambda *args: calls.append(1) or scores(*args))
    for found, own, expected in zip(
        played.answer_each(receivers, messages, clips, windows), clips, alone, strict=True
    ):
        assert found.scores.shape == (2, len(own), len(own))
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-6)
    assert len(calls) == -(-5 // at_once)
    monkeypatch.setattr(referential, "MOST_SCORES", 2 * 21 * 21)
    played.answer_each(receivers, messages, clips, windows)
    assert len(calls) == -(-5 // at_once) + 5
