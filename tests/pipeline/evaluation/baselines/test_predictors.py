"""Baselines where it is known who can tell and who cannot."""

import numpy as np
import pytest

from data.cache import Features
from data.splits import split_clips
from pipeline.config import build_config
from pipeline.dataset import CacheSource, RunInputs, build_examples
from pipeline.evaluation.baselines import pixels, predictors
from pipeline.evaluation.baselines.predictors import (
    BaselineInputs,
    condition_of,
    most_frequent_answer,
    score_baselines,
    score_clips,
)
from pipeline.evaluation.context import EvaluationContext
from pipeline.game import beyond_margin
from tests.helpers.memory import peak_memory
from tests.helpers.rounding import last_bits

OBJECTS, EACH, STEPS, DIM = 30, 4, 5, 8


def make_context(
    labels: np.ndarray, *, seeds: int = 3, agents: int = 1, **settings: object
) -> EvaluationContext:
    names = ("alpha", "beta")[: labels.shape[1]]
    objects = tuple(np.repeat([f"object_{i:02d}" for i in range(OBJECTS)], EACH).tolist())
    splits = tuple(split_clips("objects", objects, labels, seed) for seed in range(seeds))
    config = build_config("default", names, agents=agents, **settings)
    return EvaluationContext(config, tuple(range(seeds)), labels, objects, splits)


def inputs_of(context: EvaluationContext, features: np.ndarray, **more: object) -> BaselineInputs:
    plain = {
        "caches": [features.astype(np.float32)],
        "labels": context.labels,
        "objects": context.scorer.objects,
        "scenario": ["spring"] * len(features),
        "condition": [""] * len(features),
    }
    return BaselineInputs(**(plain | more))


@pytest.fixture
def alpha() -> np.ndarray:
    """A property of the objects, (N, 1)."""
    return np.repeat(np.random.default_rng(5).permutation(OBJECTS), EACH).astype(float)[:, None]


def noise(scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(OBJECTS * EACH, STEPS, DIM)) * scale


def test_motion_shows_in_time_and_not_in_the_middle_step(alpha):
    """Every step is noise alone, but the last is the first plus the property."""
    context = make_context(alpha)
    features = noise()
    features[:, -1] = features[:, 0] + alpha / OBJECTS * np.ones(DIM) * 2
    found = score_baselines(inputs_of(context, features), context)
    accuracy = {
        name: found["baselines"][name]["mean"]
        for name in ("majority", "ridge", "ridge_static", "ridge_shuffled_steps")
    }
    assert accuracy["majority"] == 0.5
    assert accuracy["ridge"] > 0.85
    assert accuracy["ridge_static"] < 0.65
    assert accuracy["ridge_shuffled_steps"] < accuracy["ridge"] - 0.1
    gain = found["gains"]["dynamics"]
    assert gain["mean"] == pytest.approx(accuracy["ridge"] - accuracy["ridge_static"])
    assert gain["interval"][0] > 0.1
    assert gain["properties"]["alpha"]["mean"] == pytest.approx(gain["mean"])


def test_a_single_step_has_no_dynamics_to_gain(alpha):
    context = make_context(alpha)
    found = score_baselines(inputs_of(context, noise()[:, :1]), context)
    assert found["baselines"]["ridge_static"] is None
    assert found["gains"] == {}


def test_each_agent_is_given_its_own_window(alpha):
    context = make_context(alpha, agents=2)
    features = noise(0.1)
    features[:, :2] += alpha[:, :, None] / OBJECTS  # seen in the first window alone
    found = score_baselines(inputs_of(context, features), context)["baselines"]
    assert found["ridge_agent_1"]["mean"] > 0.9
    assert found["ridge_agent_2"]["mean"] < 0.65
    entry = found["ridge_agent_1"]["properties"]["alpha"]
    assert entry["auc"]["mean"] > 0.95
    assert all(value > 0.9 or np.isnan(value) for value in entry["auc"]["per_seed"])
    assert entry["spearman"]["mean"] > 0.9
    assert entry["interval"][0] <= entry["mean"] <= entry["interval"][1]


@pytest.mark.parametrize("sign", [1, -1])
def test_volume_works_whichever_way_it_goes(alpha, sign):
    context = make_context(alpha)
    volume = sign * alpha[:, 0] + 100
    volume[0] = np.nan
    found = score_baselines(inputs_of(context, noise(), volume=volume), context)["baselines"]
    assert found["volume"]["mean"] > 0.98


def test_scenario_and_condition_know_their_means(alpha):
    context = make_context(alpha)
    half = ["heavy" if value > OBJECTS / 2 else "light" for value in alpha[:, 0]]
    found = score_baselines(inputs_of(context, noise(), scenario=half, condition=half), context)[
        "baselines"
    ]
    assert found["scenario"]["mean"] > 0.7
    assert found["condition"]["mean"] == found["scenario"]["mean"]
    alone = score_baselines(inputs_of(context, noise()), context)["baselines"]
    assert alone["scenario"] is None
    assert alone["condition"] is None
    assert alone["volume"] is None


def test_other_features_of_the_same_clips_are_a_baseline(alpha):
    context = make_context(alpha)
    other = np.repeat(alpha[:, :, None], 3, axis=2)
    found = score_baselines(inputs_of(context, noise(), other_features={"other": other}), context)
    assert found["baselines"]["ridge_other"]["mean"] > 0.98


def test_majority_takes_the_likeliest_combination():
    labels = np.repeat(np.arange(OBJECTS), EACH).astype(float)
    both = np.stack([labels, labels], axis=1)  # never one without the other
    found = score_baselines(inputs_of(make_context(both), noise()), make_context(both))[
        "baselines"
    ]["majority"]
    assert found["mean"] == pytest.approx(0.5)
    assert found["properties"]["beta"]["mean"] == pytest.approx(0.5)


def most_frequent_of_all_pairs(labels, margins):
    """As `most_frequent_answer`, from a table of all pairs."""
    apart = beyond_margin(labels[:, None], labels[None], margins)
    truths = (labels[:, None] > labels[None])[apart.all(-1)]
    if not len(truths):
        return np.zeros(labels.shape[1], bool)
    combinations, counts = np.unique(truths, axis=0, return_counts=True)
    return combinations[counts.argmax()]


@pytest.mark.parametrize("columns", [1, 2, 3, 9])
@pytest.mark.parametrize("most", [2048, 10])
def test_the_most_frequent_answer_is_that_of_all_pairs(columns, most, monkeypatch):
    monkeypatch.setattr(predictors, "MOST_LABELS", most)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 4, (90, 1)) + 0.3 * rng.normal(size=(90, columns)).round(1)
        labels *= rng.choice([-1, 1], columns)
        margins = (0.2,) * columns
        expected = most_frequent_of_all_pairs(labels, margins)
        assert most_frequent_answer(labels, margins).tolist() == expected.tolist()
    assert not most_frequent_answer(labels[:1], margins).any()


def test_the_most_frequent_answer_of_many_clips_needs_no_table_of_their_pairs(monkeypatch):
    monkeypatch.setattr(predictors, "DRAWN_PAIRS", 1 << 14)
    labels = np.random.default_rng(0).normal(size=(20_000, 2))
    with peak_memory() as peak:
        most_frequent_answer(np.repeat(labels[:2000], 10, axis=0), (0.0, 0.0))
        most_frequent_answer(labels, (0.0, 0.0))
    assert peak.bytes < 20 << 20  # a table has 400 million pairs


def test_the_condition_of_a_clip():
    assert condition_of("scenarios/ramp/box_1/10_12/wood/03/Camera_1.mp4", "box_1") == "10_12/wood"
    assert condition_of("box_1/000", "box_1") == ""
    assert condition_of("anything.mp4", "box_1") == ""


def test_scores_that_differ_in_the_last_bit_are_a_tie(alpha):
    context = make_context(alpha)
    scores = [np.round(context.labels[test] / 10) * 0.3 + 0.1 for test in context.tests]
    noisy = [last_bits(values, seed) for seed, values in enumerate(scores)]
    assert any((exact != other).any() for exact, other in zip(scores, noisy, strict=True))
    entries = [score_clips(values, context)[1] for values in (scores, noisy)]
    assert str(entries[0]) == str(entries[1])  # NaN for a seed whose test clips are all high
    constant = [last_bits(np.full(values.shape, 0.3)) for values in scores]
    entry = score_clips(constant, context)[1]
    assert entry["mean"] == entry["properties"]["alpha"]["auc"]["mean"] == 0.5
    assert entry["properties"]["alpha"]["spearman"]["mean"] == 0


def test_features_that_know_nothing_are_at_chance(alpha, other_rounding):
    context = make_context(alpha)
    same = np.broadcast_to(noise()[:1], noise().shape)
    baselines = score_baselines(inputs_of(context, same), context)["baselines"]
    for name in ("ridge", "ridge_static"):
        assert set(baselines[name]["per_seed"]) == {baselines[name]["mean"]} == {0.5}
        assert sum(baselines[name]["interval"]) == pytest.approx(1)  # about a half, however wide


def test_conditions_whose_means_differ_in_the_last_bit_are_a_tie():
    """Sums of tenths in another order: the means of both conditions are equal on paper."""
    labels = np.tile([0.1, 0.2, 0.3, 0.7], OBJECTS)[:, None]
    context = make_context(labels)
    conditions = ["wood", "foam"] * (OBJECTS * EACH // 2)
    rows = np.arange(OBJECTS * EACH)
    labels[rows % 4 == 0] = labels[rows % 4 == 1]  # the same values, in both conditions
    labels[rows % 4 == 2] = labels[rows % 4 == 3]
    inputs = inputs_of(context, noise(), condition=conditions)
    assert score_baselines(inputs, context)["baselines"]["condition"]["mean"] == 0.5


def moving(alpha: np.ndarray, *, shows: str) -> np.ndarray:
    """Thumbnails (N, 3, 16, 16) of noise; a square's grey or its speed is the property."""
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 40, (len(alpha), 3, 16, 16)).astype(np.uint8)
    rank = (alpha[:, 0] / OBJECTS * 100).astype(np.uint8)
    grey = {"motion": rng.integers(0, 100, len(alpha)).astype(np.uint8), "look": rank}[shows]
    frames[:, :, 2:6, 2:6] += grey[:, None, None, None]
    if shows == "motion":  # up or down, so that only its size tells
        frames[::2, 1, 9:14, 9:14] += rank[::2, None, None]
        frames[1::2, ::2, 9:14, 9:14] += rank[1::2, None, None, None]
    return frames


def run_inputs(thumbnails: list[np.ndarray], labels: np.ndarray, **columns: object) -> RunInputs:
    """Inputs of caches with these thumbnails, of the clips and objects of `make_context`."""
    ids = [f"object_{i // EACH:02d}/{i}" for i in range(len(labels))]
    caches = [
        Features(
            features=noise().astype(np.float32), clip_id=ids, object=[i[:9] for i in ids],
            scenario=["spring"] * len(ids), labels={"alpha": labels[:, 0]}, fingerprint={},
            thumbnails=own, **columns,
        )
        for own in thumbnails
    ]  # fmt: skip
    sources = tuple(
        CacheSource(path=None, content_sha256="", fingerprint={}, sampler={}, decoder={},
                    dtype="float32", steps=STEPS, dim=DIM, name=name)
        for name, _ in zip(("one", "two"), caches, strict=False)
    )  # fmt: skip
    return RunInputs(sources, tuple(caches), {}, tuple(source.path for source in sources))


def scored(inputs: RunInputs, context: EvaluationContext) -> dict:
    examples = build_examples(inputs.caches, ("alpha",))
    return score_baselines(BaselineInputs.of(inputs, examples, context, {}), context)


@pytest.mark.parametrize("shows", ["look", "motion"])
def test_what_pixels_show_without_a_network(alpha, shows):
    context = make_context(alpha)
    found = scored(run_inputs([moving(alpha, shows=shows)], alpha), context)
    accuracy = {name: found["baselines"][name]["mean"] for name in pixels.NAMES}
    assert found["missing_baselines"] == {}
    if shows == "motion":
        assert accuracy["differences"] > 0.9
        assert accuracy["differences"] > accuracy["pixels"] + 0.05
        assert accuracy["first_frame"] < 0.75
    else:
        assert accuracy["pixels"] > 0.9
        assert accuracy["first_frame"] > 0.9
        assert accuracy["differences"] < 0.65


def test_those_that_need_no_network_stand_before_those_that_do(alpha):
    found = scored(run_inputs([moving(alpha, shows="look")], alpha), make_context(alpha))
    names = list(found["baselines"])
    assert names[:4] == ["majority", "pixels", "differences", "first_frame"]
    assert names.index("ridge") > 4


def test_a_clip_without_thumbnails_leaves_them_out_and_is_counted(alpha):
    context = make_context(alpha)
    lacking = np.isin(np.arange(len(alpha)), [3, 70, 71])
    own = moving(alpha, shows="look")
    found = scored(run_inputs([own], alpha, without_thumbnails=lacking), context)
    assert [found["baselines"][name] for name in pixels.NAMES] == [None] * 3
    assert set(found["missing_baselines"]) == set(pixels.NAMES)
    assert "3 of 120 clips of one have no thumbnails" in found["missing_baselines"]["pixels"]
    none = scored(run_inputs([np.empty((0, 0, 0, 0), np.uint8)], alpha), context)
    assert "120 of 120 clips of one have no thumbnails" in none["missing_baselines"]["pixels"]


def test_a_clip_that_is_in_no_split_may_lack_them(alpha):
    labels = alpha.copy()
    labels[[3, 70]] = np.nan
    inputs = run_inputs(
        [moving(alpha, shows="look")], labels,
        without_thumbnails=np.isin(np.arange(len(alpha)), [3, 70]),
    )  # fmt: skip
    thumbnails, reason = pixels.thumbnails_of(inputs, np.flatnonzero(~np.isnan(labels[:, 0])))
    assert (len(thumbnails), reason) == (1, "")


def test_equal_frames_of_several_caches_count_once(alpha):
    clips = np.arange(len(alpha))
    one, two = moving(alpha, shows="look"), moving(alpha, shows="motion")
    assert len(pixels.thumbnails_of(run_inputs([one, one.copy()], alpha), clips)[0]) == 1
    assert len(pixels.thumbnails_of(run_inputs([one, two], alpha), clips)[0]) == 2
    none = np.empty((0, 0, 0, 0), np.uint8)
    found, reason = pixels.thumbnails_of(run_inputs([none, two], alpha), clips)
    assert (len(found), reason) == (1, "")
    assert np.array_equal(found[0], two)


def test_one_frame_has_no_differences(alpha):
    own = moving(alpha, shows="look")[:, :1]
    found = scored(run_inputs([own], alpha), make_context(alpha))
    assert found["baselines"]["pixels"]["mean"] > 0.9
    assert found["baselines"]["differences"] is None
    assert found["baselines"]["first_frame"] is None
