"""Making folders of clips: layout, manifest, determinism, refusals, real video."""

import errno
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from data.errors import InvalidValueError
from data.files import UnsafeFileError, WriteError
from data.lock import BusyError
from data.manifests import list_clips
from data.simulate import SCENES, SimulationError, rendering, simulate
from data.simulate.rendering.appearance import Appearance
from data.simulate.rendering.yuv import YuvFrame
from data.simulate.scenes import Trial

ROOT = Path(__file__).resolve().parents[3]

SMALL: dict[str, Any] = {
    "grid": 2,
    "per_cell": 1,
    "size": 64,
    "fps": 12,
    "seconds": 0.5,
    "workers": 1,
}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("scene", SCENES)
def test_layout_manifest_and_real_video(scene: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    manifest = simulate(scene, tmp_path, progress=lambda done, of: seen.append((done, of)), **SMALL)
    assert manifest == tmp_path / "manifest.jsonl"
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    clips = list_clips([manifest])
    first, second = SCENES[scene].properties
    cells = [f"{first.letter}{i}_{second.letter}{j}" for i in range(2) for j in range(2)]
    assert [clip.object for clip in clips] == cells
    assert [clip.id for clip in clips] == [f"{cell}/00.mp4" for cell in cells]
    for clip, cell in zip(clips, cells, strict=True):
        assert clip.scenario == scene
        assert list(clip.labels)[:2] == [first.label, second.label]
        for prop, level in ((first, int(cell[1])), (second, int(cell[4]))):
            assert clip.labels[prop.label] == pytest.approx((prop.low, prop.high)[level])
        with av.open(str(clip.path)) as container:
            stream = container.streams.video[0]
            frames = list(container.decode(stream))
        assert stream.codec_context.name == "h264"
        assert (stream.width, stream.height) == (64, 64)
        times = [frame.time for frame in frames]
        assert times == pytest.approx(np.arange(6) / 12)


def test_manifest_paths_survive_moving_the_folder(tmp_path: Path) -> None:
    simulate("fall", tmp_path / "a", **SMALL)
    (tmp_path / "a").rename(tmp_path / "b")
    assert all(clip.path.is_file() for clip in list_clips([tmp_path / "b" / "manifest.jsonl"]))


def test_same_arguments_give_the_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    simulate("ramp", tmp_path / "one", **SMALL)
    simulate("ramp", tmp_path / "two", **(SMALL | {"workers": 2}))
    simulate("ramp", tmp_path / "other", **(SMALL | {"seed": 1}))
    one, two, other = (contents(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one)


@pytest.mark.parametrize("scene", SCENES)
def test_nuisance_and_a_handheld_camera_change_the_looks_alone(
    scene: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracks: list[NDArray[np.float64]] = []
    looks: list[Appearance] = []
    draw = rendering.render_frames

    def watched(trial: Trial, appearance: Appearance, *, size: int) -> Iterator[YuvFrame]:
        tracks.append(trial.tracks)
        looks.append(appearance)
        return draw(trial, appearance, size=size)

    monkeypatch.setattr(rendering, "render_frames", watched)
    conditions: dict[str, dict[str, Any]] = {
        "": {},
        "nuisance4/": {"nuisance": 4},
        "handheld/": {"handheld": True},
        "nuisance4_handheld/": {"nuisance": 4, "handheld": True},
    }
    made, clips = {}, {}
    for condition, options in conditions.items():
        out = tmp_path / f"clips_{condition.strip('/')}"
        clips[condition] = list_clips([simulate(scene, out, **SMALL, **options)])
        made[condition] = [clip.path.read_bytes() for clip in clips[condition]]
        for clip, usual in zip(clips[condition], clips[""], strict=True):
            assert clip.id == f"{usual.object}/{condition}00.mp4"
            assert (clip.object, clip.scenario) == (usual.object, scene)
            np.testing.assert_equal(clip.labels, usual.labels)
    for index, track in enumerate(tracks):
        np.testing.assert_array_equal(track, tracks[index % 4])
    for (row, column), appearance in zip(np.ndindex(2, 2), looks, strict=False):  # as ever
        sequence = np.random.SeedSequence(0, spawn_key=(row, column, 0)).spawn(2)[1]
        blocks, pucks = len(appearance.blocks), len(appearance.pucks)
        usual_looks = rendering.sample_appearance(
            np.random.default_rng(sequence), blocks=blocks, pucks=pucks
        )
        assert repr(appearance) == repr(usual_looks)
    different = {content for contents_of in made.values() for content in contents_of}
    assert len(different) == 16


def test_the_looks_of_nuisance_follow_from_its_seed_and_that_of_the_clips(tmp_path: Path) -> None:
    made = [
        contents(
            simulate(
                "fall", tmp_path / f"{seed}_{nuisance}_{workers}", nuisance=nuisance, handheld=True,
                **(SMALL | {"seed": seed, "workers": workers}),
            ).parent
        )
        for seed, nuisance, workers in ((0, 1, 1), (0, 1, 2), (0, 2, 1), (1, 1, 1))
    ]  # fmt: skip
    assert made[0] == made[1]
    videos = [
        content for files in made[1:] for name, content in files.items() if name.endswith(".mp4")
    ]
    assert len(set(videos)) == len(videos) == 12


def test_more_clips_per_cell_keep_the_first_ones(tmp_path: Path) -> None:
    simulate("collision", tmp_path / "one", **SMALL)
    simulate("collision", tmp_path / "two", **(SMALL | {"per_cell": 2}))
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert all(one[name] == two[name] for name in one if name.endswith(".mp4"))
    assert len({two[name] for name in two}) == len(two)


def test_nothing_but_clips_and_the_manifest_is_left(tmp_path: Path) -> None:
    simulate("spring", tmp_path, **SMALL)
    names = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {".mp4", ".jsonl"}


def test_an_undefined_outcome_is_null_in_the_manifest(tmp_path: Path) -> None:
    manifest = simulate("ramp", tmp_path, **SMALL)  # half a second: no bounce yet
    line = json.loads(manifest.read_text().splitlines()[-1])
    assert line["labels"]["bounce_height_m"] is None
    assert math.isnan(list_clips([manifest])[-1].labels["bounce_height_m"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"scene": "ramps"},
            "no scene 'ramps': choose one of collision, fall, ramp, spring",
        ),
        ({"grid": 1}, "grid must be between 2 and 100 values per property, not 1"),
        ({"per_cell": 0}, "per_cell must be between 1 and 1,000,000 clips, not 0"),
        ({"size": 65}, "size must be an even number of pixels from 32 to 2048, not 65"),
        ({"size": -64}, "size must be an even number of pixels from 32 to 2048, not -64"),
        ({"fps": 0.0}, "fps must be between 1 and 240, not 0.0"),
        ({"fps": math.nan}, "fps must be between 1 and 240, not nan"),
        ({"seconds": 0.1}, "seconds must give at least two frames and be at most 60, not 0.1"),
        ({"seconds": math.inf}, "seconds must give at least two frames and be at most 60, not inf"),
        ({"seed": -1}, "seed must be between 0 and 18446744073709551615, not -1"),
        ({"nuisance": -1}, "nuisance must be between 0 and 18446744073709551615, not -1"),
        ({"workers": 0}, "workers must be at least 1, not 0"),
    ],
)
def test_wrong_arguments(change: dict[str, object], message: str, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"scene": "ramp", "out": tmp_path / "new", **SMALL} | change
    with pytest.raises(InvalidValueError) as caught:
        simulate(**arguments)
    assert str(caught.value) == message
    assert not (tmp_path / "new").exists()


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(SimulationError, match=r"already exists and is not an empty folder"):
        simulate("ramp", tmp_path, **SMALL)
    assert contents(tmp_path) == {"mine.txt": b"keep"}
    with pytest.raises(SimulationError, match=r"mine\.txt already exists"):
        simulate("ramp", tmp_path / "mine.txt", **SMALL)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SimulationError, match=r"file/new cannot be made: Not a directory"):
        simulate("ramp", tmp_path / "file" / "new", **SMALL)


def test_an_interrupted_run_takes_its_clips_away(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    for workers in (1, 2):
        out = tmp_path / str(workers)
        with pytest.raises(KeyboardInterrupt):
            simulate("ramp", out, progress=interrupt, **(SMALL | {"workers": workers}))
        assert not out.exists()
        out.mkdir()
        with pytest.raises(KeyboardInterrupt):
            simulate("ramp", out, progress=interrupt, **SMALL)
        assert list(out.iterdir()) == []
        assert simulate("ramp", out, **SMALL).is_file()


# Stops at the first clip, without ending: `kill` ends it.
STOPPED = """
import sys, time
from pathlib import Path
from data.simulate import simulate

def wait(done, total):
    print(done, flush=True)
    time.sleep(600)

if __name__ == "__main__":
    simulate("ramp", Path(sys.argv[1]), grid=3, per_cell=2, size=64, fps=12, seconds=0.5, workers=2,
             progress=wait)
"""


@contextmanager
def simulating(out: Path, script: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that makes clips in `out` and has made one; it stays until it is killed."""
    script.write_text(STOPPED)
    process = subprocess.Popen(
        [sys.executable, str(script), str(out)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert process.stdout.readline() == "1\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def in_session(session: int) -> list[int]:
    """Return the processes of a session, without those that have ended and were not waited for."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(status.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")
def test_a_killed_run_leaves_no_process_and_a_folder_for_the_next_one(
    tmp_path: Path,
) -> None:
    out = tmp_path / "clips"
    with simulating(out, tmp_path / "script.py") as process:
        with pytest.raises(BusyError, match=f"clips is being written by process {process.pid} on "):
            simulate("ramp", out, **SMALL)
        assert len(in_session(process.pid)) >= 3  # it, and two that make clips
        process.kill()
        process.wait()
        end = time.monotonic() + 300
        while in_session(process.pid):
            assert time.monotonic() < end
            time.sleep(0.02)
        assert process.stderr.read() == ""  # no warning of Python to its programmers
    assert (out / ".unfinished").exists()
    (out / "e0_f0" / ".00.mp4.1-00000000.tmp").touch()
    simulate("ramp", out, **SMALL)
    simulate("ramp", tmp_path / "untouched", **SMALL)
    assert contents(out) == contents(tmp_path / "untouched")


def test_what_a_killed_run_did_not_make_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".unfinished").touch()
    (tmp_path / "e0_f0").mkdir()
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(SimulationError, match=r"already exists and is not an empty folder"):
        simulate("ramp", tmp_path, **SMALL)
    assert sorted(os.listdir(tmp_path)) == [".unfinished", "e0_f0", "mine.txt"]
    (tmp_path / "mine.txt").unlink()
    (tmp_path / "e0_f0").rmdir()
    outside = tmp_path.with_name("outside")
    outside.mkdir()
    (outside / "00.mp4").write_text("a user's own")
    (tmp_path / "e0_f0").symlink_to(outside)  # planted
    simulate("ramp", tmp_path, **SMALL)
    assert contents(outside) == {"00.mp4": b"a user's own"}
    assert not (tmp_path / "e0_f0").is_symlink()


@pytest.mark.parametrize("kind", ["link", "FIFO", "hard link"])
def test_what_is_planted_at_the_name_of_its_lock_is_refused(tmp_path: Path, kind: str) -> None:
    out, victim = tmp_path / "clips", tmp_path / "victim"
    out.mkdir()
    victim.write_text("a user's own")
    if kind == "FIFO":
        os.mkfifo(out / ".unfinished")
    else:
        (os.symlink if kind == "link" else os.link)(victim, out / ".unfinished")
    with pytest.raises(UnsafeFileError, match=r"clips/\.unfinished is not written: it "):
        simulate("ramp", out, **SMALL)
    assert victim.read_text() == "a user's own"


def test_pictures_are_made_before_the_folder_counts_as_finished(tmp_path: Path) -> None:
    simulate("ramp", tmp_path, pictures=True, **SMALL)
    assert {"contact_sheet.png", "preview.webp", "manifest.jsonl"} < set(os.listdir(tmp_path))
    assert ".unfinished" not in os.listdir(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failing_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch, code) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises((WriteError, SimulationError), match=r"cannot be (written|made): "):
        simulate("ramp", tmp_path / "clips", **SMALL)
    monkeypatch.undo()
    assert not (tmp_path / "clips").exists() or contents(tmp_path / "clips") == {}
    simulate("ramp", tmp_path / "clips", **SMALL)


def test_importing_the_simulator_loads_no_torch() -> None:
    code = "import sys, data.simulate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_script_without_a_guard_is_not_run_again(tmp_path: Path) -> None:
    script = tmp_path / "made.py"
    script.write_text(
        "print('once')\n"
        "from data.simulate import simulate\n"
        "simulate('ramp', 'clips', grid=2, per_cell=1, size=32, fps=8, seconds=0.5, workers=2,\n"
        "         pictures=False)\n"
        "import __main__\n"
        "print(__main__.__file__)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    shown = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.split() == ["once", str(script)]
    assert len(list((tmp_path / "clips").rglob("*.mp4"))) == 4
