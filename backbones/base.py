"""The contract of a backbone: uint8 frames in, one float32 vector per time step out.

A backbone is a frozen model behind a few names (`Backbone`): `name`, `dim`, `steps`, `preprocess`,
`forward`, and a `fingerprint` that says everything its numbers depend on. Each family is one file
that builds a `Backbone` from `LoadOptions` and describes it in an `Entry`. Which of its outputs the
vectors are is an `Output` (`backbones.outputs`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.errors import BackboneError, BackboneValueError, machine_error
from backbones.outputs import Output, Outputs, Part, PooledSteps, steps_of
from backbones.passes import pass_bytes, passes_at_once, run_passes
from backbones.precision import forward_precision, freeze
from backbones.transfer import LANES, Transfer
from data.wording import counted

if TYPE_CHECKING:
    import numpy as np
    import torch

    from backbones.hub import Repository
    from backbones.weights import PublishedWeights

FRAMES_IN_A_PASS = 4  # where a CPU takes frames: as fast as more, and few enough for many cores
GPU_FRAMES = 256  # in one pass of a GPU, if nobody says how many clips


MOST_ASPECT = 32  # the longer side of a frame over the shorter: resizing keeps it
RESIZED_BYTES = 1 << 28  # of the numbers, as float32, that resizing holds at once


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How frames become the pixels that a model sees: part of the identity of a feature.

    Resizing happens on uint8, so a batch travels as bytes and is normalised on the device.

    Attributes:
        name: what `load(preprocess=...)` calls it.
        crop: width and height of the result, in pixels, cut out of the middle.
        short_side: length of the shorter side after resizing, in pixels.
        squash: whether both sides are resized to `crop` instead, whatever the aspect.
        interpolation: of the resizing, as torchvision calls it.
        antialias: whether the resizing filters before it shrinks.
        mean: of each channel, as a fraction of 255.
        std: standard deviation of each channel, as a fraction of 255.
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
        """Check that the fields fit together."""
        if self.squash == (self.short_side is not None):
            raise ValueError("a preprocessing either squashes or resizes its short side")
        if self.short_side is not None and self.short_side < self.crop:
            raise ValueError(f"short side {self.short_side} is below the crop {self.crop}")

    def __call__(self, frames: np.ndarray) -> torch.Tensor:
        """Resize and crop frames.

        Args:
            frames: uint8 (T, H, W, 3).

        Returns:
            uint8 (T, 3, crop, crop).

        Raises:
            BackboneError: the frames have another type or shape, there is none, or they are too
                long for their width.
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

        def resize_and_crop(part: torch.Tensor) -> torch.Tensor:
            resized = transforms.resize(
                part, size, InterpolationMode(self.interpolation), antialias=self.antialias
            )
            return transforms.center_crop(resized, [self.crop, self.crop])

        parts = pixels.split(self._frames_at_once(*frames.shape[1:3]))
        return torch.cat([resize_and_crop(part) for part in parts]).contiguous()

    def _frames_at_once(self, height: int, width: int) -> int:
        """Return how many frames of a size are resized together, which bounds the memory.

        Raises:
            BackboneError: one of them would take too much.
        """
        long, short = max(height, width), min(height, width)
        if self.short_side is None:
            resized = self.crop * max(long, self.crop)
        elif long > MOST_ASPECT * short:
            raise BackboneError(
                f"frames of {width}x{height} are {long / short:,.5g} times as long as wide; "
                f"up to {MOST_ASPECT} times is read"
            )
        else:
            resized = max(self.short_side * long, self.short_side**2 * long // short)
        return max(1, RESIZED_BYTES // (4 * 3 * max(height * width, resized)))

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return uint8 pixels (..., 3, h, w) as float32, normalised by `mean` and `std`."""
        import torch

        scaled = pixels.to(torch.float32).div_(255)
        mean, std = (_of_channels(values, pixels.device) for values in (self.mean, self.std))
        return scaled.sub_(mean).div_(std)

    def describe(self) -> dict[str, Any]:
        """Return all that decides the pixels, as JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}


@cache
def _of_channels(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """Return a number for each channel (3, 1, 1), sent to the device once."""
    import torch

    with torch.inference_mode(mode=False):
        return torch.tensor(values, dtype=torch.float32).to(device)[:, None, None]


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """What the user asked of `load`, checked.

    Attributes:
        device: resolved from a name.
        precision: resolved: `fp32`, `bf16` or `fp16`.
        weights: a file in place of the published one; `weights.RANDOM` for untrained weights.
        hub_dir: a clone of the model's code, or a TORCH_HOME folder.
        preprocess: the name of a preprocessing.
        output: which features, as `Outputs.choose` takes them; None is the usual ones.
    """

    device: torch.device
    precision: str
    weights: Path | None
    hub_dir: Path | None
    preprocess: str
    output: str | None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known about a backbone before it is loaded.

    Attributes:
        name: what `load` and `--backbone` call it.
        family: the models that it belongs to.
        dim: numbers per time step of the usual output.
        frames_per_step: frames that one time step takes.
        parameters: of the model.
        licence: of code and weights.
        build: returns the `Backbone`.
        published: the weight file that is read unless the user names another, if there is one.
        repository: the code of the model's authors, if it is needed.
        preprocessings: the names that `load(preprocess=...)` takes; empty where that is not known.
        outputs: what `load(output=...)` takes; None where the model has one output alone.
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
    preprocessings: tuple[str, ...] = ()
    outputs: Outputs | None = None

    def frames_spanned(self, output: str | None = None) -> int:
        """Return how many frames one step of an output is of, as `Backbone.frames_spanned`.

        Raises:
            BackboneValueError: there is no such output.
        """
        if output is None or self.outputs is None:
            return self.frames_per_step
        return self.frames_per_step * (2 if self.outputs.choose(self.name, output).motion else 1)


class Backbone:
    """A frozen model: uint8 frames in, one float32 vector of `dim` numbers per time step out.

    Attributes:
        name: of its entry.
        dim: numbers per time step.
        frames_per_step: frames from the first of one time step to the first of the next.
        frames_spanned: frames that one time step is of: step t is of the frames from
            `t * frames_per_step` on. For differences twice `frames_per_step`, else as many.
        device: where it runs.
        precision: `fp32`, `bf16` or `fp16`.
        preprocess: what makes pixels of frames.
        shares: what the cores of a CPU share out: `frames`, `clips` or None.
        fingerprint: everything that its numbers depend on, as JSON. The precision is part of it;
            the device is not, because it changes float32 features by rounding only.
    """

    def __init__(
        self,
        *,
        name: str,
        dim: int,
        frames_per_step: int = 1,
        model: torch.nn.Module,
        encode: Callable[[torch.Tensor], torch.Tensor | Mapping[str, torch.Tensor]],
        preprocess: Preprocess,
        options: LoadOptions,
        source: str,
        revision: str,
        weights_sha256: str,
        output: str | Output,
        shares: str | None = None,
    ) -> None:
        """Put the model on its device, in its precision.

        Args:
            name: of its entry.
            dim: numbers per time step.
            frames_per_step: frames that one pass of the model makes a step of.
            model: changed in place.
            encode: takes normalised float pixels (B, T, 3, h, w) to features
                (B, T // frames_per_step, dim); or, where `output` is an `Output`, to what that
                needs, by name.
            preprocess: what makes pixels of frames.
            options: what the user asked for.
            source: where the code comes from.
            revision: of the code.
            weights_sha256: `weights.state_sha256` of the weights.
            output: which features of the model these are: a name for its only ones, or an output
                that the user chose.
            shares: what the cores of a CPU may share out: `frames`, if the features of a frame are
                its own; `clips`, if several threads may call `encode`, which then keeps nothing in
                the model; None: one clip after the other.
        """
        self.name = name
        self.shares = shares
        self.dim = dim
        self.frames_per_step = frames_per_step
        if isinstance(output, str):
            output = Output(parts=(Part(name=output, dim=dim),))
        self.output = output
        self.frames_spanned = frames_per_step * (2 if self.output.motion else 1)
        self.device = options.device
        self.precision = options.precision
        self.preprocess = preprocess
        self.fingerprint: dict[str, Any] = {
            "name": name,
            "source": source,
            "revision": revision,
            "weights_sha256": weights_sha256,
            "output": self.output.name,
            "dim": dim,
            "frames_per_step": frames_per_step,
            "preprocess": preprocess.describe(),
            "precision": options.precision,
            **self.output.describe(),
        }
        if self.frames_spanned != frames_per_step:  # others keep the fingerprint of older caches
            self.fingerprint["frames_spanned"] = self.frames_spanned
        self._encode = encode
        self._at_once: dict[tuple[int, ...], int] = {}
        self._transfer = Transfer(options.device)
        self._model = freeze(model, device=options.device, precision=options.precision)

    def __repr__(self) -> str:
        """Return the name, the shape of features, the precision and the device."""
        return (
            f"Backbone({self.name}, dim={self.dim}, frames_per_step={self.frames_per_step}, "
            f"{self.precision} on {self.device})"
        )

    def steps(self, frames: int) -> int:
        """Return how many time steps a clip of so many frames has.

        Raises:
            BackboneValueError: the frames cannot be divided among steps, or are too few.
        """
        if frames == 0 or frames % self.frames_per_step:
            raise BackboneValueError(
                f"{self.name} reads {counted(self.frames_per_step, 'frame')} per step, "
                f"and {counted(frames, 'frame')} cannot be divided by it"
            )
        if frames < self.frames_spanned:
            raise BackboneValueError(
                f"{self.output.name} is what changes from one step to the next: of {self.name} it "
                f"needs at least {self.frames_spanned} frames, and there "
                f"{'is 1' if frames == 1 else f'are {frames}'}"
            )
        spans = {"frames_per_step": self.frames_per_step, "frames_spanned": self.frames_spanned}
        return round(steps_of(frames, **spans))

    def frames(self, steps: int) -> int:
        """Return how many frames so many time steps take."""
        return (steps - 1) * self.frames_per_step + self.frames_spanned

    def batch(self, frames: int) -> int:
        """Return how many clips of so many frames a GPU takes at once: `GPU_FRAMES` of them.

        Fewer, where they take more than half of the memory that is free. A CPU takes one, and so
        does an Apple GPU, whose free memory is not known.
        """
        import torch

        if self.device.type != "cuda":
            return 1
        free, _ = torch.cuda.mem_get_info(self.device)
        need = pass_bytes(3 * self.preprocess.crop**2 * frames)
        return max(1, min(GPU_FRAMES // frames, free // 2 // need))

    @property
    def calls_at_once(self) -> int:
        """How many threads that call `forward` keep the device busy."""
        import torch

        return torch.get_num_threads() if self.device.type == "cpu" else LANES

    def forward(self, batch: torch.Tensor, *, reproducible: bool = True) -> torch.Tensor:
        """Return the features of preprocessed clips; several threads may call it.

        Args:
            batch: uint8 (B, T, 3, h, w), the stacked results of `preprocess`.
            reproducible: whether the features must not depend on the number of a CPU's cores; if
                not, a lone clip that cannot be shared out is computed by all of them.

        Returns:
            float32 (B, steps(T), dim), on the CPU. If the backbone runs on a CPU, a
            clip's features do not depend, to the bit, on the other clips of its batch.

        Raises:
            BackboneError: another shape or type, or T frames that have no steps.
            OutOfMemoryError: the memory of the GPU or of the machine is too small.
        """
        import torch

        side = self.preprocess.crop
        if batch.dtype != torch.uint8 or batch.ndim != 5 or batch.shape[2:] != (3, side, side):
            raise BackboneError(
                f"{self.name} takes batches uint8 (B, T, 3, {side}, {side}), "
                f"got {batch.dtype} {tuple(batch.shape)}"
            )
        frames = batch.shape[1]
        steps = self.steps(frames)
        if not len(batch):
            return torch.empty(0, steps, self.dim)
        try:
            with torch.inference_mode():
                if self.device.type == "cpu":
                    features = self._on_cpu(batch, reproducible)
                else:
                    features = self.output.join([self._transfer.run(self._pass, batch)])
            return features.clone()  # a copy, because inference tensors cannot be trained on
        except Exception as error:
            found = machine_error(error)
            if found is None or found is error:
                raise
            what = f"{self.name}, clips of {counted(frames, 'frame')}"
            if self.device.type != "cpu":
                clips = counted(len(batch), "clip")
                what = f"{self.name}, {clips} of {counted(frames, 'frame')} in a pass"
            raise type(found)(f"{found} ({what})") from error

    __call__ = forward

    @property
    def pass_rule(self) -> str:
        """What one pass on a CPU takes, in words."""
        return f"{FRAMES_IN_A_PASS} frames" if self.shares == "frames" else "1 clip"

    def _on_cpu(self, batch: torch.Tensor, reproducible: bool) -> torch.Tensor:
        """Return the features of clips, computed in parts that do not depend on their number."""
        import torch

        threads = torch.get_num_threads()
        if self.shares == "frames":
            frames = FRAMES_IN_A_PASS
            if not reproducible:  # so that each core has some
                frames = min(frames, -(-batch.shape[1] // threads))
            parts = [part for clip in batch.split(1) for part in clip.split(frames, dim=1)]
        elif not reproducible and len(batch) == 1:
            return self.output.join([self._pass(batch)])
        else:
            parts = list(batch.split(1))
        shape = (threads, *parts[0].shape)
        if shape not in self._at_once:
            self._at_once[shape] = passes_at_once(parts[0]) if self.shares else 1
        with closing(run_passes(self._pass, parts, self._at_once[shape])) as pooled:
            of_a_clip = len(parts) // len(batch)
            return torch.cat([self.output.join(islice(pooled, of_a_clip)) for _ in batch])

    def _pass(self, batch: torch.Tensor) -> PooledSteps:
        """Return the output for clips, or for some frames of one, of one call of the model."""
        with forward_precision(self.device, self.precision):
            encoded = self._encode(self.preprocess.normalise(batch))
            if not isinstance(encoded, Mapping):
                encoded = {self.output.name: encoded}
            return self.output.pool(encoded)


def choose(kind: str, name: str, table: dict[str, Any]) -> Any:
    """Return what a table has under a name.

    Args:
        kind: what the names are called in the error.
        name: a key of the table.
        table: the choices.

    Raises:
        BackboneValueError: an unknown name; the sentence lists the known ones.
    """
    if name not in table:
        known = ", ".join(sorted(table))
        raise BackboneValueError(f"no {kind} {name!r}: choose one of {known}")
    return table[name]
