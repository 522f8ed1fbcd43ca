"""Fixtures that every test may use."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import backbones
from backbones import Backbone, Entry, LoadOptions, Preprocess

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked `gpu` need a CUDA device."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        if os.environ.get("HELIOGRAPH_REQUIRE_CUDA") == "1":
            pytest.fail("HELIOGRAPH_REQUIRE_CUDA=1, and torch finds no CUDA device")
        pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips and features that stands beside a development checkout."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the development data beside the checkout (../shared)")
    return folder


TINY = Preprocess(
    name="official", short_side=32, crop=28, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)
)


def build_tiny(options: LoadOptions) -> Backbone:
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv3d(3, 16, (2, 7, 7), stride=(2, 7, 7)), torch.nn.GELU(), torch.nn.Flatten(3)
    )
    head = torch.nn.Linear(16, 5)
    with torch.no_grad():
        for parameter in [*model.parameters(), *head.parameters()]:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 8)
    whole = torch.nn.ModuleList([model, head])

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        tokens = model(pixels.transpose(1, 2))  # (B, 16, steps, 16)
        return head(tokens.mean(3).transpose(1, 2))  # (B, steps, 5)

    return Backbone(
        name="tiny",
        dim=5,
        frames_per_step=2,
        model=whole,
        encode=encode,
        preprocess=TINY,
        options=options,
        source="tests",
        revision="1",
        weights_sha256="none",
        output="mean",
    )


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Backbone]:
    """Registers a tiny random backbone as `tiny`; gives `load` for it."""
    entry = Entry(
        name="tiny",
        family="tests",
        dim=5,
        frames_per_step=2,
        parameters=2453,
        licence="MIT",
        build=build_tiny,
    )
    monkeypatch.setitem(backbones.BACKBONES, "tiny", entry)
    return lambda **options: backbones.load("tiny", **{"device": "cpu", **options})
