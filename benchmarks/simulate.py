"""How fast clips are made: whole folders, x264 alone on finished frames, and where the time goes.

    python benchmarks/simulate.py [--clips 100] [--rounds 3]

First clips per second of `simulate` with one process per core, then the floor: the same processes
encode frames that were drawn beforehand; the best of the rounds counts, as other work on the
machine only ever slows. Then, in one process, the CPU time of each stage. Takes about a minute;
expect 700 to 1,100 frames/s on two cores, the ramp most.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from data.cores import available_cores
from data.simulate import SCENES, simulate
from data.simulate.rendering import background, encode, render
from data.simulate.rendering.appearance import Appearance, sample_appearance
from data.simulate.scenes.scene import Trial

FRAMES, FPS, SIZE = 48, 24.0, 256


def world_of(scene: str, number: int) -> tuple[Trial, Appearance]:
    """One clip's trial and appearance, of random properties."""
    rng = np.random.default_rng(number)
    made = SCENES[scene]
    values = [float(rng.choice(prop.levels(5))) for prop in made.properties]
    trial = made.simulate(*values, rng, FRAMES, FPS)
    kinds = 1 + max((prism.surface for prism in trial.prisms), default=-1)
    return trial, sample_appearance(rng, blocks=kinds, pucks=len(trial.pucks))


def encode_drawn(scene: str, clips: int, number: int) -> float:
    """Draws one clip, then encodes it `clips` times; returns the seconds that encoding took."""
    drawn = [
        copy.deepcopy(frame) for frame in render.render_frames(*world_of(scene, number), size=SIZE)
    ]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        for _ in range(clips):
            encode.encode_video(drawn, Path(folder) / "clip.mp4", fps=FPS, size=SIZE)
        return time.perf_counter() - began


def floor(scene: str, clips: int, cores: int) -> float:
    """Frames per second of all cores encoding finished frames."""
    share = max(1, clips // cores)
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        seconds = list(pool.map(encode_drawn, [scene] * cores, [share] * cores, range(cores)))
    return sum(share * FRAMES / each for each in seconds)


def whole(scene: str, clips: int, cores: int) -> float:
    """Frames per second of `simulate`, processes started anew."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        simulate(scene, Path(folder), grid=2, per_cell=clips // 4, workers=cores)
        return clips // 4 * 4 * FRAMES / (time.perf_counter() - began)


def stages(scene: str, clips: int = 12) -> dict[str, float]:
    """CPU milliseconds per clip of each stage, in this process."""
    spent: dict[str, float] = {}

    def timed(what: str, do: Callable[..., Any], *args: Any, **more: Any) -> Any:
        began = time.process_time()
        result = do(*args, **more)
        spent[what] = spent.get(what, 0.0) + 1e3 * (time.process_time() - began) / clips
        return result

    with tempfile.TemporaryDirectory() as folder:
        for number in range(clips + 1):
            if number == 1:
                spent.clear()  # the first clip warms up
            rng = np.random.default_rng(number)
            made = SCENES[scene]
            values = [float(rng.choice(prop.levels(5))) for prop in made.properties]
            trial = timed("physics", made.simulate, *values, rng, FRAMES, FPS)
            kinds = 1 + max((prism.surface for prism in trial.prisms), default=-1)
            appearance = timed(
                "appearance", sample_appearance, rng, blocks=kinds, pucks=len(trial.pucks)
            )
            camera = appearance.camera(trial.view, size=SIZE)
            timed("background", background.render_background, trial, appearance, camera)
            drawn = timed("background and frames", _draw, trial, appearance)
            path = Path(folder) / "clip.mp4"
            timed("conversion and x264", encode.encode_video, drawn, path, fps=FPS, size=SIZE)
    spent["frames"] = spent.pop("background and frames") - spent["background"]
    return spent


def _draw(trial: Trial, appearance: Appearance) -> list[Any]:
    return [copy.deepcopy(frame) for frame in render.render_frames(trial, appearance, size=SIZE)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    cores = available_cores()
    print(f"frames/s on {cores} cores, {FRAMES} frames of {SIZE} px a clip, {asked.clips} clips")
    for scene in SCENES:
        made, alone = 0.0, 0.0
        for _ in range(asked.rounds):
            made = max(made, whole(scene, asked.clips, cores))
            alone = max(alone, floor(scene, asked.clips, cores))
        print(f"  {scene:10} simulate {made:6.0f}   x264 alone {alone:6.0f}   {made / alone:.0%}")
    print("CPU ms per clip, one process")
    for scene in SCENES:
        parts = stages(scene)
        shown = "  ".join(f"{name} {ms:.1f}" for name, ms in parts.items())
        print(f"  {scene:10} {shown}  all {sum(parts.values()):.1f}")


if __name__ == "__main__":
    main()
