"""Time to decode given frames: ours, other decoders, and the least work that PyAV needs.

    python benchmarks/decode.py [CLIP_OR_FOLDER ...] [--frames 8] [--rounds 7] [--threads 0]
    python benchmarks/decode.py --long --threads 1 [--rounds 7]

Needs the package installed (`make setup`); contestants that are not installed are left out. Takes
about a minute, and ten seconds for each further clip, on two idle cores. Makes two 1080p H.264
clips of 10 s (groups of 12 and of 250) in a temporary folder, and adds the files named. Contestants
take turns, each in a process of its own, in another order each round. Each cell is the median over
the rounds of *theirs / ours in the same round*: above 1, ours is faster. The first table is of
time, the second of CPU time, which says more on a busy machine. `*` marks a contestant that
returned other frames than those asked for.

`floor` decodes with PyAV, from the nearest keyframes, the packets up to the last wanted one of each
group, and drops the frames; `floor+rgb` converts the wanted ones as well, one conversion set up for
all. Both decode each group after the other with FFmpeg's own threads, which is why ours can be
faster.

`--long` measures what opening costs in place of the 1080p clips: 8 frames of thirty minutes in MP4,
Matroska and a transport stream, 40 clips of 8 frames out of the MP4 (ours is called for each, the
others once), 8 frames of a day, of five minutes of 1080p, of a minute at 240 frames a second, of
two and thirty minutes of 576i MPEG-2, and two of MPEG-4 (packed or not) and H.264 with B-frames in
AVI. It makes them in a minute. `ours again` is the second reading of a file: what the first one
kept is there. `--only NAME` takes some of the recordings.

Expected: all targets met on an idle machine; the script says which were, and where not.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from long_recordings import RECORDINGS

from data.errors import HeliographError
from data.video import probe, read
from data.video.pyav import container, kept_index

Stretches = list[list[int]]  # for each clip of a file, the indices of its frames

THREADS = 0  # of each contestant; 0 for one per core

# Returns the frames, each (H, W, 3), in the order of the indices; None from the floor.
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


def ours(path: Path, indices: list[int]) -> np.ndarray:
    return read(path, indices, threads=THREADS).frames


def pyav_seeks(path: Path, indices: list[int]) -> list[np.ndarray]:
    """The plain loop: seek to the keyframe before each frame, decode up to it."""
    import av

    frames = []
    with av.open(str(path)) as opened:
        stream = opened.streams.video[0]
        stream.codec_context.thread_count = THREADS
        rate, base, start = stream.average_rate, stream.time_base, stream.start_time or 0
        for index in indices:
            target = start + round(index / rate / base)
            opened.seek(target, stream=stream)
            for frame in opened.decode(stream):
                if frame.pts is not None and frame.pts >= target - 1:
                    frames.append(frame.to_ndarray(format="rgb24"))
                    break
    return frames


def pyav_sequential(path: Path, indices: list[int]) -> list[np.ndarray]:
    """Everything from the start up to the last frame."""
    import av

    frames: dict[int, np.ndarray] = {}
    with av.open(str(path)) as opened:
        stream = opened.streams.video[0]
        stream.codec_context.thread_count = THREADS
        for index, frame in enumerate(opened.decode(stream)):
            if index in indices:
                frames[index] = frame.to_ndarray(format="rgb24")
            if index == max(indices):
                break
    return [frames[index] for index in indices]


def opencv_seeks(path: Path, indices: list[int]) -> list[np.ndarray]:
    import cv2

    capture, frames = cv2.VideoCapture(str(path)), []
    for index in indices:
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        good, frame = capture.read()
        if not good:
            raise RuntimeError(f"reads no frame {index}")
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    capture.release()
    return frames


def decord_batch(path: Path, indices: list[int]) -> np.ndarray:
    from decord import VideoReader

    return VideoReader(str(path), num_threads=THREADS).get_batch(indices).asnumpy()


def torchcodec_batch(path: Path, indices: list[int], mode: str = "exact") -> np.ndarray:
    from torchcodec.decoders import VideoDecoder

    video = VideoDecoder(
        str(path), dimension_order="NHWC", num_ffmpeg_threads=THREADS, seek_mode=mode
    )
    return video.get_frames_at(indices).data.numpy()


def floor(path: Path, indices: list[int]) -> None:
    """Decode the same groups with PyAV as far as they are needed; no pixel is converted."""
    for _ in _needed_frames(path, indices):
        pass


def floor_rgb(path: Path, indices: list[int]) -> list[np.ndarray]:
    """The floor, and the wanted frames as RGB."""
    from av.video.reformatter import VideoReformatter

    convert, frames = VideoReformatter(), {}
    for index, frame in _needed_frames(path, indices):
        if index is not None:
            rgb = convert.reformat(frame, format="rgb24").to_ndarray()
            frames[index] = np.rot90(rgb, round(frame.rotation / 90))
    return [frames[index] for index in indices]


def _needed_frames(path: Path, indices: list[int]) -> Iterator[tuple[int | None, Any]]:
    """Every frame that has to be decoded, with its index if it is wanted."""
    import av

    with av.open(str(path)) as opened:
        stream = opened.streams.best("video")
        stream.thread_type, stream.thread_count = "AUTO", THREADS
        context = stream.codec_context
        packets = [packet for packet in opened.demux(stream) if packet.size]
        shown = [n for n, packet in enumerate(packets) if not packet.is_discard]
        order = sorted(shown, key=lambda n: packets[n].pts)
        index_of = {packets[order[index]].pts: index for index in indices}
        keys = [n for n, packet in enumerate(packets) if packet.is_keyframe]
        done = -1
        for n in sorted(order[index] for index in indices):
            start = max(max(k for k in keys if k <= n), done + 1)
            if start in keys and done >= 0:
                yield from ((index_of.get(frame.pts), frame) for frame in context.decode(None))
                context.flush_buffers()
            for packet in packets[start : n + 1]:
                yield from ((index_of.get(frame.pts), frame) for frame in context.decode(packet))
            done = max(done, n)
        yield from ((index_of.get(frame.pts), frame) for frame in context.decode(None))


DECODERS: dict[str, Contestant] = {
    "pyav seeks": pyav_seeks,
    "pyav whole": pyav_sequential,
    "opencv seeks": opencv_seeks,
    "decord": decord_batch,
    "torchcodec": torchcodec_batch,
}
APPROXIMATE = {"tc approx": partial(torchcodec_batch, mode="approximate")}
AGAIN = {"ours again": ours}
OTHERS: dict[str, Contestant] = {
    **AGAIN, **DECODERS, **APPROXIMATE, "floor": floor, "floor+rgb": floor_rgb,
}  # fmt: skip
CONTESTANTS: dict[str, Contestant] = {"ours": ours, **OTHERS}

Row = dict[str, float]


@dataclass(frozen=True)
class Reading:
    """Wall and CPU seconds of one reading, over all threads; or why it failed."""

    seconds: float = 0.0
    cpu: float = 0.0
    error: str | None = None
    note: str | None = None


class ContestantProcess:
    """A contestant in a process of its own: it may hang or crash, and loads its own FFmpeg."""

    def __init__(self, name: str):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        # What is kept of files that were opened: only for the contestant that reads them again.
        self.cache = tempfile.TemporaryDirectory()
        folder = self.cache.name if name in AGAIN else os.devnull
        arguments = name, theirs, THREADS, folder
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()

    def take(self, path: Path, stretches: Stretches, check: bool = False) -> Reading:
        self.connection.send((path, stretches, check))
        if not self.connection.poll(TRY_SECONDS):
            return Reading(error=f"takes more than {TRY_SECONDS} s")
        try:
            return self.connection.recv()
        except EOFError:
            self.process.join()
            return Reading(error=f"crashes (exit code {self.process.exitcode})")

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self.cache.cleanup()


def _serve(name: str, connection: Connection, threads: int, cache: str) -> None:
    """The process of a contestant: one clip after the other until its parent goes."""
    global THREADS
    THREADS = threads
    os.environ["XDG_CACHE_HOME"] = cache
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # OpenCV's and FFmpeg's many error messages
    kept_index.SETTLED_SECONDS = 0.0  # the recordings were just made
    opened_before: set[Path] = set()
    while True:
        path, stretches, check = connection.recv()
        together = [index for stretch in stretches for index in stretch]
        if name in AGAIN and path not in opened_before:
            ours(path, together)
            opened_before.add(path)
        container._LAST_INDEX.clear()  # ours would find the file of the last round opened
        began, cpu = time.perf_counter(), time.process_time()
        try:
            if name in ("ours", *AGAIN):
                frames = [frame for stretch in stretches for frame in ours(path, stretch)]
            else:
                frames = CONTESTANTS[name](path, together)
        except Exception as error:  # any failure of a contestant is reported in its note
            message = (str(error).strip().splitlines() or [type(error).__name__])[0][:80]
            connection.send(Reading(error=message))
            continue
        turn = Reading(seconds=time.perf_counter() - began, cpu=time.process_time() - cpu)
        if check and frames is not None and not _same(frames, ours(path, together)):
            turn = replace(turn, note="other frames")
        del frames
        connection.send(turn)


def _same(theirs: Sequence[np.ndarray] | np.ndarray, expected: np.ndarray) -> bool:
    return len(theirs) == len(expected) and all(
        np.shape(a) == b.shape
        and np.abs(np.subtract(a, b, dtype=np.int16)).mean() < OTHER_GREY_LEVELS
        for a, b in zip(theirs, expected, strict=True)
    )


def measure(
    path: Path,
    stretches: Stretches,
    rounds: int,
    notes: dict[tuple[str, str], str],
    label: str,
    names: Sequence[str],
) -> tuple[Row, Row]:
    """Median ratios of the contestants `names`, of time and of CPU time; `ours` is in milliseconds.

    Contestants that cannot read the clip are left out; `notes` says why.
    """
    turns = {name: ContestantProcess(name) for name in names}
    try:
        for name in list(turns):
            first = turns[name].take(path, stretches, check=True)
            if message := first.error or first.note:
                notes[label, name] = message
            if first.error:
                turns.pop(name).close()
        if "ours" not in turns:
            return {}, {}
        results: dict[str, list[Reading]] = {name: [] for name in turns}
        rng = np.random.default_rng(0)
        for _ in range(rounds):
            for name in rng.permutation(list(turns)).tolist():
                results[name].append(turns[name].take(path, stretches))
    finally:
        for contestant in turns.values():
            contestant.close()
    ours_readings = results.pop("ours")
    wall: Row = {"ours": statistics.median(turn.seconds for turn in ours_readings) * 1e3}
    cpu: Row = {"ours": statistics.median(turn.cpu for turn in ours_readings) * 1e3}
    for name, theirs in results.items():
        if failed := next((turn.error for turn in theirs if turn.error), None):
            notes[label, name] = failed
            continue
        pairs = list(zip(theirs, ours_readings, strict=True))
        wall[name] = statistics.median(a.seconds / b.seconds for a, b in pairs)
        cpu[name] = statistics.median(a.cpu / b.cpu for a, b in pairs)
    return wall, cpu


def table(title: str, rows: dict[str, Row], notes: dict[tuple[str, str], str]) -> str:
    lines = [title, f"{'clip':28} {'ours ms':>8} " + " ".join(f"{n:>13}" for n in OTHERS)]
    for clip, row in rows.items():
        cells = [
            f"{row[name]:12.2f}{'*' if (clip, name) in notes else ' '}"
            if name in row
            else f"{'-':>12} "
            for name in OTHERS
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
        for name in DECODERS
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


def rows(
    folder: Path, given: list[Path], frames: int, *, long: bool, only: list[str]
) -> Iterator[tuple[str, Path, Stretches]]:
    """Yield the label, the file and the frames of each row."""
    if long:
        for name, make in RECORDINGS.items():
            if only and name not in only:
                continue
            path = make(folder / name)
            shown = probe(path, decode=False).shown_frames
            # Not to the very end: of a program stream torchcodec finds fewer frames than there are.
            spread = np.linspace(0, 0.98 * shown, frames).astype(int).tolist()
            yield name, path, [spread]
            if name == next(iter(RECORDINGS)):
                starts = np.linspace(0, 0.98 * shown - 120, 40).astype(int)
                clips = [np.linspace(at, at + 119, frames).astype(int).tolist() for at in starts]
                yield f"40 clips of {name}", path, clips
    made = [] if long else [make_clip(folder / f"1080p_gop{gop}.mp4", gop=gop) for gop in (12, 250)]
    for path in made + clips_in(given):
        try:
            shown = probe(path, decode=False).shown_frames
            indices = np.linspace(0, shown - 1, frames).astype(int).tolist()
            read(path, indices)
        except HeliographError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        yield path.name, path, [indices]


def main() -> None:
    global THREADS
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, nargs="*", help="further clips, or folders of clips")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0, help="of each decoder; 0: one per core")
    parser.add_argument("--long", action="store_true", help="long recordings, made here")
    parser.add_argument(
        "--only", nargs="+", default=[], choices=RECORDINGS, help="of --long, these"
    )
    arguments = parser.parse_args()
    THREADS = arguments.threads
    wall: dict[str, Row] = {}
    cpu: dict[str, Row] = {}
    notes: dict[tuple[str, str], str] = {}
    # The floor keeps all packets of a file, which a day has too many of.
    names = [name for name in CONTESTANTS if not (arguments.long and name.startswith("floor"))]
    with tempfile.TemporaryDirectory() as folder:
        given = arguments.clips, arguments.frames
        chosen = {"long": arguments.long, "only": arguments.only}
        for label, path, stretches in rows(Path(folder), *given, **chosen):
            row, cpu_row = measure(path, stretches, arguments.rounds, notes, label, names)
            if row:
                wall[label], cpu[label] = row, cpu_row
            print(f"measured {label}", file=sys.stderr, flush=True)
    with contextlib.suppress(BrokenPipeError):
        print(table(f"time, theirs / ours ({arguments.frames} frames)", wall, notes), end="\n\n")
        print(table("CPU time, theirs / ours", cpu, notes), end="\n\n")
        print("\n".join(targets(cpu if arguments.long else wall)), end="\n\n")
        print("\n".join(f"- {name} on {clip}: {why}" for (clip, name), why in notes.items()))


if __name__ == "__main__":
    main()
