"""Do outputs carry over: scenes, outputs and frames; other looks, and a camera in a hand.

    python benchmarks/carry_over.py FOLDER [--scenes ramp] [--check] [--mixed] [--registered]

Per scene, 150 clips of 24 frames (six a cell of a 5 x 5 grid), and the first two of each cell again
in other looks (`simulate(nuisance=1)`), and with the camera in a hand (`simulate(handheld=True)`).
EfficientNet-Lite0 runs once on all frames, with the output `pooled+grid14`: the means over 14 x 14
cells are the maps themselves, of which every other output is then pooled here, for 8, 16 or 24 of
the frames (`--check` compares one with what `extract` makes of it).

Ridge regression, as `evaluate` has it, learns from the ordinary clips of 20 cells and orders pairs
of clips of the five others (one in each row and column; five such sets): both properties at once,
in per cent, with the SD over the sets. `--mixed`: it also learns from the other clips of the 20
cells. `--registered`: the handheld clips also stabilised (needs opencv-python-headless).

Clips and caches that are in FOLDER are taken as they are. On two cores busy with other work expect
12 minutes a scene to extract and 6 to regress, and 600 MB of disk.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import backbones
from backbones.efficientnet import NAME, OUTPUTS
from backbones.outputs import MAPS, cell_means
from data import cache
from data.manifests import list_clips, write_manifest
from data.simulate import SCENES, encode_video, simulate
from data.video import Sampling, read_sampled
from pipeline.dataset import ridge
from pipeline.evaluation.baselines.pixels import pixel_features
from pipeline.evaluation.pair_scores import score_pairs
from pipeline.extraction import extract
from pipeline.metrics import exceeds

Floats = NDArray[np.float32]

LEVELS, FRAMES, SEED = 5, 24, 100
CONDITIONS: dict[str, dict[str, Any]] = {  # clips a cell, and their looks
    "usual": {"per_cell": 6},
    "nuisance": {"per_cell": 2, "nuisance": 1},
    "handheld": {"per_cell": 2, "handheld": True},
}
POOLED = ("pooled", "grid4", "motion", "motion3", "grid4+motion4")
REGISTERED = "registered"  # the handheld clips, stabilised
STEADY = "motion3 less the median"
PIXELS = "differences of pixels"


@dataclass(frozen=True)
class Clips:
    """The clips of one condition: all the frames' maps (N, T, 14, 14, 112) and more."""

    pooled: Floats
    maps: Floats
    thumbnails: NDArray[np.uint8]
    labels: NDArray[np.float64]
    cells: NDArray[np.int64]

    def features(self, output: str, frames: int) -> Floats:
        """Return the features (N, numbers) of an output for so many of the frames."""
        chosen = Sampling(frames=frames).indices(np.arange(self.maps.shape[1], dtype=float))
        maps = torch.from_numpy(self.maps[:, chosen])
        if output == PIXELS:
            (changed,) = pixel_features([self.thumbnails[:, chosen]])["differences"]
            return changed.reshape(len(changed), -1).astype(np.float32)
        if output == STEADY:
            changes = (maps[:, 1:] - maps[:, :-1]).abs_()
            usual = changes.flatten(2, 3).median(dim=2).values[:, :, None, None]
            found = cell_means((changes - usual).clamp_(min=0), 3)
        else:
            pooling = OUTPUTS.choose(NAME, output)
            encoded = {MAPS: maps, "pooled": torch.from_numpy(self.pooled[:, chosen])}
            found = pooling.join([pooling.pool(encoded)])
        return np.asarray(found.flatten(1).numpy())


def load(folder: Path, scene: str, condition: str) -> Clips:
    """Return clips with their maps, made where there are none."""
    made, target = folder / f"{scene}-{condition}", folder / f"{scene}-{condition}.h5"
    if not (made / "manifest.jsonl").exists() and condition == REGISTERED:
        register(folder / f"{scene}-handheld", made)
    elif not (made / "manifest.jsonl").exists():
        simulate(scene, made, grid=LEVELS, fps=12, seed=SEED, **CONDITIONS[condition])
    if not target.exists():
        extract(
            list_clips([made / "manifest.jsonl"]), target, sampling=Sampling(frames=FRAMES),
            backbone=backbones.load(NAME, output="pooled+grid14"), dtype="float32",
        )  # fmt: skip
    clips = cache.load(target)
    rows = np.asarray(clips.features)
    width, places = OUTPUTS.vectors["pooled"], OUTPUTS.maps
    assert places is not None
    names = [name.split("_") for name in clips.object]
    return Clips(
        pooled=rows[..., :width],
        maps=rows[..., width:].reshape(
            *rows.shape[:2], places.height, places.width, places.channels
        ),
        thumbnails=np.asarray(clips.thumbnails),
        labels=np.stack([clips.labels[prop.label] for prop in SCENES[scene].properties], axis=1),
        cells=np.array([[int(part[1:]) for part in name] for name in names]),
    )


def register(source: Path, target: Path) -> None:
    """Write clips again, each frame as the first one shows the scene.

    From a frame to the one before it a homography is fitted to corners that are followed (OpenCV);
    what a frame does not show is filled with its border.
    """
    import cv2

    clips = list_clips([source / "manifest.jsonl"])
    for clip in clips:
        batch, _ = read_sampled(clip.path, Sampling(frames=FRAMES))
        frames = [batch.frames[0]]
        to_first = np.eye(3)
        for before, after in pairwise(batch.frames):
            greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (before, after)]
            corners = cv2.goodFeaturesToTrack(greys[0], 300, 0.01, 6)
            found, known, _ = cv2.calcOpticalFlowPyrLK(greys[0], greys[1], corners, None)
            there = known.ravel() == 1
            step, _ = cv2.findHomography(found[there], corners[there], cv2.RANSAC, 1.5)
            to_first = to_first @ (np.eye(3) if step is None else step)
            size = after.shape[1], after.shape[0]
            frames.append(
                cv2.warpPerspective(after, to_first, size, borderMode=cv2.BORDER_REPLICATE)
            )
        path = target / clip.path.relative_to(source)
        path.parent.mkdir(parents=True, exist_ok=True)
        encode_video(frames, path, fps=12, size=batch.frames.shape[1])
    moved = [replace(clip, path=target / clip.path.relative_to(source)) for clip in clips]
    write_manifest(moved, target / "manifest.jsonl")


def held_out() -> Iterator[NDArray[np.bool_]]:
    """Yield five sets of cells, one in each row and column: bool (5, 5), together all of them."""
    rng = np.random.default_rng(7)
    rows, columns = rng.permutation(LEVELS), rng.permutation(LEVELS)
    square = (rows[:, None] + columns) % LEVELS
    for number in range(LEVELS):
        yield square == number


def accuracies(groups: list[Clips], output: str, frames: int, mixed: bool) -> NDArray[np.float64]:
    """Return per cent of pairs with both properties right: (sets of cells, groups)."""
    features = np.concatenate([group.features(output, frames) for group in groups])
    labels = np.concatenate([group.labels for group in groups])
    cells = np.concatenate([group.cells for group in groups])
    group_of = np.repeat(np.arange(len(groups)), [len(group.cells) for group in groups])

    def share(values: NDArray[np.float64], clips: NDArray[np.int64]) -> float:
        right, asked = score_pairs(exceeds(values), labels[clips], [0.0] * labels.shape[1])
        return float((right * asked)[..., -1].sum() / max(1, asked[..., -1].sum()))

    found = []
    for cells_held in held_out():
        held = cells_held[cells[:, 0], cells[:, 1]]
        train = np.flatnonzero(~held & (mixed | (group_of == 0)))
        test = np.flatnonzero(held)
        values = ridge.predict(
            ridge.linear_kernel(features, train), ridge.relative_ranks(labels, train), train, test,
            objects=cells[:, 0] * LEVELS + cells[:, 1], goodness=share,
        )  # fmt: skip
        of_test = group_of[test]
        found.append([share(values[of_test == n], test[of_test == n]) for n in range(len(groups))])
    return 100 * np.array(found)


def check(
    folder: Path, scene: str, clips: Clips, output: str = "motion3", frames: int = 16
) -> None:
    """Print how near the pooled features of four clips are to those that `extract` makes."""
    target = folder / f"{scene}-check.h5"
    target.unlink(missing_ok=True)
    extract(
        list_clips([folder / f"{scene}-usual" / "manifest.jsonl"])[:4], target, dtype="float32",
        sampling=Sampling(frames=frames), backbone=backbones.load(NAME, output=output),
    )  # fmt: skip
    made = np.asarray(cache.load(target).features).reshape(4, -1)
    apart = np.abs(made - clips.features(output, frames)[:4]).max() / np.abs(made).max()
    print(f"{output} of {frames} frames, by extract and by this: {apart:.1e} of the largest apart")


def main() -> None:
    """Print a table for each scene."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where clips and caches are, or are made")
    parser.add_argument("--scenes", nargs="+", default=list(SCENES), choices=SCENES)
    parser.add_argument("--frames", nargs="+", type=int, default=[8, 16, 24])
    parser.add_argument("--check", action="store_true", help="compare with what extract makes")
    parser.add_argument("--mixed", action="store_true", help="learn from all three kinds of clips")
    parser.add_argument("--registered", action="store_true", help="stabilise handheld clips, too")
    asked = parser.parse_args()
    conditions = [*CONDITIONS, *([REGISTERED] if asked.registered else [])]
    asked.folder.mkdir(parents=True, exist_ok=True)
    for scene in asked.scenes:
        groups = [load(asked.folder, scene, condition) for condition in conditions]
        if asked.check:
            check(asked.folder, scene, groups[0])
        print(f"{scene}, {len(groups[0].cells)} clips: both at once on {', '.join(conditions)}")
        for output in (*POOLED, STEADY, PIXELS):
            for frames in asked.frames:
                found = accuracies(groups, output, frames, asked.mixed)
                shown = "  ".join(f"{one.mean():5.1f} +- {one.std(ddof=1):4.1f}" for one in found.T)
                print(f"  {output:24} {frames:2} frames  {shown}", flush=True)


if __name__ == "__main__":
    main()
