"""How fast each backbone is here, beside the plain loop, and what each precision does to features.

    python benchmarks/backbone_speed.py                     # all of them, random weights
    python benchmarks/backbone_speed.py --only efficientnet_lite0 --clips 3
    python benchmarks/backbone_speed.py --hub-dir FOLDER    # with the clones dinov2 and vjepa2

The plain loop is what one writes first: float32 as torch comes, one clip at a time, frames made
float before they are resized. Ours is `preprocess` and `forward`. Both start from the same decoded
frames (720 x 1280, 8 of them; 16 for V-JEPA 2) and take turns, so that a slow minute of the machine
hurts both; a time is the median over the clips. Weights are random where they are not here: no
speed depends on them, and neither, much, does the agreement of precisions. `matmul share` is the
model's multiplications in a second over those of one large product of the same type, measured here.
`cosine fp32` is of our features with our float32 ones (for the plain loop: what its float resizing
changes), and `rel. error` is against torch's own float32 defaults on the pixels that we use.
One to three minutes per ViT-L on two cores.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import backbones
from backbones import BackboneError, clip, dinov2, hub, vjepa2, weights
from backbones.base import resolve_device
from backbones.numerics import forward_numerics

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


def plain_loop(model: backbones.Backbone, frames: np.ndarray) -> torch.Tensor:
    """What one writes first: float frames, torch's own defaults. Returns (steps, dim)."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import center_crop, normalize, resize

    how = model.preprocess
    images = torch.from_numpy(frames).permute(0, 3, 1, 2).float().to(model.device) / 255
    mode = InterpolationMode(how.interpolation)
    images = center_crop(resize(images, how.short_side, mode, antialias=True), how.crop)
    with torch.no_grad():
        return model._encode(normalize(images, how.mean, how.std)[None])[0].float().cpu()


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
    with forward_numerics(device, "fp32"):
        for _ in range(6):
            best = min(best, timed(lambda: torch.nn.functional.linear(a, a))[0])
    return 2 * side**3 / best


def operations(model: backbones.Backbone, frames: int) -> int:
    """Floating-point operations of one clip's forward pass."""
    side = model.preprocess.crop
    with FlopCounterMode(display=False) as counter:
        model.forward(torch.zeros(1, frames, 3, side, side, dtype=torch.uint8))
    return counter.get_total_flops()


def measure(
    name: str, options: dict[str, Any], *, precisions: list[str], clips: int, batch: int
) -> None:
    """Print the rows of one backbone."""
    exact = backbones.load(name, precision="fp32", **options)
    count = 16 if name == "vjepa2_vitl" else 8
    unit = "clips/s" if exact.frames_per_step > 1 else "frames/s"
    per_batch = batch * (1 if exact.frames_per_step > 1 else count)
    videos = [decoded(count, seed) for seed in range(batch)]
    flops = operations(exact, count) * batch
    rows: dict[str, tuple[list[float], torch.Tensor]] = {}

    def ours(model: backbones.Backbone) -> torch.Tensor:
        return model.forward(torch.stack([model.preprocess(video) for video in videos]))

    calls: dict[str, Callable[[], torch.Tensor]] = {
        "plain": lambda: torch.stack([plain_loop(exact, video) for video in videos])
    }
    for precision in precisions:
        model = (
            exact if precision == "fp32" else backbones.load(name, precision=precision, **options)
        )
        calls[precision] = lambda model=model: ours(model)
    for turn in range(clips + 1):  # the first warms up
        for label, call in calls.items():
            seconds, features = timed(call)
            times = rows.setdefault(label, ([], features))[0]
            if turn:
                times.append(seconds)
    plain_seconds = statistics.median(rows["plain"][0])
    with torch.no_grad():  # torch's defaults on our pixels
        pixels = torch.stack([exact.preprocess(video) for video in videos]).to(exact.device)
        reference = exact._encode(exact.preprocess.normalise(pixels)).cpu().flatten(0, 1)
    for label, (times, features) in rows.items():
        seconds = statistics.median(times)
        flat = features.flatten(0, 1)
        cosine = float(torch.cosine_similarity(flat, rows["fp32"][1].flatten(0, 1)).min())
        error = float((flat - reference).norm() / reference.norm())
        share = flops / seconds / matmul_rate("fp32" if label == "plain" else label, exact.device)
        print(
            f"{name:19} {label:6} {per_batch / seconds:9.2f} {unit:9} "
            f"{plain_seconds / seconds:7.2f}x {share:13.0%} {cosine:12.6f} {error:12.1e}",
            flush=True,
        )


def forward_alone(name: str, options: dict[str, Any], *, repeats: int) -> None:
    """Print the model alone: torch's defaults against our number settings, on the same pixels."""
    model = backbones.load(name, precision="fp32", **options)
    count = 16 if name == "vjepa2_vitl" else 8
    pixels = model.preprocess.normalise(model.preprocess(decoded(count, 0)))[None]
    times: dict[str, list[float]] = {"defaults": [], "ours": []}
    for turn in range(repeats + 1):
        with torch.no_grad():
            default, _ = timed(lambda: model._encode(pixels))
        with forward_numerics(model.device, "fp32"):
            own, _ = timed(lambda: model._encode(pixels))
        if turn:
            times["defaults"].append(default)
            times["ours"].append(own)
    ratio = statistics.median(times["defaults"]) / statistics.median(times["ours"])
    print(f"{name:19} forward alone, ours against torch's defaults: {ratio:.2f}x")


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
                if device.type == "cpu":
                    forward_alone(name, options, repeats=arguments.clips)
            except BackboneError as error:
                print(f"{name:19} {error}")


if __name__ == "__main__":
    main()
