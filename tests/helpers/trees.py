"""Folders laid out as datasets are, without video in their files."""

from pathlib import Path


def make_physics101_tree(root: Path) -> Path:
    """Make a small tree of Physics 101 under `root`; its video files are empty."""
    trials = {
        "spring": ["foam_07/02", "foam_07/01", "cardboard_01/01", "unweighed/01"],
        "fall": ["cardboard_01/table/01", "cardboard_01/foam/02", "cardboard_01/foam-2/01"],
        "ramp": ["cardboard_01/10/rug/01"],
    }
    for scenario, names in trials.items():
        for name in names:
            for camera in ("Camera_1", "Camera_2", "Kinect_RGB_1"):
                path = root / "scenarios" / scenario / name / f"{camera}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"")
    (root / "scenarios/spring/cardboard_01/01/notes.txt").write_text("not a clip")
    (root / "objects").mkdir()
    (root / "objects/mass").write_text("cardboard_01 14\nfoam_07 51.3\n")
    (root / "objects/vol").write_text("cardboard_01\t28\n\nfoam_07 0\n")
    return root
