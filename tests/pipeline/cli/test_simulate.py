"""`heliograph simulate`: what it leaves behind, and that the next stage takes it."""

from pathlib import Path

import pytest
from PIL import Image

from data.manifests import list_clips
from tests.helpers.command import run

SIZES = {"grid": 2, "per-cell": 1, "size": 64, "fps": 12, "seconds": 0.5, "workers": 1}
SMALL = [word for name, value in SIZES.items() for word in (f"--{name}", str(value))]
CLIPS = [f"e{row}_d{column}/00.mp4" for row in range(2) for column in range(2)]


@pytest.mark.parametrize("wish", [[], ["--no-preview"]])
def test_what_simulate_leaves(wish: list[str], tmp_path: Path) -> None:
    out = tmp_path / "clips"
    shown = run("simulate", "fall", "-o", str(out), *SMALL, *wish)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout == f"{out / 'manifest.jsonl'}\n"
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    pictures = set() if wish else {"contact_sheet.png", "preview.webp"}
    assert files == {"manifest.jsonl", *CLIPS} | pictures
    for name in pictures:
        assert name in shown.stderr
        with Image.open(out / name) as picture:
            assert min(picture.size) > 100
    for source in (out, out / "manifest.jsonl"):
        assert [clip.id for clip in list_clips([source])] == CLIPS


def test_other_looks_and_a_handheld_camera(tmp_path: Path) -> None:
    ids = {}
    for options in ([], ["--nuisance", "3"], ["--nuisance", "3", "--handheld"]):
        out = tmp_path / f"clips{len(options)}"
        shown = run("simulate", "fall", "-o", str(out), *SMALL, *options)
        assert shown.exit_code == 0, shown.output
        ids[len(options)] = [clip.id for clip in list_clips([out / "manifest.jsonl"])]
        assert [clip.id for clip in list_clips([out])] == ids[len(options)]
    assert ids[0] == CLIPS
    assert ids[2] == [name.replace("/", "/nuisance3/") for name in CLIPS]
    assert ids[3] == [name.replace("/", "/nuisance3_handheld/") for name in CLIPS]
    assert run("simulate", "fall", "-o", str(tmp_path / "x"), "--nuisance", "-1").exit_code == 2


def test_a_wrong_scene_is_wrong_usage(tmp_path):
    shown = run("simulate", "ramps", "-o", str(tmp_path / "x"))
    assert shown.exit_code == 2
    assert "no scene 'ramps': choose one of collision, fall, ramp, spring" in shown.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("option", ["--nuisance", "--seed", "--per-cell"])
def test_numbers_of_hundreds_of_digits_are_refused_at_once(option: str, tmp_path: Path) -> None:
    shown = run("simulate", "fall", "-o", str(tmp_path / "x"), *SMALL, option, "9" * 300)
    assert shown.exit_code == 2
    assert f"{option[2:].replace('-', '_')} must be between" in shown.stderr
    assert not (tmp_path / "x").exists()


def test_clips_of_a_killed_run_are_not_removed_without_a_word(tmp_path: Path) -> None:
    out = tmp_path / "clips"
    (out / "e0_d0").mkdir(parents=True)
    (out / "e0_d0" / "00.mp4").write_bytes(b"half a clip")
    (out / ".unfinished").touch()
    shown = run("simulate", "fall", "-o", str(out), *SMALL, "--no-preview")
    assert shown.exit_code == 0, shown.output
    told = f"{out}: the clips that an unfinished run left are removed, and all made anew"
    assert shown.stderr.count(told) == 1
    again = run("simulate", "fall", "-o", str(tmp_path / "new"), *SMALL, "--no-preview")
    assert "removed" not in again.stderr
