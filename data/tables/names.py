"""Names of columns: which role each has, and the unit that stands in it."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

ROLES = ("path", "id", "object", "scenario", "start", "end")

_NEAR_NAMES = {
    "path": "path paths file files filename filepath video videos videofile videopath "
    "videofilename clippath clipfile clipfilename moviefile",
    "id": "id ids clip clipid clipname clipids videoid identifier",
    "object": "object objects obj objectid objectname objid objname objectids objectnames",
    "scenario": "scenario scenarios scenarioname scenarioid",
    "start": "start starts startsec startsecs startsecond startseconds starttime starttimes tstart "
    "begin begins begintime tbegin onset clipstart segmentstart",
    "end": "end ends endsec endsecs endsecond endseconds endtime endtimes tend stop stops stoptime "
    "tstop clipend segmentend",
}
_ROLE_OF = {name: role for role, names in _NEAR_NAMES.items() for name in names.split()}
_NO_SECONDS = {
    f"{when}{unit}": when
    for when in ("start", "end", "begin", "stop")
    for unit in ("ms", "msec", "millis", "milliseconds", "us", "ns", "min", "minutes", "frame")
} | {f"frame{when}": when for when in ("start", "end")}
_SECONDS = frozenset(("", "s", "sec", "secs", "second", "seconds"))
_INDEX_NAMES = re.compile(r"unnamed: ?[0-9]+|index|level_0|__index_level_0__", re.IGNORECASE)
_BRACKETS = re.compile(
    r"(?P<name>.*\S)\s*(?:\[(?P<square>[^\][]{1,16})\]|\((?P<round>[^()]{1,16})\))"
)
_ROUND_UNITS = frozenset(
    "g kg mg µg t lb oz m dm cm mm km µm um in ft s ms µs us min h ml cl dl l µl m2 m3 cm2 cm3 "
    "mm3 m^2 m^3 cm^2 cm^3 m² m³ cm² cm³ n kn mn pa kpa mpa gpa hz khz deg ° rad % ‰ v mv a ma "
    "w j k c °c m/s cm/s mm/s km/h m/s2 m/s^2 m/s² n/m n/mm g/ml g/cm3 g/cm^3 g/cm³ kg/m3 "
    "kg/m^3 kg/m³ rad/s deg/s ns/m kg/s px pixel pixels frames fps".casefold().split()
)


def split_unit(name: str) -> tuple[str, str]:
    """Return the name of a column without blanks around it, and the unit in it.

    Anything in square brackets at the end is a unit; in round ones only units of the field are.

    >>> split_unit(" mass [g]")
    ('mass', 'g')
    >>> split_unit("gap (left)")
    ('gap (left)', '')
    """
    name = name.strip()
    match = _BRACKETS.fullmatch(name)
    if match is None:
        return name, ""
    if match["square"]:
        return match["name"], match["square"].strip()
    unit = match["round"].strip()
    return (match["name"], unit) if unit.casefold() in _ROUND_UNITS else (name, "")


def role_of(name: str) -> str | None:
    """Return the role of a column by its name or near-name; None for a label.

    >>> role_of("Object ID"), role_of("t_start"), role_of("mass")
    ('object', 'start', None)
    """
    return _ROLE_OF.get(_letters(name)) or _ROLE_OF.get(_letters(split_unit(name)[0]))


def time_without_seconds(name: str) -> str | None:
    """Return `start` or `end` for a column that says so in another unit; else None.

    >>> time_without_seconds("start_ms"), time_without_seconds("Start [ms]")
    ('start', 'start')
    """
    plain, unit = split_unit(name)
    role = role_of(plain)
    if role in ("start", "end") and unit.casefold() not in _SECONDS:
        return role
    when = _NO_SECONDS.get(_letters(plain))
    return None if when is None else {"begin": "start", "stop": "end"}.get(when, when)


def is_seconds(unit: str) -> bool:
    """Return whether a unit is that of seconds, or none is given."""
    return unit.casefold() in _SECONDS


def is_row_number(name: str, cells: Sequence[Any]) -> bool:
    """Return whether a column only counts the rows, as pandas writes its index."""
    if name.strip() and not _INDEX_NAMES.fullmatch(name.strip()):
        return False
    numbers = [str(cell).strip() for cell in cells]
    return any(
        numbers == [str(number) for number in range(first, first + len(numbers))]
        for first in (0, 1)
    )


def _letters(name: str) -> str:
    """Return a name in small letters, without blanks and the marks between its words."""
    return re.sub(r"[\s_.\-]+", "", unicodedata.normalize("NFKC", name)).casefold()
