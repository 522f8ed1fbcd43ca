"""Verdicts on codes whose structure is known, among null seeds that learned from noise."""

import doctest
import importlib

import numpy as np
import pytest

from pipeline.metrics import METRICS, VERDICTS, Evidence, assess, own_leads, verdicts

NAMES = ("posdis_chaabouni2020", "topsim")
SIZE, EACH, SEEDS, NULLS = 5, 3, 3, 39
CELLS = np.stack(np.divmod(np.arange(SIZE**2), SIZE), axis=1)
BINS = np.repeat(CELLS, EACH, axis=0)
OBJECTS = np.repeat(np.arange(SIZE**2), EACH)


def clean(rng, bins):
    """Two positions tell a property each, two nothing."""
    return np.concatenate([bins, rng.integers(0, SIZE, bins.shape)], axis=1)


def noisy(rng, bins):
    """As `clean`, with every fifth symbol drawn anew."""
    said = clean(rng, bins)
    return np.where(rng.random(said.shape) < 0.2, rng.integers(0, SIZE, said.shape), said)


def one_only(rng, bins):
    """The first position tells the first property, the others nothing."""
    said = rng.integers(0, SIZE, (len(bins), 4))
    said[:, 0] = bins[:, 0]
    return said


def noise(rng, bins):
    """Nothing."""
    return rng.integers(0, SIZE, (len(bins), 4))


def evidence(code, seed, *, nulls=NULLS, seeds=SEEDS):
    rng = np.random.default_rng(seed)
    tokens = np.stack([code(rng, BINS) for _ in range(seeds)])
    found = [
        assess(METRICS[name], tokens, BINS, groups=OBJECTS, n=19, n_codebook=99) for name in NAMES
    ]
    permuted = [np.repeat(CELLS[rng.permutation(len(CELLS))], EACH, axis=0) for _ in range(nulls)]
    said = [noise(rng, bins) for bins in permuted]
    values = [
        [METRICS[name](t, bins) for name in NAMES] for t, bins in zip(said, permuted, strict=True)
    ]
    return Evidence(
        values=np.stack([one.per_seed for one in found], axis=1),
        nulls=np.array(values).reshape(-1, len(NAMES)),
        codebooks=np.stack([one.codebook for one in found], axis=2),
        leads=own_leads(tokens, BINS),
        null_leads=np.array([own_leads(t, b) for t, b in zip(said, permuted, strict=True)]).reshape(
            -1, 2
        ),
    )


def test_doctests():
    result = doctest.testmod(importlib.import_module("pipeline.metrics.verdicts"))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (clean, verdicts.COMPOSITIONAL),
        (noisy, verdicts.COMPOSITIONAL),
        (one_only, verdicts.INFORMATIVE),
    ],
)
def test_planted_codes_are_known_for_what_they_are(code, expected):
    words = [word for seed in range(5) for word in evidence(code, seed).verdicts()]
    assert words.count(expected) >= 0.9 * len(words)


def test_noise_is_hardly_ever_more():
    found = [evidence(noise, seed).verdicts() for seed in range(10)]
    assert sum(any(map(positive, words)) for words in found) <= 1
    assert set(map(str, np.ravel(found))) <= set(VERDICTS)


def positive(word):
    return word in (verdicts.COMPOSITIONAL, verdicts.INFORMATIVE)


def test_posdis_is_satisfied_by_one_property_and_the_verdict_is_not():
    found = evidence(one_only, 0)
    assert found.values[:, 0].min() > 0.2
    assert (found.p_null() <= 0.05).all()
    assert found.p_own()[0] <= 0.05 < found.p_own()[1]


def test_too_few_null_seeds_settle_nothing_for_a_code_and_may_against_it():
    assert evidence(clean, 0, nulls=2).verdicts() == ["undecided"] * 2
    assert evidence(clean, 0, nulls=38).verdicts() == ["undecided"] * 2
    found = evidence(noise, 0, nulls=10)
    worse = Evidence(**{**vars(found), "values": found.values - 1})
    assert worse.verdicts() == ["no better than chance"] * 2


def test_a_seed_that_turns_the_verdict_leaves_it_undecided():
    good, bad = evidence(clean, 0, seeds=2), evidence(noise, 0, seeds=1)
    mixed = Evidence(
        values=np.concatenate([good.values[:1], bad.values - 0.4]),
        nulls=good.nulls,
        codebooks=np.concatenate([good.codebooks[:, :1], bad.codebooks], axis=1),
        leads=np.concatenate([good.leads[:1], bad.leads]),
        null_leads=good.null_leads,
    )
    assert good.verdicts() == ["compositional"] * 2
    assert mixed.verdicts() == ["undecided"] * 2


def test_each_seed_has_a_verdict_of_its_own():
    good, bad = evidence(clean, 0, seeds=2), evidence(noise, 0, seeds=1)
    mixed = Evidence(
        values=np.concatenate([good.values, bad.values - 0.4]),
        nulls=good.nulls,
        codebooks=np.concatenate([good.codebooks, bad.codebooks], axis=1),
        leads=np.concatenate([good.leads, bad.leads]),
        null_leads=good.null_leads,
    )
    words = mixed.of_each_seed()
    assert words[:2] == [["compositional"] * 2] * 2
    assert words[2] == ["no better than chance"] * 2


def test_a_seed_of_noise_is_hardly_ever_compositional():
    words = np.concatenate([evidence(noise, seed, seeds=10).of_each_seed() for seed in range(4)])
    assert words.shape == (40, 2)
    assert np.sum(words == "compositional") <= 2


def test_a_property_is_told_by_a_position_that_tells_nothing_else():
    both = CELLS[:, :1] * SIZE + CELLS[:, 1:]
    assert own_leads(CELLS, CELLS) == pytest.approx(np.log(SIZE))
    assert own_leads(both, CELLS) == pytest.approx(0)
    assert np.isnan(own_leads(CELLS, CELLS[:, 0])).all()
    assert own_leads(np.stack([CELLS, CELLS[:, :1].repeat(2, 1)]), CELLS).shape == (2, 2)


def test_the_largest_of_several_metrics_counts_in_a_null():
    null = np.array([[0.0, 5.0], [5.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    assert verdicts.times_reached([6.0, 6.0], null).tolist() == [0, 0]
    assert verdicts.times_reached([2.0, 20.0], null).tolist() == [1, 0]
    assert verdicts.times_reached([np.nan, 20.0], null).tolist() == [4, 0]
