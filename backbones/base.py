"""The contract of a backbone: uint8 frames in, one float32 vector per time step out.

A backbone is a frozen model behind five names (`Backbone`): `name`, `dim`, `frames_per_step`,
`preprocess`, `forward`, and a `fingerprint` that says everything its numbers depend on. Each
family is one file that builds a `Backbone` from `LoadOptions`, and lists itself in an `Entry`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.errors import BackboneError
from backbones.precision import forward_precision, freeze

if TYPE_CHECKING:
    import numpy as np
    import torch

    from backbones.hub import Repository
    from backbones.weights import PublishedWeights


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How frames become the pixels that a model sees: part of the identity of a feature.

    `short_side` is the pixels of the shorter side after resizing; `squash` resizes both sides
    to `crop` instead, whatever the aspect. `mean` and `std` are in units of the 0..1 range.
    Resizing happens on uint8, so a batch travels as bytes and is normalised on the device.
    """

    name: str
    crop: int
    short_side: int | None = None
    squash: bool = False
    interpolation: str = "bicubic"
    antialias: bool = True
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if self.squash == (self.short_side is not None):
            raise ValueError("a preprocessing either squashes or resizes its short side")
        if self.short_side is not None and self.short_side < self.crop:
            raise ValueError(f"short side {self.short_side} is below the crop {self.crop}")

    def __call__(self, frames: np.ndarray) -> torch.Tensor:
        """Resize and crop frames uint8 (T, H, W, 3) to a uint8 tensor (T, 3, crop, crop).

        Raises:
            BackboneError: the frames are not uint8 (T, H, W, 3), or there is none.
        """
        import numpy as np
        import torch
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.v2 import functional as transforms

        if frames.dtype != "uint8" or frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
            raise BackboneError(
                f"frames must be uint8 of shape (T, H, W, 3), got {frames.dtype} {frames.shape}"
            )
        pixels = torch.from_numpy(np.require(frames, requirements=["C", "W"]))
        pixels = pixels.permute(0, 3, 1, 2)  # (T, 3, H, W)
        size = [self.crop, self.crop] if self.short_side is None else [self.short_side]
        pixels = transforms.resize(
            pixels, size, InterpolationMode(self.interpolation), antialias=self.antialias
        )
        return transforms.center_crop(pixels, [self.crop, self.crop]).contiguous()

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Scale uint8 (..., 3, h, w) to float32 with this preprocessing's mean and deviation."""
        import torch

        def channels(values: tuple[float, ...]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float32, device=pixels.device)[:, None, None]

        scaled = pixels.to(torch.float32).div_(255)
        return scaled.sub_(channels(self.mean)).div_(channels(self.std))

    def describe(self) -> dict[str, Any]:
        """All that decides the pixels, as JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """What the user asked of `load`, checked; `device` and `precision` are resolved."""

    device: torch.device
    precision: str
    weights: Path | None
    hub_dir: Path | None
    preprocess: str
    output: str | None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of the table of backbones: what is known without loading anything.

    `build(options)` gives the `Backbone`; `published` is the weight file that it reads unless the
    user names another, None for a backbone without one.
    """

    name: str
    family: str
    dim: int
    frames_per_step: int
    parameters: int
    licence: str
    build: Callable[[LoadOptions], Backbone]
    published: PublishedWeights | None = None
    repository: Repository | None = None


class Backbone:
    """A frozen model: uint8 frames in, one float32 vector of `dim` numbers per time step out.

    `encode` maps normalised float pixels (B, T, 3, h, w) to features (B, T // frames_per_step,
    dim). `fingerprint` is JSON and holds nothing that leaves the numbers alone: the device is
    not in it (it moves float32 features by rounding only), the precision is.
    """

    def __init__(
        self,
        *,
        name: str,
        dim: int,
        frames_per_step: int = 1,
        model: torch.nn.Module,
        encode: Callable[[torch.Tensor], torch.Tensor],
        preprocess: Preprocess,
        options: LoadOptions,
        source: str,
        revision: str,
        weights_sha256: str,
        output: str,
    ) -> None:
        self.name = name
        self.dim = dim
        self.frames_per_step = frames_per_step
        self.device = options.device
        self.precision = options.precision
        self.preprocess = preprocess
        self.fingerprint: dict[str, Any] = {
            "name": name,
            "source": source,
            "revision": revision,
            "weights_sha256": weights_sha256,
            "output": output,
            "dim": dim,
            "frames_per_step": frames_per_step,
            "preprocess": preprocess.describe(),
            "precision": options.precision,
        }
        self._encode = encode
        self._model = freeze(model, device=options.device, precision=options.precision)

    def __repr__(self) -> str:
        return (
            f"Backbone({self.name}, dim={self.dim}, frames_per_step={self.frames_per_step}, "
            f"{self.precision} on {self.device})"
        )

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Features of preprocessed clips.

        Args:
            batch: uint8 (B, T, 3, h, w), the stacked results of `preprocess`.

        Returns:
            float32 (B, T // frames_per_step, dim), on the CPU. There a clip's features do not
            depend, to the bit, on the other clips of its batch.

        Raises:
            BackboneError: another shape or type, or T is not a multiple of `frames_per_step`.
        """
        import torch

        side = self.preprocess.crop
        if batch.dtype != torch.uint8 or batch.ndim != 5 or batch.shape[2:] != (3, side, side):
            raise BackboneError(
                f"{self.name} takes batches uint8 (B, T, 3, {side}, {side}), "
                f"got {batch.dtype} {tuple(batch.shape)}"
            )
        frames = batch.shape[1]
        if frames == 0 or frames % self.frames_per_step:
            raise BackboneError(
                f"{self.name} reads {self.frames_per_step} frames per step, "
                f"and {frames} frames cannot be divided by it"
            )
        if not len(batch):
            return torch.empty(0, frames // self.frames_per_step, self.dim)
        # On a CPU one clip at a time: as fast, and the same kernels whatever the batch holds.
        parts = batch.split(1) if self.device.type == "cpu" else (batch,)
        with forward_precision(self.device, self.precision):
            features = [self._encode(self.preprocess.normalise(self._move(p))) for p in parts]
            features = [part.float().cpu() for part in features]
        return torch.cat(features)  # outside: what inference mode makes cannot be trained on

    __call__ = forward

    def _move(self, batch: torch.Tensor) -> torch.Tensor:
        if self.device.type == "cuda":
            return batch.pin_memory().to(self.device, non_blocking=True)
        return batch.to(self.device)


def choose(kind: str, name: str, table: dict[str, Any]) -> Any:
    """Look a name up in a table; the error for a wrong one lists the right ones."""
    if name not in table:
        raise BackboneError(f"unknown {kind} {name!r}; choose from {', '.join(sorted(table))}")
    return table[name]
