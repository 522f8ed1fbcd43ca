"""The colour tags of a video: code points of ITU-T H.273, by FFmpeg's names."""

from __future__ import annotations

UNTAGGED = "not tagged"
_MATRIX = {
    0: "rgb", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco",
    9: "bt2020nc", 10: "bt2020c", 14: "ictcp",
}  # fmt: skip
_PRIMARIES = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film", 9: "bt2020",
    11: "smpte431", 12: "smpte432",
}  # fmt: skip
_TRANSFER = {
    1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear",
    11: "iec61966-2-4", 13: "srgb", 14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084",
    18: "arib-std-b67",
}  # fmt: skip
_RANGE = {1: "limited", 2: "full"}
# Transfer functions of high dynamic range.
HDR = {"smpte2084": "PQ", "arib-std-b67": "HLG"}


def colour_tags(matrix: int, primaries: int, transfer: int, value_range: int) -> dict[str, str]:
    """Return the names of colour tags, given as FFmpeg's numbers."""

    def name(names: dict[int, str], number: int) -> str:
        return names.get(number, UNTAGGED if number in (0, 2, 3) else f"number {number}")

    return {
        "matrix": name(_MATRIX, matrix),
        "primaries": name(_PRIMARIES, primaries),
        "transfer": name(_TRANSFER, transfer),
        "range": name(_RANGE, value_range),
    }
