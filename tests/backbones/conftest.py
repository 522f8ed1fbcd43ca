"""What the tests of backbones share: a tiny backbone, and the authors' code where it is."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import backbones
from backbones import Backbone, Entry, LoadOptions, Preprocess, hub

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


@pytest.fixture(scope="session")
def authors_code() -> Callable[[hub.Repository], Path]:
    """The folder of a repository's code: below HELIOGRAPH_HUB_DIR, or in torch.hub's folder."""

    def find(repository: hub.Repository) -> Path:
        named = os.environ.get("HELIOGRAPH_HUB_DIR")
        clone = Path(named) / repository.github.split("/")[1] if named else None
        found = hub.find(repository, clone if clone and clone.is_dir() else None)
        if found is None:
            pytest.skip(
                f"needs the code of {repository.github}: run torch.hub once, or put clones into "
                "a folder and name it in HELIOGRAPH_HUB_DIR"
            )
        return found

    return find
