"""Scenes with known physics, rendered to real video files.

    from data.simulate import simulate
    manifest = simulate("ramp", Path("clips"), grid=5, per_cell=12)

A scene has two hidden properties; each takes `grid` values, and every pair of values is a *cell*
with `per_cell` clips. A clip's `object` is its cell (`e2_f3`), so that splits by object hold out
whole cells.

While clips are made, the folder holds the file `.unfinished`, whose lock the process has. Where a
process was killed the file is left, and the next one starts anew in that folder.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process, resource_tracker
from pathlib import Path

from data.clips import Clip
from data.cores import available_cores
from data.errors import HeliographError, InvalidValueError
from data.files import WriteError, make_folder, sweep_temporaries, sync_folder, write_error
from data.lock import Lock
from data.manifests import write_manifest
from data.processes import end_with_parent
from data.simulate import rendering
from data.simulate.scenes import SCENES

CONTACT_SHEET, PREVIEW, UNFINISHED = "contact_sheet.png", "preview.webp", ".unfinished"
MOST_SEEDS = 2**64
MOST_PER_CELL = 1_000_000
NUISANCE_KEY = 3  # the sequence of a clip spawns 0 to 2: physics, appearance, sway
_MADE = re.compile(r"[a-z][0-9]+_[a-z][0-9]+|manifest\.jsonl|contact_sheet\.png|preview\.webp")


class SimulationError(HeliographError):
    """A scene that cannot be made as asked."""


@dataclass(frozen=True, kw_only=True)
class _ClipJob:
    """One clip to make; picklable, and complete."""

    scene: str
    cell: tuple[int, int]
    trial: int
    path: Path
    grid: int
    size: int
    fps: float
    frames: int
    seed: int
    nuisance: int | None
    handheld: bool


def simulate(
    scene: str, out: Path, *, grid: int = 5, per_cell: int = 12, size: int = 256, fps: float = 24,
    seconds: float = 2.0, seed: int = 0, nuisance: int | None = None, handheld: bool = False,
    workers: int | None = None, progress: Callable[[int, int], None] | None = None,
    pictures: bool = False, log: Callable[[str], None] | None = None,
) -> Path:  # fmt: skip
    """Make `grid` x `grid` x `per_cell` clips of a scene under `out`; return the manifest's path.

    The clips are `out/<cell>/<trial>.mp4` (H.264, `size` x `size` pixels); `out/manifest.jsonl` is
    written last. Labels are the two properties in physical units, and the outcomes. The same
    arguments give the same bytes for any `workers` (processes; default: one per core).
    `progress(done, total)` is called in this process after each clip, and `log` with what is worth
    a line. With `pictures` there are
    also `out/contact_sheet.png` and `out/preview.webp`. A run that fails or is interrupted removes
    its clips again; what a killed one left is replaced.

    With `nuisance`, a seed, clips have other textures, colours, lights and places of the camera
    than any clip without it; with `handheld` the camera sways as in a hand. Labels and tracks stay
    those of the same `seed`. Such clips are `out/<cell>/<condition>/<trial>.mp4`; the condition is
    `nuisance<seed>`, `handheld`, or both joined by `_`.

    Raises:
        InvalidValueError: A name or number is wrong.
        SimulationError: The folder already holds something, or cannot be made.
        BusyError: Another process makes clips in it.
        WriteError: The disk is full or not writable.
    """
    out = Path(out)
    jobs = list(_jobs(scene, out, grid, per_cell, size, fps, seconds, seed, nuisance, handheld))
    if workers is not None and workers < 1:
        raise InvalidValueError(f"workers must be at least 1, not {workers}")
    manifest = out / "manifest.jsonl"
    labels: dict[Path, dict[str, float]] = {}
    with _folders(out, {job.path.parent for job in jobs}, log or (lambda _: None)):
        for job, labels_of_clip in _make_clips(jobs, workers or available_cores()):
            labels[job.path] = labels_of_clip
            if progress is not None:
                progress(len(labels), len(jobs))
        clips = [
            Clip(
                id=job.path.relative_to(out).as_posix(), path=job.path,
                object=_cell_name(scene, job.cell), scenario=scene, labels=labels[job.path],
            )
            for job in jobs
        ]  # fmt: skip
        write_manifest(clips, manifest)
        if pictures:
            rendering.contact_sheet(manifest, out / CONTACT_SHEET)
            rendering.preview(manifest, out / PREVIEW)
    return manifest


def _jobs(
    scene: str, out: Path, grid: int, per_cell: int, size: int, fps: float, seconds: float,
    seed: int, nuisance: int | None, handheld: bool,
) -> Iterator[_ClipJob]:  # fmt: skip
    if scene not in SCENES:
        raise InvalidValueError(f"no scene {scene!r}: choose one of {', '.join(SCENES)}")
    if not 2 <= grid <= 100:
        raise InvalidValueError(f"grid must be between 2 and 100 values per property, not {grid}")
    if not 1 <= per_cell <= MOST_PER_CELL:
        raise InvalidValueError(
            f"per_cell must be between 1 and {MOST_PER_CELL:,} clips, not {per_cell}"
        )
    if size < 32 or size > 2048 or size % 2:
        raise InvalidValueError(
            f"size must be an even number of pixels from 32 to 2048, not {size}"
        )
    if not 1 <= fps <= 240:
        raise InvalidValueError(f"fps must be between 1 and 240, not {fps}")
    if not (math.isfinite(seconds) and seconds * fps >= 2 and seconds <= 60):
        raise InvalidValueError(
            f"seconds must give at least two frames and be at most 60, not {seconds}"
        )
    if not 0 <= seed < MOST_SEEDS:
        raise InvalidValueError(f"seed must be between 0 and {MOST_SEEDS - 1}, not {seed}")
    if nuisance is not None and not 0 <= nuisance < MOST_SEEDS:
        raise InvalidValueError(f"nuisance must be between 0 and {MOST_SEEDS - 1}, not {nuisance}")
    digits = max(2, len(str(per_cell - 1)))
    looks = [] if nuisance is None else [f"nuisance{nuisance}"]
    condition = "_".join(looks + ["handheld"] * handheld)
    for i in range(grid):
        for j in range(grid):
            for trial in range(per_cell):
                folder = out / _cell_name(scene, (i, j)) / condition
                yield _ClipJob(
                    scene=scene, cell=(i, j), trial=trial,
                    path=folder / f"{trial:0{digits}d}.mp4", grid=grid, size=size, fps=fps,
                    frames=round(seconds * fps), seed=seed, nuisance=nuisance, handheld=handheld,
                )  # fmt: skip


def _cell_name(scene: str, cell: tuple[int, int]) -> str:
    """Return the name of a cell: the letter and level of each property."""
    properties = zip(SCENES[scene].properties, cell, strict=True)
    return "_".join(f"{prop.letter}{level}" for prop, level in properties)


@contextmanager
def _folders(out: Path, folders: set[Path], log: Callable[[str], None]) -> Iterator[None]:
    """Make folders below `out`; if the block fails, remove all that it made there."""
    kept = out.is_dir()
    _refuse_used(out)
    try:
        make_folder(out)
    except WriteError as error:
        reason = getattr(error.__cause__, "strerror", error)
        raise SimulationError(f"{out} cannot be made: {reason}") from error
    lock = Lock(out / UNFINISHED, out, keep_folder=kept)
    try:
        _refuse_used(out)  # perhaps another process has just finished
        if _remove_made(out):
            log(f"{out}: the clips that an unfinished run left are removed, and all made anew")
        try:
            for folder in folders:
                folder.mkdir(parents=True)
            sync_folder(out)
            yield
            # Were the mark to stay, the next run would take the clips for those of a killed one.
            (out / UNFINISHED).unlink(missing_ok=True)
        except BaseException as error:
            _remove_made(out)
            if isinstance(error, BrokenProcessPool):
                raise SimulationError(
                    f"{out}: a process that made clips died; is there too little memory?"
                ) from error
            if isinstance(error, OSError):
                raise write_error(out, error) from error
            raise
    finally:
        lock.release()


def _refuse_used(out: Path) -> None:
    """Raise `SimulationError` for a folder with anything but what a killed run left."""
    if not os.path.lexists(out):
        return
    if out.is_dir():
        sweep_temporaries(out)
        names = set(os.listdir(out))
        if UNFINISHED in names:
            names = {name for name in names if name != UNFINISHED and not _MADE.fullmatch(name)}
        if not names:
            return
    raise SimulationError(f"{out} already exists and is not an empty folder; name another")


def _remove_made(out: Path) -> bool:
    """Remove what this module makes in a folder; return whether there was something."""
    made = [path for path in out.iterdir() if _MADE.fullmatch(path.name)]
    for path in made:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return bool(made)


def _make_clips(jobs: list[_ClipJob], workers: int) -> Iterator[tuple[_ClipJob, dict[str, float]]]:
    """Make the clips in processes, and yield each as it is done, with its labels."""
    if workers == 1 or len(jobs) == 1:
        for job in jobs:
            yield job, _make_clip(job)
        return
    _start_tracker()
    pool_of_processes = ProcessPoolExecutor(
        min(workers, len(jobs)), mp_context=get_context("spawn"), initializer=_end_with_parent
    )
    with pool_of_processes as pool:
        with _main_hidden():
            jobs_by_future = {pool.submit(_make_clip, job): job for job in jobs}
        try:
            for future in as_completed(jobs_by_future):
                yield jobs_by_future[future], future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Have processes start without the script that called this, which they do not need.

    A script that does not guard its calls by `__name__ == "__main__"` would run again in each.
    """
    main = sys.modules["__main__"]
    names = ("__file__", "__spec__")
    before = {name: vars(main)[name] for name in names if name in vars(main)}
    vars(main).update(dict.fromkeys(names))
    try:
        yield
    finally:
        for name in names:
            del vars(main)[name]
        vars(main).update(before)


def _start_tracker() -> None:
    """Start the process of Python that frees what a killed process has left, without its words.

    It frees the semaphores of a pool in any case; what it would print is a warning to programmers.
    """
    name, ignored = "PYTHONWARNINGS", "ignore:resource_tracker"
    before = os.environ.get(name)
    os.environ[name] = ignored if before is None else f"{before},{ignored}"
    try:
        resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _end_with_parent() -> None:
    """In a process that makes clips: end when the process that started it is killed."""
    parent = parent_process()
    assert parent is not None
    end_with_parent(parent.sentinel)


def _make_clip(job: _ClipJob) -> dict[str, float]:
    """Simulate, render and encode one clip; return its labels."""
    import numpy as np

    scene = SCENES[job.scene]
    key = (*job.cell, job.trial)
    sequence = np.random.SeedSequence(job.seed, spawn_key=key)
    physics_rng, appearance_rng, sway_rng = map(np.random.default_rng, sequence.spawn(3))
    first, second = (
        float(prop.levels(job.grid)[index])
        for prop, index in zip(scene.properties, job.cell, strict=True)
    )
    trial = scene.simulate(first, second, physics_rng, job.frames, job.fps)
    blocks = 1 + max((prism.surface for prism in trial.prisms), default=-1)
    sample = rendering.sample_appearance
    if job.nuisance is not None:
        sample = rendering.sample_nuisance
        looks = np.random.SeedSequence(job.seed, spawn_key=(*key, NUISANCE_KEY, job.nuisance))
        appearance_rng = np.random.default_rng(looks)
    appearance = sample(appearance_rng, blocks=blocks, pucks=len(trial.pucks))
    if job.handheld:
        sway = rendering.sample_sway(sway_rng, job.frames, job.fps)
        appearance = replace(appearance, sway=sway)
    frames = rendering.render_frames(trial, appearance, size=job.size)
    rendering.encode_video(frames, job.path, fps=job.fps, size=job.size)
    return dict(trial.labels)
