import re

import numpy as np

from data.cache import save
from tests.helpers.caches import features
from tests.helpers.command import run


def test_info_shows_names_to_the_letter(tmp_path):
    names = ["a[v2].mp4", "take[/c].mp4", ":smile:.mp4"]
    save(features(failures=[(name, "[red] too short") for name in names]), tmp_path / "c.h5")
    shown = run("cache", "info", str(tmp_path / "c.h5"))
    for name in names:
        assert re.search(rf"failed: {re.escape(name)} +\[red\] too short", shown.stdout)


def test_export_names_the_clips_that_are_left_out(tmp_path):
    masses = np.array([1, np.nan, *5 * [1.0]])
    save(features(labels={"mass": masses}), tmp_path / "c.h5")
    words = ["cache", "export", str(tmp_path / "c.h5"), "-o", str(tmp_path / "x.pt")]
    shown = run(*words)
    assert shown.exit_code == 0
    assert "left out: 1 clips without a known mass (c/é 1.mp4)" in shown.stderr
