"""Physics 101 (Wu et al., BMVC 2016): its clips and the labels that the dataset has."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from data.clips import Clip
from data.datasets.dataset import Choice, Dataset, DatasetError, Measurement
from data.errors import InvalidValueError
from data.files import open_regular, walk
from data.tables import NoNumbers, read_numbers, refuse_alike, spelling

SCENARIOS = ("fall", "ramp", "spring")
CAMERAS = ("Camera_1", "Camera_2", "Kinect_RGB_1")
CONDITIONS = {"fall": ("surface",), "ramp": (), "spring": ()}
UNITS = {"mass": "g", "volume": "ml", "density": "g/ml"}
_NAMED = 5  # objects in a sentence
_LOG = logging.getLogger(__name__)

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

Conditions are in a clip's id between object and trial, e.g. fall/cardboard_01/foam/01: the
surface that an object falls onto, the set-up of the ramp. `--factors` makes them labels, numbered
by name; `--hold-out-by FACTOR` makes them what splits hold out, in place of the object.

What it has not: there are no numbers for friction or elasticity. The model card of the paper that
this project follows speaks of friction and elasticity on the ramp; the ramp of Physics 101 has
surfaces and inclines, and no measurement of either property. `--restitution` measures the bounce in
the clips of fall: an estimate from pixels, with a quality flag, of object and surface together.
"""


def index(root: Path | str, *, scenario: str = "spring", camera: str = "Camera_1") -> list[Clip]:
    """List the clips of one scenario, or of `"all"`, by object and then by path.

    Ids are paths relative to `root`. Objects of which the files of labels know nothing, or that
    are written in another way there, are named in the log.

    Raises:
        InvalidValueError: No scenario or camera has this name.
        ClipError: Two objects differ in spelling alone.
        DatasetError: The tree, its labels or the clips are missing; the message gives
            path and reason.
    """
    root = Path(root)
    if scenario not in (*SCENARIOS, "all"):
        raise InvalidValueError(
            f"no scenario {scenario!r}: choose one of {', '.join(SCENARIOS)}, all"
        )
    if camera not in CAMERAS:
        raise InvalidValueError(f"no camera {camera!r}: choose one of {', '.join(CAMERAS)}")
    if not (root / "scenarios").is_dir():
        lacks = "has no folder scenarios" if root.is_dir() else "is no folder"
        raise DatasetError(
            f"{root} {lacks}, and so is not a Physics 101 tree: `heliograph index physics101 "
            "--describe` says how one is laid out"
        )
    files = [root / "objects" / name for name in ("mass", "vol")]
    tables = [_read_labels(path) for path in files]
    wanted = [scenario] if scenario != "all" else list(SCENARIOS)
    videos: list[tuple[str, str, Path]] = []  # scenario, object, file
    for name in wanted:
        folder = root / "scenarios" / name
        if not folder.is_dir():
            if scenario == "all":
                continue
            raise DatasetError(f"{root} has no scenario {name}: {folder} is not a folder")
        for path in _videos(folder, f"{camera}.mp4"):
            videos.append((name, path.relative_to(folder).parts[0], path))
    if not videos:
        raise DatasetError(f"{root} has no {camera}.mp4 of scenario {scenario}")
    refuse_alike("object", ((name, str(path)) for _, name, path in videos))
    objects = sorted({name for _, name, _ in videos})
    mass, volume = (
        _of_objects(path, table, objects) for path, table in zip(files, tables, strict=True)
    )
    return [
        Clip(
            id=path.relative_to(root).as_posix(),
            path=path,
            object=name,
            scenario=of_scenario,
            labels={
                "mass": mass[name],
                "volume": volume[name],
                "density": mass[name] / volume[name],
            },
            units=UNITS,
        )
        for of_scenario, name, path in videos
    ]


def _of_objects(path: Path, table: Mapping[str, float], objects: Sequence[str]) -> dict[str, float]:
    """Return the value of each object, NaN where unknown, and say which lines do not fit."""
    lines: dict[str, list[str]] = {}
    for name in table:
        lines.setdefault(spelling(name), []).append(name)
    line_of: dict[str, str] = {}
    for name in objects:
        alike = lines.get(spelling(name), [])
        if name in table:
            line_of[name] = name
        elif len(alike) == 1:
            line_of[name] = alike[0]
    if respelled := [f"{line!r} for {name!r}" for name, line in line_of.items() if name != line]:
        _LOG.warning("%s: read %s", path, _some(respelled))
    if without := [name for name in objects if name not in line_of]:
        folders = {entry.name for entry in (path.parents[1] / "scenarios").glob("*/*")}
        others = [name for name in table if name not in line_of.values() and name not in folders]
        extra = (
            f"; no folder has the name of its lines {_some(map(repr, others))}" if others else ""
        )
        _LOG.warning("%s has no line for the objects %s%s", path, _some(map(repr, without)), extra)
    values = {name: table[line] for name, line in line_of.items()}
    return {
        name: values[name] if 0 < values.get(name, math.nan) < math.inf else math.nan
        for name in objects
    }


def _some(names: Iterable[str]) -> str:
    """Return names with commas, the first of many."""
    shown = list(names)
    more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    return ", ".join(shown[:_NAMED]) + more


def conditions(clip_id: str) -> dict[str, str]:
    """Return the conditions in a clip's id, name -> value.

    >>> conditions("scenarios/fall/cardboard_01/foam/02/Camera_1.mp4")
    {'surface': 'foam'}

    Raises:
        DatasetError: It is not the id of a clip of Physics 101.
    """
    parts = PurePosixPath(clip_id).parts
    if len(parts) < 5 or parts[0] != "scenarios":
        raise DatasetError(f"{clip_id} is not the id of a clip of Physics 101")
    _, scenario, _, *values, _, _ = parts
    names = CONDITIONS.get(scenario, ())
    return {
        names[level] if level < len(names) else f"condition_{level + 1}": value
        for level, value in enumerate(values)
    }


def _measure_restitution(
    clips: Sequence[Clip],
    *,
    show: Callable[[str, bytes], None] | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[Clip], dict[str, str]]:
    from data.datasets.restitution import label

    labelled, falls = label(clips, show=show, progress=progress)
    return labelled, {clip_id: fall.quality for clip_id, fall in falls.items()}


def _videos(folder: Path, name: str) -> Iterator[Path]:
    """Return the files of this name below the objects of a scenario, sorted by parts of paths."""
    videos = [
        parent / name
        for parent, names in walk(folder)
        if name in names and len(parent.relative_to(folder).parts) >= 2
    ]
    return iter(sorted(videos, key=lambda path: path.relative_to(folder).parts))


def _read_labels(path: Path) -> dict[str, float]:
    """Read object -> number from lines "name value", NaN where unknown; names may have blanks."""
    try:
        with open_regular(path, follow_links=True) as file:
            lines = file.read().decode("utf-8-sig").splitlines()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not text: {error.reason}") from error
    rows = [(number, line.rsplit(None, 1)) for number, line in enumerate(lines, 1) if line.strip()]
    for number, parts in rows:
        if len(parts) != 2:
            raise DatasetError(f"{path}, line {number}: not 'name value': {lines[number - 1]!r}")
    if not rows:
        return {}
    numbers = read_numbers([parts[1] for _, parts in rows])
    if isinstance(numbers, NoNumbers) and numbers.row is not None:
        number = rows[numbers.row][0]
        raise DatasetError(
            f"{path}, line {number}: not 'name value': {lines[number - 1]!r} ({numbers.reason})"
        )
    known = [math.nan] * len(rows) if isinstance(numbers, NoNumbers) else numbers.values
    values: dict[str, float] = {}
    for (number, parts), value in zip(rows, known, strict=True):
        name = parts[0].strip()
        if name in values and values[name] != value:
            raise DatasetError(
                f"{path}, line {number}: {name} is {value:g} here and {values[name]:g} above"
            )
        values[name] = value
    return values


DATASET = Dataset(
    name="physics101",
    summary="""List the clips of MIT Physics 101 under ROOT.

    Their labels are the mass, volume and density of the object.
    """,
    description=DESCRIPTION,
    index=index,
    choices=(
        Choice(
            name="scenario",
            values=(*SCENARIOS, "all"),
            default="all",
            help="spring, fall, ramp or all.",
        ),
        Choice(
            name="camera",
            values=CAMERAS,
            default="Camera_1",
            help="Camera_1, Camera_2 or Kinect_RGB_1.",
        ),
    ),
    units=UNITS,
    tie_margins={"mass": 0.5},  # the paper leaves out pairs of 0.5 g or less
    conditions=conditions,
    conditions_help="Surfaces and other conditions as labels, too.",
    measurements=(
        Measurement(
            label="restitution",
            scenario="fall",
            help="The bounce in clips of fall as a label, too.",
            measure=_measure_restitution,
        ),
    ),
)
