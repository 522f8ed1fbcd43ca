import re

from click.testing import CliRunner

from data.cache import save
from pipeline.cli import main
from tests.helpers.caches import features


def test_info_shows_names_to_the_letter(tmp_path):
    names = ["a[v2].mp4", "take[/c].mp4", ":smile:.mp4"]
    save(features(failures=[(name, "[red] too short") for name in names]), tmp_path / "c.h5")
    shown = CliRunner().invoke(main, ["cache", "info", str(tmp_path / "c.h5")])
    for name in names:
        assert re.search(rf"failed: {re.escape(name)} +\[red\] too short", shown.stdout)
