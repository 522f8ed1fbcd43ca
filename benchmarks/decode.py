"""How fast the right frames come: ours beside the others, and beside the floor.

    python benchmarks/decode.py [--clips DIR] [--frames 8] [--rounds 7]

Takes about three minutes on two cores. Makes two 1080p H.264 clips of 10 s (groups of 12 and of
250) in a temporary folder; `--clips` adds every video of a folder. Contestants take turns, and each
cell is the median over the rounds of *their time / ours in the same round*: above 1, ours is
faster. `floor` decodes with PyAV, from the nearest keyframes, the packets up to the last wanted one
of each group, and drops the frames.

Expected: no `best` below 0.9; `pyav seeks` at least 3 on the 250-GOP clip; `floor` above 0.87.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data.errors import HeliographError
from data.video import probe, read

Contestant = Callable[[Path, list[int]], object]


def make_clip(path: Path, *, gop: int, seconds: int = 10) -> Path:
    """Ten seconds of a moving texture at 1920x1080, 30 frames a second."""
    import av

    blocks = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    texture = blocks.repeat(8, 0).repeat(8, 1)
    options = {"g": str(gop), "keyint_min": str(gop), "sc_threshold": "0", "preset": "veryfast"}
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        for n in range(30 * seconds):
            y, x = n % 300, 2 * n % 400
            picture = np.ascontiguousarray(texture[y : y + 1080, x : x + 1920])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return path


def ours(path: Path, places: list[int]) -> object:
    return read(path, places).frames


def pyav_seeks(path: Path, places: list[int]) -> object:
    """The plain loop: seek to the keyframe before each frame, decode up to it."""
    import av

    frames = []
    with av.open(str(path)) as opened:
        stream = opened.streams.video[0]
        rate, base, start = stream.average_rate, stream.time_base, stream.start_time or 0
        for place in places:
            target = start + round(place / rate / base)
            opened.seek(target, stream=stream)
            for frame in opened.decode(stream):
                if frame.pts is not None and frame.pts >= target - 1:
                    frames.append(frame.to_ndarray(format="rgb24"))
                    break
    return frames


def opencv_seeks(path: Path, places: list[int]) -> object:
    import cv2

    capture, frames = cv2.VideoCapture(str(path)), []
    for place in places:
        capture.set(cv2.CAP_PROP_POS_FRAMES, place)
        good, frame = capture.read()
        if not good:
            raise RuntimeError(f"reads no frame {place}")
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    capture.release()
    return frames


def decord_batch(path: Path, places: list[int]) -> object:
    from decord import VideoReader

    return VideoReader(str(path)).get_batch(places).asnumpy()


def torchcodec_batch(path: Path, places: list[int]) -> object:
    from torchcodec.decoders import VideoDecoder

    video = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=0)
    return video.get_frames_at(places).data.numpy()


def floor(path: Path, places: list[int]) -> object:
    """Decode the same groups with PyAV as far as they are needed; no pixel is converted."""
    import av

    with av.open(str(path)) as opened:
        stream = opened.streams.best("video")
        stream.thread_type = "AUTO"
        packets = [packet for packet in opened.demux(stream) if packet.size]
        order = sorted(range(len(packets)), key=lambda n: packets[n].pts)
        needed = sorted(order[place] for place in places)
        keys = [n for n, packet in enumerate(packets) if packet.is_keyframe]
        done, count = -1, 0
        for n in needed:
            start = max(max(k for k in keys if k <= n), done + 1)
            if start in keys and done >= 0:
                count += len(stream.codec_context.decode(None))
                stream.codec_context.flush_buffers()
            for packet in packets[start : n + 1]:
                count += len(stream.codec_context.decode(packet))
            done = max(done, n)
        return count + len(stream.codec_context.decode(None))


CONTESTANTS: dict[str, Contestant] = {
    "pyav seeks": pyav_seeks,
    "opencv seeks": opencv_seeks,
    "decord": decord_batch,
    "torchcodec": torchcodec_batch,
    "floor": floor,
}


def timed(contestant: Contestant, path: Path, places: list[int]) -> float:
    began = time.perf_counter()
    contestant(path, places)
    return time.perf_counter() - began


def usable(path: Path, places: list[int]) -> dict[str, str]:
    """Contestants that cannot run on this clip, and why."""
    reasons = {}
    for name, contestant in CONTESTANTS.items():
        try:
            contestant(path, places)
        except Exception as error:  # whatever stops a contestant is what its row should say
            reasons[name] = (str(error).strip().splitlines() or [type(error).__name__])[0][:60]
    return reasons


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, help="a folder of further clips")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clips = [make_clip(Path(folder) / f"1080p_gop{gop}.mp4", gop=gop) for gop in (12, 250)]
        if arguments.clips:
            clips += sorted(path for path in arguments.clips.iterdir() if path.is_file())
        print(f"{'clip':28} {'ours ms':>8} " + " ".join(f"{name:>12}" for name in CONTESTANTS))
        skipped: dict[str, str] = {}
        for path in clips:
            try:
                shown = probe(path, decode=False).shown_frames
                places = np.linspace(0, shown - 1, arguments.frames).astype(int).tolist()
                read(path, places)
            except HeliographError as error:
                print(f"skipped: {error}")
                continue
            row(path, places, arguments.rounds, skipped)
        for name, reason in skipped.items():
            print(f"- {name}: {reason}")


def row(path: Path, places: list[int], rounds: int, skipped: dict[str, str]) -> None:
    reasons = usable(path, places)
    skipped |= {f"{name} on {path.name}": reason for name, reason in reasons.items()}
    ratios: dict[str, list[float]] = {name: [] for name in CONTESTANTS if name not in reasons}
    own = []
    for _ in range(rounds):
        own.append(timed(ours, path, places))
        for name, values in ratios.items():
            values.append(timed(CONTESTANTS[name], path, places) / own[-1])
    cells = [
        f"{statistics.median(ratios[name]):12.2f}" if name in ratios else f"{'-':>12}"
        for name in CONTESTANTS
    ]
    print(f"{path.name[:28]:28} {statistics.median(own) * 1e3:8.1f} " + " ".join(cells), flush=True)


if __name__ == "__main__":
    main()
