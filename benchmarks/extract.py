"""Extraction next to its parts alone, and next to the plain loop.

    python benchmarks/extract.py [--backbone efficientnet_lite0] [--clips 20] [--rounds 3]

Takes about four minutes on two cores. Makes 1080p H.264 clips of five seconds in a temporary
folder and takes 8 frames of each, in turns:

    extract    `pipeline.extraction.extract`: files in, a cache on disk out
    decode     the same decoders alone, down to the small uint8 pixels that a backbone takes
    backbone   the same backbone alone, on such pixels, already in memory
    plain      what one writes first: per clip open, seek each frame with PyAV, make it float,
               resize, normalise, one forward in float32 as torch comes, append

Torch's threads sleep while they wait, as in the command (`--spin`: they spin, as torch has it).
Decoders and backbone are warm for `decode` and `backbone`. For `extract` the backbone is; its
decoders start with it, as they do for a user, which takes half a second and shows with few clips.
Each ratio is the median over the rounds of its value in one round, in which all take turns. CPU
seconds are of this process and its decoders, and tell what the wall clock cannot on a busy machine.

Targets: on a CPU extract / (decode + backbone) <= 1.10; on a GPU extract / the slower of the two
<= 1.10; plain / extract >= 2.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.cli import share_the_cores

if "--spin" not in sys.argv:
    share_the_cores()  # before torch is loaded

import numpy as np
import torch
from decode import make_clip

import backbones
from backbones import Backbone
from data.clips import Clip
from data.video import DecoderPool, Job, Sampling
from pipeline.extraction import default_workers, extract


def make_clips(folder: Path, count: int) -> list[Clip]:
    """Copies of one clip that differ in a byte after its end, so that no two are the same file."""
    first = make_clip(folder / "0.mp4", gop=30, seconds=5)
    paths = [folder / f"{number}.mp4" for number in range(count)]
    for number, path in enumerate(paths[1:], start=1):
        shutil.copy(first, path)
        with path.open("ab") as file:  # an empty MP4 box
            file.write((9).to_bytes(4, "big") + b"free" + bytes([number % 256]))
    return [Clip(id=path.name, path=path) for path in paths]


def ours(
    clips: list[Clip], model: Backbone, sampling: Sampling, folder: Path, workers: int
) -> None:
    target = folder / "cache.h5"
    summary = extract(clips, target, backbone=model, sampling=sampling, workers=workers)
    assert summary.done == len(clips), summary
    for path in folder.glob("cache.h5*"):
        path.unlink()


def decode_alone(clips: list[Clip], model: Backbone, sampling: Sampling, pool: DecoderPool) -> None:
    jobs = [Job(path=clip.path, sampling=sampling) for clip in clips]
    taken = pool.map(jobs, transform=lambda batch: model.preprocess(batch.frames))
    assert all(outcome.result is not None for outcome in taken)


def backbone_alone(pixels: list[torch.Tensor], model: Backbone) -> None:
    size = model.batch(len(pixels[0]))
    for start in range(0, len(pixels), size):
        model.forward(torch.stack(pixels[start : start + size])).numpy()


def plain_loop(clips: list[Clip], model: Backbone, sampling: Sampling) -> np.ndarray:
    import av
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import center_crop, normalize, resize

    how = model.preprocess
    size = [how.crop, how.crop] if how.short_side is None else how.short_side
    features = []
    for clip in clips:
        frames = []
        with av.open(str(clip.path)) as opened:
            stream = opened.streams.video[0]
            rate, base = float(stream.average_rate), float(stream.time_base)
            for index in np.linspace(0, stream.frames - 1, sampling.frames).astype(int):
                wanted = round(index / rate / base)
                opened.seek(wanted, stream=stream)
                for frame in opened.decode(stream):
                    if frame.pts >= wanted - 1:
                        frames.append(frame.to_ndarray(format="rgb24"))
                        break
        images = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).to(model.device)
        images = images.float() / 255
        mode = InterpolationMode(how.interpolation)
        images = center_crop(resize(images, size, mode, antialias=True), how.crop)
        with torch.no_grad():
            found = model._encode(normalize(images, how.mean, how.std)[None])
        features.append(found[0].float().cpu().numpy())
    return np.stack(features)


def cpu_seconds(pool: DecoderPool | None) -> float:
    """CPU seconds of this process, its children that ended, and the decoders that run."""
    total = sum(os.times()[:4])
    for worker in pool.workers if pool else ():
        ticks = Path(f"/proc/{worker.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
    return total


def timed(call: Callable[[], object], pool: DecoderPool | None = None) -> tuple[float, float]:
    """Wall and CPU seconds of a call."""
    cpu, began = cpu_seconds(pool), time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began, cpu_seconds(pool) - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--hub-dir", type=Path)
    parser.add_argument("--spin", action="store_true", help="torch's threads spin while they wait")
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=default_workers())
    given = parser.parse_args()
    model = backbones.load(
        given.backbone, device=given.device, weights=given.weights, hub_dir=given.hub_dir
    )
    sampling = Sampling(frames=given.frames)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = make_clips(folder, given.clips)
        measure(clips, model, sampling, folder, given.rounds, given.workers)


def measure(
    clips: list[Clip], model: Backbone, sampling: Sampling, folder: Path, rounds: int, workers: int
) -> None:
    """Print the tables."""
    times: dict[str, list[tuple[float, float]]] = {}
    jobs = [Job(path=clip.path, sampling=sampling) for clip in clips]
    with DecoderPool(workers=workers) as pool:
        taken = pool.map(jobs, transform=lambda batch: model.preprocess(batch.frames))
        pixels = [outcome.result for outcome in taken]
    for turn in range(rounds + 1):  # the first warms up
        with DecoderPool(workers=workers) as pool:
            list(pool.map(jobs[:workers]))  # started
            calls = {
                "decode": timed(lambda pool=pool: decode_alone(clips, model, sampling, pool), pool)
            }
        calls["backbone"] = timed(lambda: backbone_alone(pixels, model))
        calls["extract"] = timed(lambda: ours(clips, model, sampling, folder, workers))
        calls["plain"] = timed(lambda: plain_loop(clips, model, sampling))
        for name, seconds in calls.items():
            times.setdefault(name, []).append(seconds)
        if turn == 0:
            times = {}
    print(f"{model!r}; {len(clips)} clips, {sampling.frames} frames each, {workers} decoders, "
          f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads")  # fmt: skip
    for name, values in times.items():
        wall, cpu = (statistics.median(column) / len(clips) for column in zip(*values, strict=True))
        print(f"{name:10} {1e3 * wall:8.0f} ms a clip {1e3 * cpu:8.0f} ms of CPU")
    gpu = model.device.type == "cuda"
    together: Callable[[float, float], float] = max if gpu else (lambda a, b: a + b)
    parts = "the slower of decode and backbone" if gpu else "(decode + backbone)"
    walls = {name: [wall for wall, _ in values] for name, values in times.items()}
    rows = [
        (
            f"extract / {parts}",
            [
                whole / together(decode, backbone)
                for whole, decode, backbone in zip(
                    walls["extract"], walls["decode"], walls["backbone"], strict=True
                )
            ],
            "<= 1.10",
        ),
        (
            "plain / extract",
            [a / b for a, b in zip(walls["plain"], walls["extract"], strict=True)],
            ">= 2.00",
        ),
    ]
    print(f"\n{'ratio':46} {'median':>8} {'best':>8} {'worst':>8}  target")
    for name, values, target in rows:
        best, worst = (min, max) if target.startswith("<") else (max, min)
        print(
            f"{name:46} {statistics.median(values):8.2f} {best(values):8.2f} "
            f"{worst(values):8.2f}  {target}"
        )


if __name__ == "__main__":
    main()
