"""What a training holds: known before it begins, and no copy of the features beside it."""

import numpy as np
import pytest
import torch

from data import memory
from data.errors import OutOfMemoryError
from pipeline.agents import AgentWindows
from pipeline.config import build_config
from pipeline.dataset import Examples, blocks
from pipeline.training import fit
from pipeline.training.memory import training_bytes
from pipeline.training.trainer import MultiSeedTrainer
from tests.helpers.memory import peak_memory

CPU = torch.device("cpu")


def wide_examples(clips: int, steps: int, dim: int, path=None) -> Examples:
    """Clips of 20 objects, of a file that is mapped where there is a path."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(clips, steps, dim)).astype(np.float16)
    if path is not None:
        np.save(path, features)
        features = np.load(path, mmap_mode="r")
    objects = tuple(f"o{number % 20:02d}" for number in range(clips))
    return Examples((features,), rng.normal(size=(clips, 1)), objects)


@pytest.mark.parametrize("settings", [{}, {"axes": 6}, {"agents": 4}, {"game": "referential"}])
def test_the_memory_of_a_training_is_that_of_its_windows_and_weights(settings) -> None:
    examples = wide_examples(60, 9, 32)
    config = build_config("published", ("mass",), split="objects", **settings)
    trainer = MultiSeedTrainer(examples, config, [0, 1], width=5, device=CPU)
    windows = [trainer.windows, trainer.receiver_windows]
    held = {
        part.untyped_storage().data_ptr(): part.untyped_storage().nbytes()
        for own in windows
        if isinstance(own, AgentWindows)
        for of_group in own.runs
        for part in of_group
        if part.dtype == torch.float32  # not the features themselves
    }
    first = sum(
        value.numel() for name, value in trainer.senders.items() if name.endswith("conv1.weight")
    )
    found = training_bytes([(60, 9, 32)], config, 5)
    assert bool(held) == ("axes" in settings)
    assert sum(held.values()) + 24 * first <= found <= sum(held.values()) + 48 * first


def test_too_little_memory_is_a_sentence_before_the_training(monkeypatch) -> None:
    examples = wide_examples(60, 9, 32)
    monkeypatch.setattr(memory, "available_bytes", lambda: 100_000)
    config = build_config("published", ("mass",), split="objects")
    with pytest.raises(OutOfMemoryError) as caught:
        list(fit(examples, config, [0]))
    assert str(caught.value) == (
        "training on 60 x 9 x 32 features takes 0.0 GiB of memory, and 0.0 GiB are free: read "
        "fewer numbers with --axes 64, or take fewer clips"
    )
    with pytest.raises(OutOfMemoryError, match=r": lower --axes \(20\), or take fewer clips"):
        list(fit(examples, config.replace(axes=20), [0]))


def test_a_training_on_axes_holds_no_copy_of_its_features(monkeypatch, tmp_path) -> None:
    """One in float32 takes 16 MB, and the axes took two of 24 MB in float64."""
    examples = wide_examples(2000, 8, 256, tmp_path / "features.npy")
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", 1 << 16)
    config = build_config("default", ("mass",), axes=4, tie_margin={"mass": 0.0})
    with peak_memory() as peak:
        MultiSeedTrainer(examples, config, [0], width=2, device=CPU)
    assert peak.bytes < 6 << 20


def test_agents_without_axes_read_the_features_where_they_are(tmp_path) -> None:
    examples = wide_examples(60, 8, 32, tmp_path / "features.npy")
    config = build_config("published", ("mass",), split="objects")
    trainer = MultiSeedTrainer(examples, config, [0], width=1, device=CPU)
    (mapped,) = examples.caches
    ((both,),) = trainer.windows.runs
    assert both.shape == (1, 60, 2, 4, 32)
    assert both.data_ptr() == mapped.ctypes.data
