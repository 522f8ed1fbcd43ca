"""Training: a seed's result is its own, it learns, and it goes through the paper's motions."""

import copy

import numpy as np
import pytest
import torch

from data.errors import HeliographError
from pipeline.config import build_config
from pipeline.dataset import Examples, build_examples
from pipeline.game import ClipTable, Rounds, build_game
from pipeline.game.pairs import paired
from pipeline.runs import SeedResult
from pipeline.training import fit
from pipeline.training import trainer as chunk
from pipeline.training.fit import null_examples
from pipeline.training.optimizer import MaskedAdam, SeedAdam

SMALL = {"epochs": 12, "vocab": 4, "reset_interval": 5, "soft_epochs": 3, "refit": False}


def train(features, seeds, properties=("mass",), preset="default", **settings) -> list[SeedResult]:
    config = build_config(preset, properties, **SMALL | settings)
    return list(fit(build_examples(features, properties), config, seeds))


def same(one: SeedResult, other: SeedResult) -> bool:
    states = [(one.sender, other.sender), (one.receiver, other.receiver)]
    return np.array_equal(one.tokens, other.tokens) and all(
        torch.equal(a, b)
        for left, right in states
        for a, b in zip(left.state_dict().values(), right.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("settings", [{}, {"axes": 6}, {"agents": 1, "heads": 1}])
def test_a_seed_alone_is_the_same_seed_among_seven_in_any_order(features, settings):
    settings = settings | {"epochs": 6, "reset_interval": 3}
    alone = train(features, [3], **settings)[0]
    among = {r.seed: r for r in train(features, [6, 0, 3, 5, 1, 2, 4], **settings)}
    backwards = {r.seed: r for r in train(features, [4, 3, 2], **settings)}
    assert same(alone, among[3])
    assert same(alone, backwards[3])
    assert same(among[2], backwards[2])
    assert not same(among[0], among[1])


def test_pairings_compare_what_is_said_with_every_other_pair():
    config = build_config("default", ("mass",), tie_margin={"mass": 0.0}, batch=4, pairings=3)
    labels = np.arange(9.0)[:, None]
    table = ClipTable(labels, np.arange(9))
    drawn = build_game(config).epochs(np.random.RandomState(0), np.arange(9), table, 1)
    pairs = Rounds(*(array[0] for array in drawn.arrays))
    assert pairs.described.shape == (2, 8)
    assert pairs.answer.shape == (2, 12, 1)
    a, b = torch.from_numpy(pairs.described)[..., None].chunk(2, dim=1)
    first, second = paired(a, b, 3).numpy().transpose(2, 0, 1)
    np.testing.assert_array_equal(pairs.answer[..., 0], first > second)
    np.testing.assert_array_equal(pairs.weight[..., 0], first != second)
    assert len(set(zip(first[0], second[0], strict=True))) > 4
    with pytest.raises(HeliographError, match="5 pairings of a batch of 4"):
        build_config("default", ("mass",), batch=4, pairings=5)
    assert build_config("default", ("mass",), batch=4).pairings == 4


def test_two_properties_with_an_oracle_are_seeded_too(features):
    settings = {"properties": ("mass", "volume"), "oracle_epochs": 3, "epochs": 4}
    alone = train(features, [1], **settings)[0]
    assert same(alone, train(features, [0, 1], **settings)[1])


def test_the_agents_learn_what_is_there_to_learn(features):
    quick = {"epochs": 60, "reset_interval": 40, "sender_lr": 3e-3, "receiver_lr": 3e-3}
    results = train(features, range(3), **quick)
    control = train(features, range(3), **quick, shuffle_labels=True)
    learnt = np.mean([r.accuracy_test.together for r in results])
    assert learnt > 0.75
    assert np.mean([r.accuracy_test.together for r in control]) < learnt - 0.15


def test_null_seeds_learn_from_permuted_labels_and_leave_the_others_as_they_are(features):
    examples = build_examples(features, ("mass",))
    config = build_config("default", ("mass",), **SMALL)
    own = list(fit(examples, config, [0, 1]))
    told = []
    *beside, null = fit(examples, config, [0, 1], null=[2], progress=told.append)
    assert [one.seed for one in beside] == [0, 1]
    assert all(same(one, other) for one, other in zip(own, beside, strict=True))
    permuted = null_examples(examples, config, 2)
    (alone,) = fit(permuted, config, [2])
    assert null.seed == 2
    assert same(null, alone)
    assert np.array_equal(null.labels, permuted.labels, equal_nan=True)
    assert beside[0].labels is None
    assert np.isin(permuted.labels[examples.labelled], examples.labels).all()
    assert not same(null, train(features, [2])[0])
    assert told[-1].seeds == (0, 1, 2)
    assert np.isnan(told[-1].validation).tolist() == [False, False, True]
    assert told[-1].accuracy_validation == pytest.approx(np.mean(told[-1].validation[:2]))


def test_every_clip_speaks_but_only_labelled_ones_are_split(features):
    (result,) = train(features, [0], epochs=1)
    unlabelled = len(features) - 1
    assert result.tokens.shape == (len(features), 2, 2)
    assert (result.tokens >= 0).all()
    assert (result.tokens < 4).all()
    split = result.split
    together = np.concatenate([split.train, split.validation, split.test])
    assert unlabelled not in together
    assert sorted(together) == list(range(unlabelled))


def test_the_kept_sender_says_the_tokens_that_were_scored(features):
    for settings in ({}, {"axes": 6}):
        (result,) = train(features, [0], **settings)
        with torch.no_grad():
            said = result.sender(torch.from_numpy(features.features)).numpy()
        assert (said == result.tokens).mean() > 0.99  # a tie may fall either way by rounding


def test_without_validation_nothing_is_chosen(features):
    (result,) = train(features, [0], preset="published")
    assert result.accuracy_test is None
    assert result.accuracy_validation is None
    assert result.epoch == 12
    looks = [row.accuracy_published_protocol for row in result.history if row.epoch in (1, 12)]
    assert result.accuracy_published_protocol.together == max(looks)


def test_the_checkpoint_is_the_best_on_validation_of_the_second_half(features):
    (result,) = train(features, [0], epochs=30)
    scores = {row.epoch: row.accuracy_validation for row in result.history}
    assert list(scores) == [1, 10, 20, 30]
    best = max(scores[20], scores[30])
    assert scores[result.epoch] == best == result.accuracy_validation.together
    assert result.epoch in (20, 30)
    chosen = next(row for row in result.history if row.epoch == result.epoch)
    assert result.accuracy_test.together == chosen.accuracy_test


def test_the_last_epoch_is_kept_where_nothing_may_choose(features):
    preferred = 0
    for result in train(features, range(5), epochs=30, kept_epoch="last"):
        scores = {row.epoch: row.accuracy_validation for row in result.history}
        preferred += scores[20] > scores[30]
        assert result.epoch == 30
        assert result.accuracy_test == result.accuracy_last_epoch
        assert result.accuracy_validation.together == scores[30]
    assert preferred  # validation would have chosen another


def test_a_seed_that_diverges_is_counted_and_leaves_the_others_alone(features):
    poisoned = features.features.copy()
    (good,) = train(features, [1], preset="published", epochs=2)
    objects = [features.object[i] for i in good.split.test]
    poisoned[[name in objects for name in features.object]] = np.nan  # seed 0 trains on some
    examples = Examples((poisoned,), features.labels["mass"][:, None], tuple(features.object))
    config = build_config("published", ("mass",), **SMALL | {"epochs": 2})
    bad, still_good = fit(examples, config, [0, 1])
    assert bad.skipped_batches > 0
    assert still_good.skipped_batches == 0
    for name, value in good.sender.state_dict().items():
        assert torch.equal(still_good.sender.state_dict()[name], value), name


def test_a_split_with_one_value_has_nothing_to_compare(features):
    labels = np.full((len(features), 1), 5.0)
    examples = Examples((features.features,), labels, tuple(features.object))
    with pytest.raises(HeliographError, match=r"the same mass: .* another --split"):
        next(fit(examples, build_config("published", ("mass",)), [0]))


def test_progress_is_told_after_every_epoch(features):
    seen = []
    config = build_config("default", ("mass",), **SMALL | {"refit": True})
    list(fit(build_examples(features, ("mass",)), config, range(2), progress=seen.append))
    assert [p.epoch for p in seen] == list(range(1, 25))  # twice: with validation, and again
    assert {p.epochs for p in seen} == {24}
    assert seen[0].seeds == (0, 1)
    assert seen[0].tau == 3.0
    assert seen[11].tau == seen[-1].tau == 1.0
    assert 0 <= seen[11].accuracy_validation <= 1


def test_refit_keeps_the_chosen_epoch_of_a_training_with_the_validation_clips(features):
    chose, result = (train(features, [1, 4], refit=refit) for refit in (False, True))
    for before, after in zip(chose, result, strict=True):
        assert after.epoch == before.epoch
        assert after.accuracy_validation == before.accuracy_validation
        assert len(before.split.validation)
        assert not len(after.split.validation)
        np.testing.assert_array_equal(after.split.train, before.split.joined().train)
        np.testing.assert_array_equal(after.split.test, before.split.test)
        assert after.accuracy_test is not None
        at_that_epoch = next(row for row in after.history if row.epoch == after.epoch)
        assert after.accuracy_test.together == at_that_epoch.accuracy_test
    assert not same(chose[0], result[0])


@pytest.mark.parametrize("kind", [SeedAdam, MaskedAdam])
@pytest.mark.parametrize("lead", [1, 2])
def test_adam_steps_a_seed_as_torch_does_and_spares_those_that_sit_out(kind, lead):
    torch.manual_seed(0)
    start = torch.randn(2, 3, 4)
    stack = {"w": start.clone().requires_grad_()}
    adam = kind(stack, lr=0.1, weight_decay=0.01, lead=lead)
    alone = start[0].clone().requires_grad_()
    reference = torch.optim.Adam([alone], lr=0.1, weight_decay=0.01)
    for step in range(4):
        (
            adam.parameters()["w"].square().sum(dim=(1, 2)) * torch.tensor([1, torch.nan])
        ).sum().backward()
        adam.step(torch.tensor([step < 3, False]))
        if step < 3:
            reference.zero_grad()
            alone.square().sum().backward()
            reference.step()
    torch.testing.assert_close(adam.stack["w"][0], alone)
    assert torch.equal(adam.stack["w"][1], start[1])


@pytest.mark.parametrize("kind", [SeedAdam, MaskedAdam])
def test_adam_begins_again_with_one_net_or_all_or_goes_on_from_a_state(kind):
    def steps(adam, count):
        for _ in range(count):
            adam.parameters()["w"].square().sum().backward()
            adam.step(torch.tensor([True, True]))
        return adam.stack["w"].detach().clone()

    def started(weights):
        return kind({"w": weights.clone().requires_grad_()}, lr=0.1, lead=2)

    torch.manual_seed(0)
    adam = started(torch.randn(2, 3, 4))
    middle = steps(adam, 3)
    state = copy.deepcopy(adam.state())
    adam.restart(1)
    after = steps(adam, 2)
    fresh = steps(started(middle), 2)
    assert torch.equal(after[:, 1], fresh[:, 1])
    assert not torch.allclose(after[:, 0], fresh[:, 0])
    other = started(middle)
    other.load(state)
    gone_on = steps(other, 2)
    assert torch.equal(after[:, 0], gone_on[:, 0])
    assert not torch.allclose(after[:, 1], gone_on[:, 1])
    other.restart()
    assert torch.equal(steps(other, 2), steps(started(gone_on), 2))


def test_the_masked_adam_takes_nets_of_several_kinds_and_a_rate_of_nothing():
    torch.manual_seed(0)
    shapes = {"0:w": (2, 3, 4, 5), "0:b": (2, 3, 5), "1:w": (2, 1, 7, 2), "1:b": (2, 1, 2)}
    start = {name: torch.randn(shape) for name, shape in shapes.items()}
    ends = []
    for kind in (SeedAdam, MaskedAdam):
        adam = kind({n: v.clone().requires_grad_() for n, v in start.items()}, lr=0.01)
        for scale in (0.1, 100.0, 10.0):
            sum(scale * value.square().sum() for value in adam.parameters().values()).backward()
            adam.clip(1, 1.0)
            adam.step(torch.tensor([True, scale != 100.0]))
        ends.append(adam.stack)
    assert list(ends[0]) == list(ends[1])
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value.detach())
        assert not torch.equal(value, start[name])
    still = MaskedAdam({"w": start["0:w"].clone().requires_grad_()}, lr=0.0)
    still.parameters()["w"].square().sum().backward()
    still.step(torch.tensor([True, True]))
    assert torch.equal(still.stack["w"], start["0:w"])
    assert still.means["w"].abs().min() > 0


def test_the_masked_adam_of_a_gpu_trains_as_the_other_does(features, monkeypatch):
    settings = {"epochs": 2, "reset_interval": 1, "weight_decay": 0.01}
    expected = train(features, range(3), **settings)
    monkeypatch.setattr(chunk, "adam", MaskedAdam)
    for masked, plain in zip(train(features, range(3), **settings), expected, strict=True):
        for name, value in plain.sender.state_dict().items():
            torch.testing.assert_close(
                masked.sender.state_dict()[name], value, atol=2e-4, rtol=1e-3
            )


@pytest.mark.parametrize("size", [0.01, 100.0])
@pytest.mark.parametrize("kind", [SeedAdam, MaskedAdam])
@pytest.mark.parametrize("lead", [1, 2])
def test_clipping_is_torchs_net_by_net(size, kind, lead):
    torch.manual_seed(0)
    shapes = {"w": (2, 3, 4, 5), "b": (2, 3, 5)}
    adam = kind({name: torch.zeros(shape).requires_grad_() for name, shape in shapes.items()}, lr=1)
    wanted = {name: torch.randn(shape) * size for name, shape in shapes.items()}
    sum((adam.parameters()[name] * value).sum() for name, value in wanted.items()).backward()
    adam.clip(lead, 1.0)
    adam.step(torch.tensor([True, True]))
    for net in np.ndindex(*(2, 3)[:lead]):
        own = [torch.zeros_like(value[net]) for value in wanted.values()]
        for one, value in zip(own, wanted.values(), strict=True):
            one.grad = value[net].clone()
        torch.nn.utils.clip_grad_norm_(own, 1.0)
        for one, mean in zip(own, adam.means.values(), strict=True):
            torch.testing.assert_close(mean[net] / 0.1, one.grad)
