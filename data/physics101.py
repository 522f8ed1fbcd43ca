"""Clips of a Physics 101 tree (Wu et al., BMVC 2016), with the labels that the dataset has."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from data.clips import Clip
from data.errors import HeliographError

SCENARIOS = ("fall", "ramp", "spring")
CAMERAS = ("Camera_1", "Camera_2", "Kinect_RGB_1")
FACTORS = {"fall": ("surface",), "ramp": (), "spring": ()}

DESCRIPTION = """\
Physics 101 (Wu, Lim, Zhang, Tenenbaum, Freeman: "Physics 101: Learning Physical Object Properties
from Unlabeled Videos", BMVC 2016): 17,408 clips of 101 real objects that hang from a spring, fall
onto surfaces, or slide down a ramp, each trial filmed by several cameras.

Get it from http://phys101.csail.mit.edu and unpack it, so that ROOT holds

    objects/mass                 "name grams", one object a line
    objects/vol                  "name millilitres", one object a line
    scenarios/<scenario>/<object>/<condition...>/<trial>/Camera_1.mp4

The index gives each clip the labels mass (grams), volume (millilitres) and density (grams per
millilitre), NaN where the dataset does not know, and its object, by which clips are to be split.

Physics 101 has no numbers for friction or elasticity. What it has are conditions: the surface that
an object falls onto, the set-up of the ramp. They stand in a clip's id, between object and trial;
they name what varied, they are not measurements of it.
"""


class Physics101Error(HeliographError):
    """A tree that is not laid out as Physics 101 is."""


def index(root: Path | str, *, scenario: str = "spring", camera: str = "Camera_1") -> list[Clip]:
    """The clips of one scenario, or of `"all"`, by object and then by path.

    Ids are paths relative to `root`. Raises `Physics101Error` with the path and the reason when the
    tree, its labels, the scenario or the camera is not there.
    """
    root = Path(root)
    if scenario not in (*SCENARIOS, "all"):
        raise Physics101Error(
            f"there is no scenario {scenario!r}; there is {', '.join(SCENARIOS)} and all"
        )
    if camera not in CAMERAS:
        raise Physics101Error(f"there is no camera {camera!r}; there is {', '.join(CAMERAS)}")
    if not (root / "scenarios").is_dir():
        raise Physics101Error(f"{root} has no folder scenarios, and so is not a Physics 101 tree")
    mass, volume = (_read_labels(root / "objects" / name) for name in ("mass", "vol"))
    wanted = [scenario] if scenario != "all" else list(SCENARIOS)
    clips = []
    for name in wanted:
        folder = root / "scenarios" / name
        if scenario != "all" and not folder.is_dir():
            raise Physics101Error(f"{root} has no scenario {name}: {folder} is not a folder")
        for path in _videos(folder, f"{camera}.mp4"):
            thing = path.relative_to(folder).parts[0]
            grams, millilitres = mass.get(thing, math.nan), volume.get(thing, math.nan)
            labels = {"mass": grams, "volume": millilitres, "density": grams / millilitres}
            clips.append(
                Clip(
                    id=path.relative_to(root).as_posix(),
                    path=path,
                    object=thing,
                    scenario=name,
                    labels=labels,
                )
            )
    if not clips:
        raise Physics101Error(f"{root} has no {camera}.mp4 of scenario {scenario}")
    return clips


def factors(clip_id: str) -> dict[str, str]:
    """What a clip's id says about its circumstances, as names and not as numbers.

    >>> factors("scenarios/fall/cardboard_01/foam/02/Camera_1.mp4")
    {'surface': 'foam', 'trial': '02'}
    """
    parts = PurePosixPath(clip_id).parts
    if len(parts) < 5 or parts[0] != "scenarios":
        raise Physics101Error(f"{clip_id} is not the id of a clip of Physics 101")
    _, scenario, _, *conditions, trial, _ = parts
    names = FACTORS.get(scenario, ())
    named = {
        names[level] if level < len(names) else f"condition_{level + 1}": value
        for level, value in enumerate(conditions)
    }
    return {**named, "trial": trial}


def unknown(clips: Sequence[Clip]) -> dict[str, int]:
    """Label -> number of clips for which it is not known."""
    names = dict.fromkeys(name for clip in clips for name in clip.labels)
    return {
        name: sum(math.isnan(clip.labels.get(name, math.nan)) for clip in clips) for name in names
    }


def _videos(folder: Path, name: str) -> Iterator[Path]:
    """Files of this name below the objects of a scenario, in the order of their paths' parts."""
    found = [
        Path(parent, name)
        for parent, _, names in os.walk(folder)
        if name in names and len(Path(parent).relative_to(folder).parts) >= 2
    ]
    return iter(sorted(found, key=lambda path: path.relative_to(folder).parts))


def _read_labels(path: Path) -> dict[str, float]:
    """Object -> number, from lines "name value"; a value that is not positive is unknown."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise Physics101Error(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Physics101Error(f"{path} is not text: {error.reason}") from error
    values: dict[str, float] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            name, text = line.split()
            value = float(text)
        except ValueError as error:
            raise Physics101Error(f"{path}, line {number}: not 'name value': {line!r}") from error
        if values.setdefault(name, value) != value:
            raise Physics101Error(
                f"{path}, line {number}: {name} is {value:g} here and {values[name]:g} above"
            )
    return {name: value for name, value in values.items() if 0 < value < math.inf}
