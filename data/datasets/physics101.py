"""Clips of a Physics 101 tree (Wu et al., BMVC 2016), with the labels that the dataset has."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from data.clips import Clip
from data.errors import HeliographError
from data.files import walk

SCENARIOS = ("fall", "ramp", "spring")
CAMERAS = ("Camera_1", "Camera_2", "Kinect_RGB_1")
FACTORS = {"fall": ("surface",), "ramp": (), "spring": ()}

DESCRIPTION = """\
Physics 101 (Wu, Lim, Zhang, Tenenbaum, Freeman: "Physics 101: Learning Physical Object Properties
from Unlabeled Videos", BMVC 2016): real objects that hang from a spring, fall onto surfaces, or
slide down a ramp, each trial filmed by several cameras.

Size: 17,408 clips of 101 objects of 15 materials. Through Camera_1 alone these are 206 trials of
spring (26 objects; the paper's main experiment), 666 of fall and some 1,800 of ramp.

Where: http://phys101.csail.mit.edu, a large download; unpack it as below. Spring alone will do.

Licence: we know of none that the authors state. Cite their paper, and ask them before you pass on
the videos, or pictures that show them.

Layout, as `heliograph index physics101 ROOT` reads it:

    objects/mass                 "name grams", one object a line
    objects/vol                  "name millilitres", one object a line
    scenarios/<scenario>/<object>/<condition...>/<trial>/Camera_1.mp4
                                 also Camera_2.mp4, Kinect_RGB_1.mp4; scenarios: fall, ramp, spring

Labels: mass (grams), volume (millilitres) and density (grams per millilitre) of a clip's object,
NaN where the dataset does not know them. Split by object: several trials show the same one.

Conditions stand in a clip's id between object and trial, e.g. fall/cardboard_01/foam/01: the
surface that an object falls onto, the set-up of the ramp. `--factors` makes them labels, numbered
by name; `--hold-out-by FACTOR` makes them what splits hold out, in place of the object.

What it has not: there are no numbers for friction or elasticity. The model card of the paper that
this project follows speaks of friction and elasticity on the ramp; the ramp of Physics 101 has
surfaces and inclines, and no measurement of either property. `--restitution` measures the bounce in
the clips of fall: an estimate from pixels, with a quality flag, of object and surface together.
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
        if not folder.is_dir():
            if scenario == "all":
                continue
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


def with_factors(clips: Sequence[Clip]) -> tuple[list[Clip], dict[str, dict[str, float]]]:
    """The clips with their conditions as further labels, and what the numbers stand for.

    A factor whose values are all numbers keeps them; the names of any other are numbered from 0 in
    alphabetical order. A clip without a factor that others have gets NaN. The trial is no factor.
    Raises `Physics101Error` where a factor has the name of a label.
    """
    found = [_conditions(clip) for clip in clips]
    values: dict[str, set[str]] = {}
    for own in found:
        for name, value in own.items():
            values.setdefault(name, set()).add(value)
    codes = {name: _codes(sorted(own)) for name, own in values.items()}
    labelled = []
    for clip, own in zip(clips, found, strict=True):
        if taken := [name for name in codes if name in clip.labels]:
            raise Physics101Error(f"{clip.id} has a label {taken[0]} already")
        more = {name: codes[name][own[name]] if name in own else math.nan for name in codes}
        labelled.append(replace(clip, labels={**clip.labels, **more}))
    return labelled, codes


def held_out_by(clips: Sequence[Clip], factor: str) -> list[Clip]:
    """The clips with a factor's value in place of the object, so that splits hold it out.

    Raises `Physics101Error` where a clip does not have the factor.
    """
    regrouped = []
    for clip in clips:
        own = _conditions(clip)
        if factor not in own:
            known = ", ".join(own) or "none"
            raise Physics101Error(f"{clip.id} has no factor {factor!r}; its factors are {known}")
        regrouped.append(replace(clip, object=f"{factor}={own[factor]}"))
    return regrouped


def _conditions(clip: Clip) -> dict[str, str]:
    return {name: value for name, value in factors(clip.id).items() if name != "trial"}


def _codes(values: Sequence[str]) -> dict[str, float]:
    try:
        numbers = {value: float(value) for value in values}
    except ValueError:
        return {value: float(number) for number, value in enumerate(values)}
    if not all(map(math.isfinite, numbers.values())):
        return {value: float(number) for number, value in enumerate(values)}
    return numbers


def unknown(clips: Sequence[Clip]) -> dict[str, int]:
    """Label -> number of clips for which it is not known."""
    names = dict.fromkeys(name for clip in clips for name in clip.labels)
    return {
        name: sum(math.isnan(clip.labels.get(name, math.nan)) for clip in clips) for name in names
    }


def _videos(folder: Path, name: str) -> Iterator[Path]:
    """Files of this name below the objects of a scenario, in the order of their paths' parts."""
    found = [
        parent / name
        for parent, names in walk(folder)
        if name in names and len(parent.relative_to(folder).parts) >= 2
    ]
    return iter(sorted(found, key=lambda path: path.relative_to(folder).parts))


def _read_labels(path: Path) -> dict[str, float]:
    """Object -> number, from lines "name value"; a value that is not positive is unknown."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
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
        if name in values and values[name] != value:
            raise Physics101Error(
                f"{path}, line {number}: {name} is {value:g} here and {values[name]:g} above"
            )
        values[name] = value
    return {name: value for name, value in values.items() if 0 < value < math.inf}
