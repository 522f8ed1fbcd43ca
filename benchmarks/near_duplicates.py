"""How alike clips of different objects are, and how many copies of a clip are found.

    python benchmarks/near_duplicates.py demo.h5 spring.pt    # caches, or files of the paper
    python benchmarks/near_duplicates.py demo.h5 --clips demo/clips    # and copies of its clips

Per file: the number of dimensions, the bound, the largest cosine of two clips of different objects
(centred on the training mean, over 20 splits by object), the largest of one object, and the largest
plain cosine. With `--clips` 24 clips are encoded again in several ways, their features extracted as
those of the cache were, and compared with those of the clip that they are copies of.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

import av
import numpy as np

import backbones
from data import cache
from data.cache import Features
from data.clips import Clip
from data.interchange import import_features
from data.video import Sampling
from pipeline.dataset import Examples, chance_bound, dimensions_of, unit_rows
from pipeline.extraction import extract

COPIES = {  # constant rate factor, size as a share, frames left out at the start
    "CRF 23": (23, 1.0, 0),
    "CRF 35": (35, 1.0, 0),
    "half the size": (23, 0.5, 0),
    "one frame later": (23, 1.0, 1),
    "three frames later": (23, 1.0, 3),
    "half, one frame later, CRF 35": (35, 0.5, 1),
}
SEEDS = 20


def measure(name: str, clips: Features) -> None:
    """Print a line about the cosines of clips of different objects."""
    names = tuple(name or clip for name, clip in zip(clips.object, clips.clip_id, strict=True))
    examples = Examples((np.asarray(clips.features),), np.zeros((len(clips), 1)), names)
    objects = np.asarray(names)
    differ = objects[:, None] != objects[None]
    directions = unit_rows(examples.caches)
    rows = examples.flat_features()
    largest = -1.0
    for seed in range(SEEDS):
        split = examples.split("objects", seed)
        centred = _unit(rows - rows[split.train].mean(axis=0))
        largest = max(largest, float((centred[split.test] @ centred[split.train].T).max()))
    centred, plain = _unit(rows - rows.mean(axis=0)), _unit(rows)
    same = np.where(differ | np.eye(len(rows), dtype=bool), -1, centred @ centred.T).max()
    print(
        f"{name}: {len(rows)} clips, {dimensions_of(directions):.1f} dimensions, bound "
        f"{chance_bound(directions):.3f}, different objects {largest:.3f}, one object {same:.3f}, "
        f"plain {np.where(differ, plain @ plain.T, -1).max():.4f}"
    )


def measure_copies(clips: Features, folder: Path, count: int = 24) -> None:
    """Print how near copies of clips are to the clips."""
    chosen = random.Random(0).sample(list(clips.clip_id), count)
    bound = chance_bound(unit_rows((np.asarray(clips.features),)))
    rows = np.asarray(clips.features).reshape(len(clips), -1).astype(np.float32)
    mean = rows.mean(axis=0)
    known = dict(zip(clips.clip_id, _unit(rows - mean), strict=True))
    backbone = backbones.load_from_fingerprint(clips.fingerprint)
    for name, (crf, scale, skipped) in COPIES.items():
        with tempfile.TemporaryDirectory() as place:
            copies = []
            for number, clip in enumerate(chosen):
                path = Path(place) / f"{number}.mp4"
                _encode(folder / clip, path, crf, scale, skipped)
                copies.append(Clip(id=clip, path=path))
            target = Path(place) / "copies.h5"
            extract(copies, target, backbone=backbone, sampling=Sampling(**clips.sampler))
            found = cache.load(target)
        near = _unit(np.asarray(found.features).reshape(count, -1).astype(np.float32) - mean)
        cosines = [float(row @ known[clip]) for clip, row in zip(found.clip_id, near, strict=True)]
        print(
            f"{name}: {sum(cosine >= bound for cosine in cosines)} of {count} found, cosines "
            f"{min(cosines):.3f} to {max(cosines):.3f}, median {np.median(cosines):.3f}"
        )


def _encode(source: Path, target: Path, crf: int, scale: float, skipped: int) -> None:
    """Encode a video again, as H.264."""
    with av.open(str(source)) as video, av.open(str(target), "w") as copy:
        shown = video.streams.video[0]
        stream = copy.add_stream("libx264", rate=shown.average_rate, options={"crf": str(crf)})
        stream.width, stream.height = (int(scale * side) for side in (shown.width, shown.height))
        stream.pix_fmt = "yuv420p"
        for number, frame in enumerate(video.decode(shown)):
            if number >= skipped:
                small = frame.reformat(stream.width, stream.height, "yuv420p")
                again = av.VideoFrame.from_ndarray(small.to_ndarray(), format="yuv420p")
                copy.mux(stream.encode(again))
        copy.mux(stream.encode())


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def main() -> None:
    """Measure the files on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--clips", type=Path, help="folder of the clips of the first file")
    options = parser.parse_args()
    loaded = [
        cache.load(path) if path.suffix == ".h5" else import_features(path)
        for path in options.files
    ]
    for path, clips in zip(options.files, loaded, strict=True):
        measure(path.name, clips)
    if options.clips:
        measure_copies(loaded[0], options.clips)


if __name__ == "__main__":
    main()
