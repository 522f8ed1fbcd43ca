"""How fast the right frames come: ours beside the others, and beside the floor.

    python benchmarks/decode.py [CLIP_OR_FOLDER ...] [--frames 8] [--rounds 7]

Needs the package installed (`make setup`); contestants that are not installed are left out. Takes
about four minutes on two cores. Makes two 1080p H.264 clips of 10 s (groups of 12 and of 250) in a
temporary folder, and adds the files named. Contestants take turns, in another order each round, and
each cell is the median over the rounds of *theirs / ours in the same round*: above 1, ours is
faster. The first table is of time, the second of CPU time, of which a busy machine says more. `*`
marks a contestant that returned other frames than those asked for.

`floor` decodes with PyAV, from the nearest keyframes, the packets up to the last wanted one of each
group, and drops the frames; `floor+rgb` converts the wanted ones as well, one conversion set up for
all. Both decode each group after the other with FFmpeg's own threads, which is why ours can be
faster.

Expected: all targets met on an idle machine; the script says which were, and where not.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import HeliographError
from data.video import probe, read

# Returns the frames, each (H, W, 3), in the order of the places; None from the floor.
Contestant = Callable[[Path, list[int]], Sequence[np.ndarray] | np.ndarray | None]

TRY_SECONDS = 60  # a contestant that takes longer for one clip is left out
OTHER_GREY_LEVELS = 12  # mean difference from ours beyond which a frame is another frame


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


def ours(path: Path, places: list[int]) -> np.ndarray:
    return read(path, places).frames


def pyav_seeks(path: Path, places: list[int]) -> list[np.ndarray]:
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


def opencv_seeks(path: Path, places: list[int]) -> list[np.ndarray]:
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


def decord_batch(path: Path, places: list[int]) -> np.ndarray:
    from decord import VideoReader

    return VideoReader(str(path)).get_batch(places).asnumpy()


def torchcodec_batch(path: Path, places: list[int]) -> np.ndarray:
    from torchcodec.decoders import VideoDecoder

    video = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=0)
    return video.get_frames_at(places).data.numpy()


def floor(path: Path, places: list[int]) -> None:
    """Decode the same groups with PyAV as far as they are needed; no pixel is converted."""
    for _ in _needed_frames(path, places):
        pass


def floor_rgb(path: Path, places: list[int]) -> list[np.ndarray]:
    """The floor, and the wanted frames as RGB."""
    from av.video.reformatter import VideoReformatter

    convert, frames = VideoReformatter(), {}
    for place, frame in _needed_frames(path, places):
        if place is not None:
            rgb = convert.reformat(frame, format="rgb24").to_ndarray()
            frames[place] = np.rot90(rgb, round(frame.rotation / 90))
    return [frames[place] for place in places]


def _needed_frames(path: Path, places: list[int]) -> Iterator[tuple[int | None, Any]]:
    """Every frame that has to be decoded, with its place if it is wanted."""
    import av

    with av.open(str(path)) as opened:
        stream = opened.streams.best("video")
        stream.thread_type = "AUTO"
        context = stream.codec_context
        packets = [packet for packet in opened.demux(stream) if packet.size]
        shown = [n for n, packet in enumerate(packets) if not packet.is_discard]
        order = sorted(shown, key=lambda n: packets[n].pts)
        place_of = {packets[order[place]].pts: place for place in places}
        keys = [n for n, packet in enumerate(packets) if packet.is_keyframe]
        done = -1
        for n in sorted(order[place] for place in places):
            start = max(max(k for k in keys if k <= n), done + 1)
            if start in keys and done >= 0:
                yield from ((place_of.get(frame.pts), frame) for frame in context.decode(None))
                context.flush_buffers()
            for packet in packets[start : n + 1]:
                yield from ((place_of.get(frame.pts), frame) for frame in context.decode(packet))
            done = max(done, n)
        yield from ((place_of.get(frame.pts), frame) for frame in context.decode(None))


RIVALS: dict[str, Contestant] = {
    "pyav seeks": pyav_seeks,
    "opencv seeks": opencv_seeks,
    "decord": decord_batch,
    "torchcodec": torchcodec_batch,
}
CONTESTANTS: dict[str, Contestant] = {**RIVALS, "floor": floor, "floor+rgb": floor_rgb}

Row = dict[str, float]


def attempt(name: str, path: Path, places: list[int]) -> str | None:
    """Run a contestant once in a process of its own: None if it can be timed here, or why not."""
    command = [sys.executable, __file__, "--attempt", name, str(path)]
    command += ["--places", ",".join(map(str, places))]
    try:
        tried = subprocess.run(command, capture_output=True, text=True, timeout=TRY_SECONDS)
    except subprocess.TimeoutExpired:
        return f"takes more than {TRY_SECONDS} s"
    if tried.returncode < 0:
        return f"crashes (signal {-tried.returncode})"
    return tried.stdout.strip() or None


def attempted(name: str, path: Path, places: list[int]) -> str:
    """What `attempt` is told: nothing, `other frames`, or an error."""
    try:
        theirs = CONTESTANTS[name](path, places)
    except Exception as error:  # whatever stops a contestant is what its note should say
        return (str(error).strip().splitlines() or [type(error).__name__])[0][:80]
    if theirs is None:
        return ""
    expected = ours(path, places)
    same = len(theirs) == len(expected) and all(
        np.shape(a) == b.shape
        and np.abs(np.subtract(a, b, dtype=np.int16)).mean() < OTHER_GREY_LEVELS
        for a, b in zip(theirs, expected, strict=True)
    )
    return "" if same else "other frames"


def timed(contestant: Contestant, path: Path, places: list[int]) -> tuple[float, float]:
    """Seconds, and CPU seconds of all threads."""
    began, cpu = time.perf_counter(), time.process_time()
    contestant(path, places)
    return time.perf_counter() - began, time.process_time() - cpu


def measure(path: Path, places: list[int], names: list[str], rounds: int) -> tuple[Row, Row]:
    """Median ratios by name, of time and of CPU time; `ours` is in milliseconds."""
    turns: dict[str, Contestant] = {"ours": ours, **{name: CONTESTANTS[name] for name in names}}
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in turns}
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        for name in rng.permutation(list(turns)).tolist():
            results[name].append(timed(turns[name], path, places))
    rows: list[Row] = []
    for metric in (0, 1):
        own = [result[metric] for result in results["ours"]]
        row = {"ours": statistics.median(own) * 1e3}
        for name in names:
            theirs = [result[metric] for result in results[name]]
            row[name] = statistics.median(a / b for a, b in zip(theirs, own, strict=True))
        rows.append(row)
    return rows[0], rows[1]


def table(title: str, rows: dict[str, Row], notes: dict[tuple[str, str], str]) -> str:
    lines = [title, f"{'clip':28} {'ours ms':>8} " + " ".join(f"{n:>13}" for n in CONTESTANTS)]
    for clip, row in rows.items():
        cells = [
            f"{row[name]:12.2f}{'*' if (clip, name) in notes else ' '}"
            if name in row
            else f"{'-':>12} "
            for name in CONTESTANTS
        ]
        lines.append(f"{clip[:28]:28} {row['ours']:8.1f} " + " ".join(cells))
    return "\n".join(lines)


def targets(rows: dict[str, Row]) -> Iterator[str]:
    """Each target with `met`, or the clips that miss it."""

    def line(what: str, missed: list[str]) -> str:
        return f"{what}: " + (f"missed by {'; '.join(missed)}" if missed else "met")

    slower = [
        f"{clip} ({name} {row[name]:.2f})"
        for clip, row in rows.items()
        for name in RIVALS
        if row.get(name, 1.0) < 0.9
    ]
    yield line("never slower than the best of the others by more than 10 % (0.90)", slower)
    seeks = {clip: row.get("pyav seeks", 0.0) for clip, row in rows.items() if "gop250" in clip}
    missed = [f"{clip} ({ratio:.2f})" for clip, ratio in seeks.items() if ratio < 3]
    yield line("3 times the plain seek loop on groups of 250 (3.00)", missed)
    for name in ("floor", "floor+rgb"):
        missed = [f"{c} ({r[name]:.2f})" for c, r in rows.items() if r.get(name, 1.0) < 0.87]
        yield line(f"within 15 % of the {name} (0.87)", missed)


def clips_in(given: list[Path]) -> list[Path]:
    files = [sorted(path.iterdir()) if path.is_dir() else [path] for path in given]
    return [path for found in files for path in found if path.is_file()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, nargs="*", help="further clips, or folders of clips")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--attempt", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--places", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if arguments.attempt:
        places = [int(place) for place in arguments.places.split(",")]
        print(attempted(arguments.attempt, arguments.clips[0], places))
        return
    wall: dict[str, Row] = {}
    cpu: dict[str, Row] = {}
    notes: dict[tuple[str, str], str] = {}
    with tempfile.TemporaryDirectory() as folder:
        clips = [make_clip(Path(folder) / f"1080p_gop{gop}.mp4", gop=gop) for gop in (12, 250)]
        for path in clips + clips_in(arguments.clips):
            try:
                shown = probe(path, decode=False).shown_frames
                places = np.linspace(0, shown - 1, arguments.frames).astype(int).tolist()
                read(path, places)
            except HeliographError as error:
                print(f"left out: {error}", file=sys.stderr)
                continue
            why = {name: attempt(name, path, places) for name in CONTESTANTS}
            notes |= {(path.name, name): reason for name, reason in why.items() if reason}
            names = [name for name, reason in why.items() if reason in (None, "other frames")]
            wall[path.name], cpu[path.name] = measure(path, places, names, arguments.rounds)
            print(f"measured {path.name}", file=sys.stderr, flush=True)
    with contextlib.suppress(BrokenPipeError):
        print(table(f"time, theirs / ours ({arguments.frames} frames)", wall, notes), end="\n\n")
        print(table("CPU time, theirs / ours", cpu, notes), end="\n\n")
        print("\n".join(targets(wall)), end="\n\n")
        print("\n".join(f"- {name} on {clip}: {why}" for (clip, name), why in notes.items()))


if __name__ == "__main__":
    main()
