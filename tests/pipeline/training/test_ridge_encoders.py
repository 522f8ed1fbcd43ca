"""Ridge encoders: senders start as quantised regressions, learn, speak and are kept."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from data import cache
from data.cache import Features
from data.errors import HeliographError
from pipeline.agents import (
    FastSender,
    RidgeEncoder,
    build_sender,
    logarithms,
    stack_senders,
    unstack_sender,
)
from pipeline.config import build_config
from pipeline.dataset import WindowRidge, build_examples
from pipeline.evaluation import evaluate
from pipeline.message import Speaker
from pipeline.runs import Run
from pipeline.training import fit, train
from pipeline.training.ridge_encoders import RidgeScores, _digits, quantise
from tests.helpers.features import make_features

CPU = torch.device("cpu")
QUICK = {"preset": "ridge", "epochs": 25, "refit": False, "vocab": 5}


def grid(levels: int = 5, each: int = 6, steps: int = 4, seed: int = 0) -> Features:
    """Clips of a grid of two properties, each told by another direction and other time steps."""
    rng = np.random.RandomState(seed)
    row, column, _ = (axis.ravel() for axis in np.indices((levels, levels, each)))
    features = rng.randn(len(row), steps, 12) * 0.3
    features[:, :, 0] += row[:, None] - 2.0
    features[:, :, 1] += (column - 2.0)[:, None] * np.linspace(-1, 1, steps)  # its mean is nothing
    names = [f"e{r}_f{c}" for r, c in zip(row, column, strict=True)]
    return Features(
        features=features.astype(np.float32),
        clip_id=[f"{name}/{number}" for number, name in enumerate(names)],
        object=names,
        scenario=["ramp"] * len(names),
        labels={"elasticity": row / 10, "friction": column / 10},
        fingerprint={"imported": True, "source": "made.pt", "sha256": "0" * 64},
    )


def configured(*, preset, **settings):
    return build_config(preset, ("elasticity", "friction"), **settings)


def started(config, scores, labels):
    """A sender whose heads start as quantisers of scores (N, P), and what it says of each clip."""
    count = scores.shape[1]
    agent = RidgeScores(np.zeros(count, np.float32), np.eye(count), np.zeros(count), scores)
    sender = build_sender(
        input_dim=scores.shape[1],
        steps=1,
        agents=1,
        heads=config.heads,
        vocab=config.vocab,
        scores=scores.shape[1],
    )
    stack = stack_senders([sender], CPU)
    quantise(stack, [[agent]], [np.arange(len(scores))], [labels], config)
    unstack_sender(stack, 0, sender)
    agent.load_into(sender.encoder)
    return sender(torch.from_numpy(scores).float().unsqueeze(1)).numpy()


def test_a_head_for_each_property_starts_with_the_nearest_level_of_its_score():
    labels = np.stack([np.repeat(np.arange(5.0), 20), np.tile(np.arange(5.0), 20)], axis=1)
    scores = (labels - 2) / 1.4 + np.random.default_rng(0).normal(size=labels.shape) * 0.2
    symbols = started(build_config("ridge", ("a", "b"), agents=1, vocab=6), scores, labels)
    centres = [[scores[labels[:, p] == value, p].mean() for value in range(5)] for p in range(2)]
    for p in range(2):
        nearest = np.abs(scores[:, [p]] - centres[p]).argmin(1)
        assert np.array_equal(symbols[:, p], nearest)


def test_two_heads_of_one_property_tell_as_many_levels_as_they_have_symbols_together():
    scores = np.linspace(-1.7, 1.7, 200)[:, None]
    symbols = started(build_config("ridge", ("mass",), vocab=5), scores, scores)
    changes = np.abs(np.diff(symbols, axis=0)) > 0
    assert len(np.unique(symbols, axis=0)) == 25
    assert changes.sum() == 24  # one head at a time


def test_a_head_for_two_properties_starts_with_the_nearest_of_its_centres():
    scores = np.random.default_rng(0).normal(size=(300, 2))
    config = build_config("ridge", ("a", "b"), heads=1, vocab=9)
    symbols = started(config, scores, scores)[:, 0]
    means = np.stack([scores[symbols == symbol].mean(0) for symbol in range(9)])
    nearest = ((scores[:, None] - means) ** 2).sum(2).argmin(1)
    assert (nearest == symbols).mean() > 0.95


def test_fewer_levels_than_symbols_leave_symbols_that_are_not_sent():
    labels = np.repeat([1.0, 2.0, 3.0], 10)[:, None]
    config = build_config("ridge", ("mass",), agents=1, heads=1, vocab=8)
    symbols = started(config, labels - 2, labels)
    assert symbols[:, 0].tolist() == [0] * 10 + [1] * 10 + [2] * 10


def test_neighbouring_levels_differ_in_one_head():
    for levels, heads, vocab in ((25, 2, 5), (23, 2, 5), (64, 3, 4), (9, 2, 8)):
        code = _digits(levels, heads, vocab)
        words = [
            tuple(next(symbol for symbol in range(vocab) if level in head[symbol]) for head in code)
            for level in range(levels)
        ]
        assert len(set(words)) == levels
        for one, other in pairwise(words):
            assert sum(a != b for a, b in zip(one, other, strict=True)) == 1


def test_agents_of_one_window_share_out_the_levels():
    """Two that see the same tell more together than either alone."""
    scores = np.linspace(-1.7, 1.7, 400)[:, None]
    config = build_config("ridge", ("mass",), agents=2, heads=1, vocab=4)
    zero, one = np.zeros(1), np.ones((1, 1))
    agents = [RidgeScores(zero.astype(np.float32), one, zero, scores)] * 2
    sender = build_sender(input_dim=1, steps=1, agents=2, heads=1, vocab=4, scores=1, caches=(0, 0))
    stack = stack_senders([sender], CPU)
    quantise(stack, [agents], [np.arange(400)], [scores], config)
    unstack_sender(stack, 0, sender)
    for encoder in sender.encoders:
        agents[0].load_into(encoder)
    messages = sender(torch.from_numpy(scores).float().unsqueeze(1)).numpy().reshape(400, 2)
    assert len(np.unique(messages, axis=0)) == 7


@pytest.mark.parametrize("settings", [{}, {"agents": 1, "heads": 4}, {"agents": 4, "refit": True}])
def test_agents_tell_combinations_that_they_never_saw(settings):
    config = configured(**QUICK | settings)
    results = list(fit(build_examples(grid(), config.properties), config, range(2)))
    assert np.mean([result.accuracy_last_epoch.together for result in results]) > 0.9


def test_amounts_that_span_decades_are_read_by_their_logarithms():
    rng = np.random.default_rng(0)
    mass = np.repeat(np.arange(20.0), 5)
    amounts = np.exp(mass[:, None] / 2 + rng.normal(size=(100, 6)) * 0.3).astype(np.float32)
    signs = rng.normal(size=(100, 6)).astype(np.float32) + (mass[:, None] - 10).astype(np.float32)
    objects, train = np.repeat(np.arange(20), 5), np.flatnonzero(np.arange(100) % 25 > 4)
    for features, in_logs in ((amounts, True), (signs, False)):
        shared = WindowRidge.fit([features[:, None]], mass[:, None], objects, train)
        scores = RidgeScores.of(shared, 0, 1, train)
        assert (scores.scale > 0).all() == in_logs
        encoder = RidgeEncoder(4, 6, 1, 1)
        scores.load_into(encoder)
        given = encoder.scores(logarithms(torch.from_numpy(features), encoder.scale))
        np.testing.assert_allclose(given.detach().numpy(), scores.of_clips, atol=1e-4)


def test_without_labels_that_mean_something_nothing_is_learned():
    config = configured(**QUICK, shuffle_labels=True)
    results = list(fit(build_examples(grid(), config.properties), config, range(4)))
    assert np.mean([result.accuracy_last_epoch.together for result in results]) < 0.45


def test_what_is_kept_speaks_as_what_was_trained(tmp_path):
    cache.save(grid(), tmp_path / "grid.h5")
    run = train(tmp_path / "grid.h5", tmp_path / "run", seeds=2, agents=2, **QUICK)
    examples = build_examples(grid(), run.config.properties)
    speaker = FastSender(Run.open(tmp_path / "run").of_seed(1).sender())
    symbols = speaker([torch.from_numpy(examples.caches[0])]).argmax(-1).numpy()
    written = [line["message"] for line in run.of_seed(1).messages()]
    assert len({*written}) > 20
    said = [" | ".join("-".join(map(str, agent)) for agent in clip) for clip in symbols]
    assert np.mean([a == b for a, b in zip(said, written, strict=True)]) > 0.98  # but for rounding
    assert str(Speaker(run)) is not None
    metrics = evaluate(run.folder, permutations=20)
    assert metrics.accuracy_last_epoch.mean > 0.85
    assert any("start as levels" in note for note in metrics.notes)
    assert metrics.accuracy_test.mean == metrics.accuracy_last_epoch.mean
    assert any("the last epoch is kept" in note for note in metrics.notes)


def test_a_training_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    cache.save(make_features(), tmp_path / "made.h5")
    settings = QUICK | {"properties": ["mass"], "seeds": 2, "epochs": 12}
    whole = train(tmp_path / "made.h5", tmp_path / "whole", **settings)

    class Killed(Exception):
        pass

    def kill(done, total, note):
        if "epoch 11" in note:
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path / "made.h5", tmp_path / "run", **settings, progress=kill)
    run = train(tmp_path / "made.h5", tmp_path / "run", **settings, resume=True)
    for name, value in whole.sender().state_dict().items():
        assert torch.equal(value, run.sender().state_dict()[name])


@pytest.mark.parametrize("settings", [{"axes": 8}, {"oracle_epochs": 5}])
def test_what_does_not_go_with_ridge_encoders_is_refused(settings):
    with pytest.raises(HeliographError, match=f"{next(iter(settings))} must be 0 with it"):
        build_config("ridge", ("mass",), **settings)


def test_a_continuous_channel_and_several_caches_learn_too():
    made = grid()
    both = [made, grid(steps=1)]
    settings = {"channel": "continuous", "agents": 2, "epochs": 30}
    config = configured(**QUICK | settings, sees=(0, 1))
    results = list(fit(build_examples(both, config.properties), config, [0]))
    assert results[0].accuracy_last_epoch.together > 0.7
