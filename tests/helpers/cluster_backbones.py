"""Backbones that actors of a cluster load in processes of their own."""

import os
import time
from pathlib import Path

import torch

import backbones
from backbones import Backbone
from data.cache import batches
from tests.helpers.tiny_backbone import TINY_ENTRY


def load_tiny(device: str = "cpu") -> Backbone:
    """Load the tiny backbone."""
    backbones.BACKBONES["tiny"] = TINY_ENTRY
    return backbones.load("tiny", device=device)


def load_tiny_with(environment: dict[str, str], device: str = "cpu") -> Backbone:
    """Load the tiny backbone on a node with these variables."""
    os.environ.update(environment)
    return load_tiny(device)


def load_slow_tiny(device: str = "cpu") -> Backbone:
    """Load the tiny backbone, which takes its time here; a shard has two clips."""
    batches.BATCH_CLIPS = 2
    backbone = load_tiny(device)
    forward = backbone.forward

    def forward_slowly(pixels: torch.Tensor) -> torch.Tensor:
        time.sleep(1)
        return forward(pixels)

    backbone.forward = forward_slowly  # type: ignore[method-assign]
    return backbone


def load_slow_tiny_together(folder: Path, actors: int, device: str = "cpu") -> Backbone:
    """Load the slow tiny backbone, which does no clip until so many actors have one.

    Without the wait, a node that is late, or slow to start its decoders, finds all clips done.
    """
    backbone = load_slow_tiny(device)
    forward = backbone.forward

    def forward_together(pixels: torch.Tensor) -> torch.Tensor:
        (folder / str(os.getpid())).touch()
        deadline = time.monotonic() + 240
        while len(list(folder.iterdir())) < actors and time.monotonic() < deadline:
            time.sleep(0.05)
        return forward(pixels)

    backbone.forward = forward_together  # type: ignore[method-assign]
    return backbone


def end_at_once(device: str = "cpu") -> Backbone:
    """End the process, as a crash of native code does."""
    os._exit(1)
