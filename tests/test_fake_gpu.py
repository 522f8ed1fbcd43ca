"""The paths of a GPU, executed without one on tensors that claim to be on it.

What torch's fake tensors show: every operation of a GPU's path gets tensors of one device and of
types that fit; the host waits for the device no more often than is written here; how many kernels
there are, and what memory they hold at most. Attention is counted as its parts, which a GPU has in
one kernel, and an operation as one kernel, whatever it launches.

What they cannot show: numbers, and what depends on them (rounding, agreement with a CPU, what a
loss that is not finite does); how long anything takes; kernels that are missing for a type or a
size, and their scratch memory; streams and their order; what a driver does when memory runs out;
whether a graph can be captured: the step of a training is counted where it is, and its replays are.
The tests that are marked `gpu`, and `make gpu`, need a GPU for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import backbones
from backbones import Backbone, dinov2, vjepa2, weights
from data import cache
from pipeline.agents import FastSender, build_sender
from pipeline.config import PRESETS, build_config
from pipeline.dataset import Examples
from pipeline.evaluation import evaluate
from pipeline.game.referential import ReferentialGame
from pipeline.training import fit, train
from pipeline.training.graphs import WARM_UP
from pipeline.training.pretraining import Pretraining
from pipeline.training.trainer import MultiSeedTrainer
from tests.helpers.authors_code import authors_code
from tests.helpers.fake_gpu import CUDA, FakeGpu, claim_a_gpu
from tests.helpers.features import make_features

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _claim_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    claim_a_gpu(monkeypatch)
    yield
    backbones.base._of_channels.cache_clear()  # of fake tensors


# --- extraction and message: a forward pass ---


@dataclass(frozen=True)
class Pass:
    """One pass of a backbone, and what it may take.

    Attributes:
        name: Of the backbone.
        clips: In the pass.
        frames: Of a clip.
        kernels: At most.
        mebibytes: At the peak, with the weights, at most.
        output: As `load` takes it.
    """

    name: str
    clips: int
    frames: int
    kernels: int
    mebibytes: int
    output: str | None = None


SLOW = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
PASSES = [
    Pass("efficientnet_lite0", 16, 8, 160, 900),
    Pass("efficientnet_lite0", 16, 8, 160, 900, "grid4+motion4"),
    Pass("pixels", 16, 8, 60, 900),
    pytest.param(Pass("dinov2_vits14", 16, 8, 500, 900), marks=SLOW),
    pytest.param(Pass("clip_vitl14", 16, 16, 700, 5200), marks=SLOW),
    pytest.param(Pass("vjepa2_vitl", 16, 16, 3500, 10500, "grid4+motion2"), marks=SLOW),
    pytest.param(Pass("timm:resnet50", 16, 16, 160, 1700, "motion3"), marks=SLOW),
]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Backbone]:
    """Return what loads a backbone without numbers in its weights."""

    def load_nothing(model: torch.nn.Module, *_: Any) -> str:
        state = model.state_dict().items()
        empty = {name: torch.empty(tensor.shape, dtype=tensor.dtype) for name, tensor in state}
        model.load_state_dict(empty, assign=True)
        return "0" * 64

    monkeypatch.setattr(weights, "load_into", load_nothing)

    def do(name: str, **options: Any) -> Backbone:
        for family in (dinov2, vjepa2):
            if name in {entry.name for entry in family.ENTRIES}:
                options["hub_dir"] = authors_code(family.REPOSITORY)
        if name != "pixels":
            options["weights"] = "random"
        return backbones.load(name, device="cuda", **options)

    return do


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("of", PASSES, ids=lambda of: f"{of.name}-{of.output}")
def test_a_pass_waits_for_its_features_alone(load, of: Pass, precision: str) -> None:
    with FakeGpu() as gpu:
        model = load(of.name, precision=precision, output=of.output)
        side = model.preprocess.crop
        pixels = torch.zeros(of.clips, of.frames, 3, side, side, dtype=torch.uint8)
        model.forward(pixels)  # which sends what stays on the device
        with gpu.counting() as work:
            features = model.forward(pixels)
    assert features.shape == (of.clips, model.steps(of.frames), model.dim)
    assert (features.device.type, features.dtype) == ("cpu", torch.float32)
    parts = len(model.output.parts)
    assert work.to_host == (parts + 2 if model.output.motion else parts)
    assert (work.scalars, work.to_device, work.pageable) == (0, 1, 0)  # the pixels, pinned
    assert (work.doubles > 0) == (of.name == "pixels")
    assert work.launches <= of.kernels, work.kernels
    most = of.mebibytes * (1 if precision == "bf16" else 2)
    assert work.peak_bytes <= most * MIB, f"{work.peak_bytes / MIB:.0f} MiB"


# --- training ---


def made_examples(properties: int, *, clips: int = 205, dim: int = 1024) -> Examples:
    """Clips of eight steps, as those of a ViT-L, of objects that differ in every property."""
    rng = np.random.default_rng(0)
    levels = np.stack(np.unravel_index(np.arange(clips) % 25, (5, 5)), axis=1)
    labels = (levels if properties > 1 else np.arange(clips)[:, None] % 25).astype(float)
    objects = tuple(f"object {clip % 25}" for clip in range(clips))
    return Examples((rng.normal(size=(clips, 8, dim)).astype(np.float16),), labels, objects)


TRAININGS = [
    pytest.param(preset, properties, marks=[] if preset == "published" else [pytest.mark.slow])
    for preset in PRESETS
    for properties in (1, 2)
]
KERNELS_A_STEP = 150  # of `default` for one property, the most; 143 of `published`
UPLOADS = 5  # of the first epoch for all: pairs, answers, weights, clips that are shown, who plays
WAITS_AN_EVALUATION = 3  # all messages, and of two parts how many answers are right
KERNELS_OF_PRETRAINING = (112, 1300)  # of a step, and of an evaluation: 30 draws


@pytest.mark.parametrize(("preset", "properties"), TRAININGS)
def test_no_step_of_a_training_waits(preset: str, properties: int, monkeypatch) -> None:
    seeds, lengths = 3, {"epochs": 2}
    config = build_config(preset, ("elasticity", "friction")[:properties], agents=4, **lengths)
    if config.oracle_epochs:
        config = config.replace(oracle_epochs=40)
    if config.soft_epochs:
        config = config.replace(soft_epochs=1)  # which is most of a training
    epochs, steps, evaluations, graphs = [], [], [], set()
    epoch, step, judge = (
        getattr(MultiSeedTrainer, name) for name in ("_epoch", "_step", "_evaluate")
    )

    def counted_epoch(trainer: MultiSeedTrainer, *args: Any) -> np.ndarray:
        with gpu.counting() as work:
            losses = epoch(trainer, *args)
        epochs.append(work)
        graphs.add(trainer.graph)
        return np.zeros_like(losses)

    def counted_step(trainer: MultiSeedTrainer, *args: Any, **options: Any) -> Any:
        asked, before = gpu.work, (gpu.work.launches, gpu.work.to_device, gpu.work.waits)
        result = step(trainer, *args, **options)
        after = asked.launches, asked.to_device, asked.waits
        steps.append([now - then for now, then in zip(after, before, strict=True)])
        return result

    def counted_judge(trainer: MultiSeedTrainer, *args: Any) -> None:
        with gpu.counting() as work:
            judge(trainer, *args)
        evaluations.append(work)

    def counted_oracle(pretraining: Pretraining, *args: Any) -> None:
        with gpu.counting() as work:
            oracle(pretraining, *args)
        oracles.append((pretraining, work))

    def counted_part(name: str) -> None:
        part = getattr(Pretraining, name)

        def counted(pretraining: Pretraining, *args: Any) -> Any:
            asked, before = gpu.work, gpu.work.launches
            result = part(pretraining, *args)
            parts[name].append(asked.launches - before)
            return result

        monkeypatch.setattr(Pretraining, name, counted)

    oracle, oracles = Pretraining.run, []
    parts: dict[str, list[int]] = {"_step": [], "_keep_better": []}
    for name in parts:
        counted_part(name)
    monkeypatch.setattr(Pretraining, "run", counted_oracle)
    monkeypatch.setattr(MultiSeedTrainer, "_epoch", counted_epoch)
    monkeypatch.setattr(MultiSeedTrainer, "_step", counted_step)
    monkeypatch.setattr(MultiSeedTrainer, "_evaluate", counted_judge)
    with FakeGpu(differentiable=True) as gpu:
        results = list(fit(made_examples(properties), config, range(seeds), device=CUDA))
    assert [result.seed for result in results] == [0, 1, 2]
    for launches, to_device, waits in steps:
        assert (to_device, waits) == (0, 0)
        assert launches <= KERNELS_A_STEP
    for work in epochs:
        assert (work.scalars, work.to_host) == (0, 1)  # the losses, once an epoch
        assert work.doubles == 0
        assert work.peak_bytes <= 600 * MIB, f"{work.peak_bytes / MIB:.0f} MiB"
    assert [work.to_device for work in epochs] == [UPLOADS, 0] * len(graphs)
    for graph in graphs:  # all steps but the first three are replayed, soft and hard ones
        assert len(steps) == (WARM_UP + graph.captures) * len(graphs)
        assert graph.captures in (1, 2)
        assert graph.replays > graph.captures or config.preset in ("default", "ridge")
    assert len(evaluations) == len(epochs)  # the first and the last
    for work in evaluations:
        assert (work.scalars, work.doubles) == (0, 0)
        assert work.waits <= WAITS_AN_EVALUATION
    assert len(oracles) == bool(config.oracle_epochs) * len(graphs)
    for pretraining, work in oracles:
        assert (work.to_device, work.pageable) == (UPLOADS, UPLOADS)  # of all epochs; none waits
        assert (work.to_host, work.scalars, work.doubles) == (0, 0, 0)
        assert work.peak_bytes <= 600 * MIB, f"{work.peak_bytes / MIB:.0f} MiB"
        for graph, counts, most in zip(
            (pretraining.graph, pretraining.judging),
            parts.values(),
            KERNELS_OF_PRETRAINING,
            strict=True,
        ):
            assert max(counts) <= most, counts
            assert len(counts) == WARM_UP + graph.captures
            assert graph.captures == 1
            assert graph.replays > 1


@pytest.mark.parametrize("seeds", [2, 4])
def test_judging_a_referential_game_asks_as_much_for_any_number_of_seeds(seeds, monkeypatch):
    config = build_config("published", ("mass",), game="referential", split="objects", epochs=1)
    waits, kernels = [], []
    judge, answer = MultiSeedTrainer._evaluate, ReferentialGame.answer_each

    def counted(trainer: MultiSeedTrainer, *args: Any) -> None:
        with gpu.counting() as work:
            judge(trainer, *args)
        waits.append(work.waits)

    def counted_answers(*args: Any) -> Any:
        before = gpu.work.launches
        answers = answer(*args)
        kernels.append(gpu.work.launches - before)
        return answers

    monkeypatch.setattr(MultiSeedTrainer, "_evaluate", counted)
    monkeypatch.setattr(ReferentialGame, "answer_each", counted_answers)
    with FakeGpu(differentiable=True) as gpu:
        assert len(list(fit(made_examples(1, dim=64), config, range(seeds), device=CUDA))) == seeds
    assert waits == [7]  # all messages; and of two parts what is read, who is asked, the scores
    assert len(kernels) == 2 + seeds  # and at the end each seed's best receiver is chosen
    assert max(kernels) <= 30


# --- message and evaluation ---


def test_agents_speak_on_the_host(load) -> None:
    """What the backbone leaves there goes into the senders of a run as it is."""
    sender = build_sender(input_dim=1280, steps=8, agents=2, heads=2, vocab=5)
    with FakeGpu() as gpu:
        model = load("efficientnet_lite0", precision="bf16")
        features = model.forward(torch.zeros(1, 8, 3, 224, 224, dtype=torch.uint8))
        with gpu.counting() as work:
            logits = FastSender(sender)([features])
    assert (tuple(logits.shape), logits.device.type) == ((1, 2, 2, 5), "cpu")
    assert (work.launches, work.to_device, work.waits) == (0, 0, 0)


def test_evaluation_leaves_the_gpu_alone(tmp_path: Path) -> None:
    path = tmp_path / "made.h5"
    cache.save(make_features(objects=14, each=3), path)
    run = train(path, tmp_path / "run", properties=["mass"], device="cpu", seeds=1, epochs=2)
    with FakeGpu() as gpu:
        evaluate(run.folder, permutations=10)
    assert (gpu.work.launches, gpu.work.to_device, gpu.work.waits) == (0, 0, 0)
