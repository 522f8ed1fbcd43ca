"""Speed of each backbone next to the plain loop, and what each precision does to features.

    python benchmarks/backbone_speed.py --only dinov2_vits14 --only efficientnet_lite0
    python benchmarks/backbone_speed.py --only vjepa2_vitl --clips 1 --precision fp32
    python benchmarks/backbone_speed.py --hub-dir FOLDER    # with the clones dinov2 and vjepa2

The plain loop is what one writes first: float32 as torch comes, one clip at a time, frames made
float before they are resized. Ours is `preprocess` and `forward`. Both start from the same decoded
frames (720 x 1280, 8 of them; 16 for V-JEPA 2) and take turns, so that a slow minute of the machine
hurts both; a time is the median over `--clips` turns, after one that is not counted (with
`--clips 1` the only one counts). Weights are random where they are missing: no speed depends on
them, and neither, much, does the agreement of precisions. `matmul share` is the multiplications of
the forward pass in a second of it over those of one large product of the same type, measured here:
ours next to the plain loop's shows what our number settings do. `cosine fp32` is of our features
with our float32 ones (for the plain loop: what its float resizing changes), and `rel. error` is
against torch's own float32 defaults on the pixels that we use.

On two cores of an EPYC (AVX2): the first command two minutes, a ViT-L one minute in float32 with
`--clips 1`; bfloat16 takes eight times as long there, having no instructions for it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import backbones
from backbones import BackboneError, clip, dinov2, hub, resolve_device, vjepa2, weights
from backbones.precision import forward_precision

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def decoded(count: int, seed: int) -> np.ndarray:
    """Frames uint8 (count, 720, 1280, 3): moving waves and a little noise."""
    y, x = np.mgrid[:720, :1280].astype(np.float32)
    rng = np.random.default_rng(seed)
    result = np.empty((count, 720, 1280, 3), np.uint8)
    for step, frame in enumerate(result):
        for channel in range(3):
            wave = np.sin(x * 0.01 * (channel + 1) + y * 0.02 + step * 0.3 + seed)
            frame[..., channel] = 127 + 90 * wave + rng.normal(0, 4, wave.shape)
    return result


def random_weights(name: str, folder: Path, hub_dir: Path | None) -> Path:
    """A file of random weights for a backbone, of sizes that keep activations of order one."""
    if name == "clip_vitl14":
        import timm

        with torch.device("meta"):
            model: Any = timm.create_model(clip.TIMM_NAME, num_classes=768)
    elif name == "vjepa2_vitl":
        (model, _), _ = hub.load(vjepa2.REPOSITORY, "vjepa2_vit_large", hub_dir=hub_dir)
    else:
        model, _ = hub.load(dinov2.REPOSITORY, name, hub_dir=hub_dir)
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, tensor in model.state_dict().items():
        drawn = torch.randn(tensor.shape, generator=generator)
        if "norm" in key and key.endswith("weight"):
            state[key] = 1 + 0.1 * drawn
        elif key.endswith("gamma") or tensor.ndim < 2 or "token" in key or "pos_embed" in key:
            state[key] = 0.3 * drawn
        else:
            state[key] = drawn / tensor[0].numel() ** 0.5
    path = folder / f"{name}-random.pth"
    torch.save(state, path)
    return path


def timed(call: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    """Seconds that a call takes, the GPU's work included, and its result."""
    start = time.perf_counter()
    result = call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


@cache
def matmul_rate(precision: str, device: torch.device) -> float:
    """Floating-point operations a second of one large product, the best of five."""
    side = 8192 if device.type == "cuda" else 1536
    a = torch.randn(side, side, device=device).to(DTYPES[precision])
    best = 1e9
    with forward_precision(device, "fp32"):
        for _ in range(6):
            best = min(best, timed(lambda: torch.nn.functional.linear(a, a))[0])
    return 2 * side**3 / best


class Timing(NamedTuple):
    """Features (B, steps, dim) of some clips, the seconds from frames to them, and the model's."""

    features: torch.Tensor
    seconds: float
    forward_seconds: float


def ours(model: backbones.Backbone, videos: list[np.ndarray]) -> Timing:
    """`preprocess` and `forward`, all clips in one batch."""
    start = time.perf_counter()
    pixels = torch.stack([model.preprocess(video) for video in videos])
    seconds, features = timed(lambda: model.forward(pixels))
    return Timing(features, time.perf_counter() - start, seconds)


def encoded(model: backbones.Backbone, images: torch.Tensor) -> torch.Tensor:
    """The usual features (B, steps, dim) of normalised clips, as the model computes them."""
    (features,) = model._encode(images).values()
    return features


def plain_loop(model: backbones.Backbone, videos: list[np.ndarray]) -> Timing:
    """What one writes first: clip by clip, float frames, torch's own defaults."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import center_crop, normalize, resize

    how = model.preprocess
    mode = InterpolationMode(how.interpolation)
    features, forward_seconds, start = [], 0.0, time.perf_counter()
    for frames in videos:
        images = torch.from_numpy(frames).permute(0, 3, 1, 2).float().to(model.device) / 255
        images = center_crop(resize(images, how.short_side, mode, antialias=True), how.crop)
        images = normalize(images, how.mean, how.std)[None]
        with torch.no_grad():
            seconds, found = timed(lambda images=images: encoded(model, images).float().cpu())
        features.append(found)
        forward_seconds += seconds
    return Timing(torch.cat(features), time.perf_counter() - start, forward_seconds)


def measure(
    name: str, options: dict[str, Any], *, precisions: list[str], clips: int, batch: int
) -> None:
    """Print the rows of one backbone."""
    exact = backbones.load(name, precision="fp32", **options)
    count = 16 if name == "vjepa2_vitl" else 8
    unit = "clips/s" if exact.frames_per_step > 1 else "frames/s"
    per_batch = batch * (1 if exact.frames_per_step > 1 else count)
    videos = [decoded(count, seed) for seed in range(batch)]

    calls: dict[str, Callable[[], Timing]] = {"plain": lambda: plain_loop(exact, videos)}
    for precision in precisions:
        model = (
            exact if precision == "fp32" else backbones.load(name, precision=precision, **options)
        )
        calls[precision] = lambda model=model: ours(model, videos)
    passes: dict[str, list[Timing]] = {label: [] for label in calls}
    for _ in range(clips + (clips > 1)):
        for label, call in calls.items():
            passes[label].append(call())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:  # torch's defaults, our pixels
        pixels = torch.stack([exact.preprocess(video) for video in videos]).to(exact.device)
        reference = encoded(exact, exact.preprocess.normalise(pixels)).cpu().flatten(0, 1)

    seconds = {
        label: statistics.median(
            timing.seconds for timing in taken[clips > 1 :]
        )  # the first warms up
        for label, taken in passes.items()
    }
    ours_exact = passes["fp32"][0].features.flatten(0, 1)
    for label, taken in passes.items():
        flat = taken[0].features.flatten(0, 1)
        cosine = float(torch.cosine_similarity(flat, ours_exact).min())
        error = float((flat - reference).norm() / reference.norm())
        forward = statistics.median(timing.forward_seconds for timing in taken[clips > 1 :])
        rate = matmul_rate("fp32" if label == "plain" else label, exact.device)
        share = counter.get_total_flops() / forward / rate
        print(
            f"{name:19} {label:6} {per_batch / seconds[label]:9.2f} {unit:9} "
            f"{seconds['plain'] / seconds[label]:7.2f}x {share:13.0%} {cosine:12.6f} {error:12.1e}",
            flush=True,
        )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=sorted(backbones.BACKBONES), action="append")
    parser.add_argument("--hub-dir", type=Path, help="folder with the clones dinov2 and vjepa2")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--precision", choices=list(DTYPES), action="append", help="[fp32, bf16; on a GPU fp16 too]"
    )
    parser.add_argument("--clips", type=int, default=5, help="turns that are timed")
    parser.add_argument("--batch", type=int, default=1, help="clips in a forward pass")
    arguments = parser.parse_args(argv)
    device = resolve_device(arguments.device)
    usual = list(DTYPES) if device.type == "cuda" else ["bf16"]  # fp16 takes minutes on a CPU
    precisions = list(dict.fromkeys(["fp32", *(arguments.precision or usual)]))
    rates = [f"{p} {matmul_rate(p, device) / 1e9:,.0f}" for p in precisions]
    print(f"GFLOP/s of one large product on {device}: {', '.join(rates)}")
    print(
        f"{'backbone':19} {'how':6} {'rate':>9} {'':9} {'plain':>8} {'matmul share':>13} "
        f"{'cosine fp32':>12} {'rel. error':>12}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        for name in arguments.only or backbones.BACKBONES:
            options = {"device": arguments.device, "hub_dir": arguments.hub_dir}
            published = backbones.BACKBONES[name].published
            try:
                if published is not None and weights.find(published, arguments.hub_dir) is None:
                    options["weights"] = random_weights(name, Path(scratch), arguments.hub_dir)
                measure(
                    name,
                    options,
                    precisions=precisions,
                    clips=arguments.clips,
                    batch=arguments.batch,
                )
            except BackboneError as error:
                print(f"{name:19} {error}")


if __name__ == "__main__":
    main()
