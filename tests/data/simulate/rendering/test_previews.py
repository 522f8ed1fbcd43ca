from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.errors import HeliographError
from data.manifests import read_manifest
from data.simulate import contact_sheet, preview, simulate

SMALL: dict[str, Any] = {
    "grid": 2,
    "per_cell": 1,
    "size": 64,
    "fps": 12,
    "seconds": 0.5,
    "workers": 1,
}


def test_contact_sheet_and_preview(tmp_path: Path) -> None:
    manifest = simulate("spring", tmp_path / "clips", **SMALL)
    contact_sheet(manifest, tmp_path / "sheet.png", clips=3, frames=4, width=40)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert np.asarray(sheet).std() > 10
        three = sheet.height
    ids = [clip.id for clip in read_manifest(manifest)[:2]]
    contact_sheet(manifest, tmp_path / "two.png", only=ids, frames=4, width=40)
    with Image.open(tmp_path / "two.png") as sheet:
        assert sheet.height == three - 46  # a row and its gap less
    for suffix in (".gif", ".webp"):
        preview(manifest, tmp_path / f"p{suffix}", frames=4, width=32)
        with Image.open(tmp_path / f"p{suffix}") as moving:
            assert moving.n_frames == 4  # type: ignore[attr-defined]
            assert moving.size == (66, 66)
            first = np.asarray(moving.convert("RGB"), int)
            moving.seek(3)
            assert np.abs(np.asarray(moving.convert("RGB"), int) - first).max() > 20


def test_a_preview_shows_five_levels_of_each_property_at_most(tmp_path: Path) -> None:
    tiny = {"grid": 6, "per_cell": 1, "size": 32, "fps": 10, "seconds": 0.2, "workers": 1}
    manifest = simulate("collision", tmp_path, **tiny)  # type: ignore[arg-type]
    preview(manifest, tmp_path / "p.webp", frames=2, width=30)
    with Image.open(tmp_path / "p.webp") as moving:
        assert moving.size == (5 * 32 - 2, 5 * 32 - 2)


def test_preview_refuses_other_files(tmp_path: Path) -> None:
    with pytest.raises(HeliographError, match=r"a preview is one of \.gif, \.webp, not '\.avi'"):
        preview(tmp_path / "manifest.jsonl", tmp_path / "p.avi")


def test_a_manifest_without_clips(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text("")
    with pytest.raises(HeliographError, match=r"manifest\.jsonl names no clips"):
        contact_sheet(tmp_path / "manifest.jsonl", tmp_path / "sheet.png")
