"""Everything that needs a CUDA GPU, in one command of less than nine minutes.

    make gpu                       # or: python3 benchmarks/gpu.py --out gpu.md
    python3 benchmarks/gpu.py --hub-dir FOLDER    # with the clones dinov2 and vjepa2
    python3 benchmarks/gpu.py --device cpu --small --only efficientnet_lite0 --only agreement

For a machine that is at hand for a short time: it takes the `python3` that runs it with the
packages that are there, no network, and nothing but this repository. Each part is a process of its
own with a limit of time. A part whose package is missing, or that fails, says so in its row, and
the others go on; what a part had measured when its time was over counts. A Markdown table for
RESULTS.md is printed at the end, and written to `--out` after each part.

    tests        all tests that are marked `gpu`
    a backbone   with random weights at real shapes: clips a second, the share of the measured
                 rate of matrix products, the least cosine with float32, memory at the peak
    extraction   made 1080p clips: wall clock over the slower of decoding and backbone
    a preset     80 seeds of 400 epochs, next to the plain loop of two seeds, extrapolated
    agreement    accuracies of a CPU and of the GPU over 20 seeds

`--device cpu --small` runs the same code with stand-in sizes, which shows that it works and whose
numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LIMIT_SECONDS = 8.5 * 60
MARK = "row of the table: "


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        what: was measured.
        figure: as it is shown.
        target: what it should be; empty where there is no target.
    """

    what: str
    figure: str
    target: str = ""


Rows = Iterator[Row]


@dataclass(frozen=True)
class Part:
    """A process of its own.

    Attributes:
        name: what `--only` takes.
        rows: measures; yields rows as soon as they are known.
        seconds: its limit.
    """

    name: str
    rows: Callable[[argparse.Namespace], Rows]
    seconds: float


# --- the parts; what they import is theirs to miss ---


def tests(wanted: argparse.Namespace) -> Rows:
    """Run the tests that are marked `gpu`."""
    import pytest

    class Counter:
        """Counts outcomes, and names what failed."""

        def __init__(self) -> None:
            self.counts: dict[str, int] = {}
            self.failed: list[str] = []

        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.when == "call" or report.outcome != "passed":
                self.counts[report.outcome] = self.counts.get(report.outcome, 0) + 1
            if report.failed:
                self.failed.append(report.nodeid)

    if wanted.device != "cpu":
        os.environ["HELIOGRAPH_REQUIRE_CUDA"] = "1"
    if wanted.hub_dir is not None:
        os.environ["HELIOGRAPH_HUB_DIR"] = str(wanted.hub_dir)
    counter = Counter()
    words = ["-q", "-m", "gpu", "-p", "no:cacheprovider", "--tb=short", str(ROOT / "tests")]
    code = pytest.main(words, plugins=[counter])
    counts = [f"{number} {outcome}" for outcome, number in sorted(counter.counts.items())]
    yield Row("tests marked `gpu`", ", ".join(counts) or f"none (pytest: {code})", "0 failed")
    for name in counter.failed:
        yield Row(f"failed: `{name}`", "")


def backbone(name: str) -> Callable[[argparse.Namespace], Rows]:
    """Return the part of a backbone."""

    def rows(wanted: argparse.Namespace) -> Rows:
        import tempfile

        import torch
        from torch.utils.flop_counter import FlopCounterMode

        import backbones
        from benchmarks.backbone_speed import matmul_rate, random_weights

        frames = 16 if name.startswith("vjepa2") else 8
        clips, turns = (2, 1) if wanted.small else (16, 5)
        options: dict[str, Any] = {"device": wanted.device, "hub_dir": wanted.hub_dir}
        with tempfile.TemporaryDirectory() as folder:
            if name == "efficientnet_lite0" or wanted.small:
                options["weights"] = "random"
            else:
                options["weights"] = random_weights(name, Path(folder), wanted.hub_dir)
            exact = None
            for precision in ("fp32", "bf16") if wanted.small else ("fp32", "bf16", "fp16"):
                model = backbones.load(name, precision=precision, **options)
                side = model.preprocess.crop
                drawn = torch.Generator().manual_seed(0)
                pixels = torch.randint(
                    256, (clips, frames, 3, side, side), generator=drawn, dtype=torch.uint8
                )
                if model.device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                with FlopCounterMode(display=False) as counter:
                    found = model.forward(pixels).flatten(0, 1)  # warms up, too
                exact = found if exact is None else exact
                spent = sorted(
                    seconds(lambda m=model, p=pixels: m.forward(p)) for _ in range(turns)
                )
                rate = clips / spent[len(spent) // 2]
                share = (
                    counter.get_total_flops() / clips * rate / matmul_rate(precision, model.device)
                )
                cosine = float(torch.cosine_similarity(found, exact).min())
                figure = f"{rate:,.1f} clips/s; {share:.0%} of the matmul rate"
                if precision != "fp32":
                    figure += f"; cosine {cosine:.5f}"
                if model.device.type == "cuda":
                    figure += f"; {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
                large = name in ("vjepa2_vitl", "clip_vitl14") and precision == "bf16"
                yield Row(
                    f"{name}, {precision}, {clips} clips of {frames} frames a pass",
                    figure,
                    "60 % of the matmul rate" if large else "",
                )
                del model

    return rows


def extraction(wanted: argparse.Namespace) -> Rows:
    """Extract made clips, next to decoding and the backbone alone."""
    import tempfile

    import torch

    import backbones
    from benchmarks.extract import backbone_alone, decode_alone, make_clips, ours
    from data.video import DecoderPool, Sampling
    from pipeline.extraction import default_workers

    count = 3 if wanted.small else 96
    model = backbones.load("efficientnet_lite0", device=wanted.device, weights="random")
    sampling, workers = Sampling(frames=8), default_workers()
    side = model.preprocess.crop
    pixels = [torch.zeros(8, 3, side, side, dtype=torch.uint8)] * count
    with tempfile.TemporaryDirectory() as place, DecoderPool(workers=workers) as pool:
        folder = Path(place)
        clips = make_clips(folder, count)
        backbone_alone(pixels, model)
        decode_alone(clips[: workers + 1], model, sampling, pool)
        decoding = seconds(lambda: decode_alone(clips, model, sampling, pool))
        computing = seconds(lambda: backbone_alone(pixels, model))
        whole = seconds(lambda: ours(clips, model, sampling, folder, workers))
    slower = max(decoding, computing)
    yield Row(
        f"extraction of {count} clips of 1080p, {workers} decoders",
        f"{whole / slower:.2f} of the slower side ({count / whole:,.1f} clips/s; decoding alone "
        f"{count / decoding:,.1f}, backbone alone {count / computing:,.1f})",
        "1.10",
    )


def training(preset: str) -> Callable[[argparse.Namespace], Rows]:
    """Return the part of a preset."""

    def rows(wanted: argparse.Namespace) -> Rows:
        import torch

        from benchmarks.train import SHAPE, plain
        from pipeline.config import build_config
        from pipeline.training import fit

        seeds, epochs, few = (3, 4, 2) if wanted.small else (80, 400, 20)
        examples = made_examples(8 if wanted.small else 1024)
        features = torch.from_numpy(examples.caches[0]).float().to(wanted.device)
        labels, objects = examples.labels[:, 0], list(examples.objects)

        def of_ours(length: int) -> float:
            config = build_config(preset, ("mass",), **SHAPE, epochs=length)
            return seconds(lambda: list(fit(examples, config, range(seeds), device=wanted.device)))

        of_ours(1)
        loops = [
            seconds(lambda s=seed: plain(features, labels, objects, s, few)) for seed in range(3)
        ][1:]  # the first warms up
        plain_seconds = sum(loops) / len(loops) / few * epochs * seeds
        short = of_ours(few)
        yield Row(
            f"{preset}: {seeds} seeds of {few} epochs; the plain loop of {epochs}, extrapolated",
            f"{short:.1f} s; {plain_seconds:,.0f} s",
        )
        whole = of_ours(epochs)
        yield Row(
            f"{preset}: {seeds} seeds of {epochs} epochs",
            f"{whole:.1f} s; {plain_seconds / whole:.1f} times as fast as the plain loop",
            "20 s; 25 times",
        )

    return rows


def agreement(wanted: argparse.Namespace) -> Rows:
    """Train the same seeds on a CPU and on the device."""
    import numpy as np

    from pipeline.config import build_config
    from pipeline.training import fit

    seeds, epochs = (2, 2) if wanted.small else (20, 60)
    examples = made_examples(32)
    config = build_config("stabilised", ("mass",), epochs=epochs)
    found = {
        device: np.array(
            [
                r.accuracy_last_epoch.together
                for r in fit(examples, config, range(seeds), device=device)
            ]
        )
        for device in ("cpu", wanted.device)
    }
    here, there = found["cpu"], found[wanted.device]
    apart = here - there
    yield Row(
        f"accuracy of {seeds} seeds of {epochs} epochs, CPU and {wanted.device}",
        f"{here.mean():.3f} and {there.mean():.3f}; difference {apart.mean():+.3f} "
        f"+- {apart.std(ddof=1) / seeds**0.5:.3f} (standard error)",
        "no more than two standard errors",
    )


def made_examples(dim: int) -> Any:
    """Clips of 25 objects that differ in mass, features float16 (206, 8, dim)."""
    import numpy as np

    from pipeline.dataset import Examples

    rng = np.random.default_rng(0)
    level = np.arange(206) % 25
    shown = np.outer(level / 25, rng.normal(size=dim))[:, None]
    features = (shown + rng.normal(size=(206, 8, dim))).astype(np.float16)
    objects = tuple(f"object {number}" for number in level)
    return Examples((features,), level[:, None].astype(float), objects)


def seconds(job: Callable[[], object]) -> float:
    """Return the seconds that a job takes, the GPU's work included."""
    import torch

    start = time.perf_counter()
    job()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


PARTS = {
    part.name: part
    for part in (
        Part("tests", tests, 120),
        Part("vjepa2_vitl", backbone("vjepa2_vitl"), 70),
        Part("clip_vitl14", backbone("clip_vitl14"), 50),
        Part("dinov2_vitl14", backbone("dinov2_vitl14"), 50),
        Part("dinov2_vits14", backbone("dinov2_vits14"), 30),
        Part("efficientnet_lite0", backbone("efficientnet_lite0"), 30),
        Part("published", training("published"), 110),
        Part("default", training("default"), 110),
        Part("agreement", agreement, 60),
        Part("extraction", extraction, 60),
    )
}


# --- the processes, and the table ---


def describe_machine() -> Rows:
    """What the figures are of."""
    try:
        import torch

        gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
        versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}"
    except ImportError:
        gpu, versions = "unknown GPU", "no torch"
    yield Row(
        "machine", f"{gpu}; {os.cpu_count()} cores; Python {platform.python_version()}, {versions}"
    )


def run_part(part: Part, words: list[str], limit: float) -> list[Row]:
    """Return the rows of a part; where it comes to no good end, the last row says why."""
    began = time.monotonic()
    command = [sys.executable, str(Path(__file__).resolve()), *words, "--part", part.name]
    paths = [os.environ.get("PYTHONPATH", ""), str(ROOT), str(ROOT / "benchmarks")]
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = child.communicate(timeout=limit)
        reason = None if child.returncode == 0 else f"ended with {child.returncode}"
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)  # with its decoders
        output, _ = child.communicate()
        reason = f"not done in {limit:.0f} s"
    lines = output.splitlines()
    rows = [Row(**json.loads(line[len(MARK) :])) for line in lines if line.startswith(MARK)]
    said = [line for line in lines if line.strip() and not line.startswith(MARK)]
    print("\n".join(f"    {line}" for line in said[-40:]), flush=True)
    if reason is not None:
        rows.append(Row(part.name, f"{reason}: {said[-1].strip()}" if said else reason))
    print(f"{part.name}: {time.monotonic() - began:.0f} s", flush=True)
    return rows


def table(rows: list[Row]) -> str:
    """Return the rows as Markdown."""
    lines = ["| what | measured | target |", "|---|---|---|"]
    for row in rows:
        cells = [cell.replace("|", "\\|") for cell in (row.what, row.figure, row.target)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="stand-in sizes, to see that it works")
    parser.add_argument("--only", choices=list(PARTS), action="append", help="[all parts]")
    parser.add_argument("--hub-dir", type=Path, help="folder with the clones dinov2 and vjepa2")
    parser.add_argument("--out", type=Path, help="a file for the table")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    wanted = parser.parse_args(argv)
    if wanted.part is not None:
        try:
            for row in PARTS[wanted.part].rows(wanted):
                print(MARK + json.dumps(vars(row)), flush=True)
        except ImportError as error:
            print(f"needs the package {error.name}" if error.name else str(error))
            return 1
        return 0
    began, rows = time.monotonic(), list(describe_machine())
    words = ["--device", wanted.device, *(["--small"] if wanted.small else [])]
    if wanted.hub_dir is not None:
        words += ["--hub-dir", str(wanted.hub_dir.resolve())]
    longer = 20 if wanted.small else 1  # of a CPU, which may be busy
    for name in wanted.only or PARTS:
        left = longer * LIMIT_SECONDS - (time.monotonic() - began)
        if left < 5:
            rows.append(Row(name, "left out: the time is over"))
        else:
            rows += run_part(PARTS[name], words, min(left, longer * PARTS[name].seconds))
        if wanted.out is not None:
            wanted.out.write_text(table(rows))
    print(table(rows), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
