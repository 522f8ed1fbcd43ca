"""Words that several commands share."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from data.cache import save
from pipeline.cli.main import main
from pipeline.cli.options import home, named_caches
from tests.helpers.clips import encode
from tests.helpers.command import run

LIMITS = ("--max-duration", "--max-pixels", "--max-memory", "--timeout")
DECODING = (
    "extract", "probe", "message", "evaluate", "report", "cache verify", "phase87",
    "index physics101",
)  # fmt: skip


@pytest.mark.parametrize("command", DECODING)
def test_every_command_that_decodes_takes_limits(command):
    text = CliRunner().invoke(main, [*command.split(), "--help"]).output
    assert [option for option in LIMITS if option not in text] == []


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    return encode(tmp_path_factory.mktemp("film") / "film.mp4", codec="mpeg4", frames=30)


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--max-duration", "0.5", "lasts 1.20833 s, the limit is 0.5 s (--max-duration lifts it)"),
        (
            "--max-pixels",
            "6143",
            "its frames have no size, or one above the limit of 6,143 pixels (--max-pixels)",
        ),
        ("--timeout", "1e-9", "timeout: it takes more than 1e-09 s (--timeout)"),
    ],
)
def test_a_limit_refuses_and_names_its_option(option, value, reason, film):
    ended = CliRunner().invoke(main, ["probe", str(film), option, value])
    assert ended.exit_code == 1
    assert f"failed: {film}: {reason}" in ended.stderr
    assert CliRunner().invoke(main, ["probe", str(film)]).exit_code == 0


@pytest.mark.parametrize("pixels", [2**31, 2**62, 10**23])
def test_a_limit_above_what_ffmpeg_knows_lifts_it(pixels, film):
    ended = CliRunner().invoke(main, ["probe", "--full", str(film), "--max-pixels", str(pixels)])
    assert ended.exit_code == 0
    assert "none found" in ended.output


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("--timeout", "nan", "'--timeout': nan is not a number above 0"),
        ("--max-memory", "nan", "'--max-memory': nan is not a number of at least 0.5"),
        ("--max-duration", "nan", "'--max-duration': nan is not a number above 0"),
        ("--max-pixels", "0", "0 is not a whole number of at least 1"),
        ("--max-duration", "-1", "-1 is not a number above 0"),
        ("--max-memory", "0.1", "0.1 is not a number of at least 0.5"),
    ],
)
def test_a_limit_that_is_none_is_a_wrong_option(option, value, word, film):
    ended = CliRunner().invoke(main, ["probe", str(film), option, value])
    assert ended.exit_code == 2
    assert word in ended.stderr


class TestTheHomeOfAUser:
    @pytest.fixture(autouse=True)
    def there(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "work").mkdir()
        monkeypatch.chdir(tmp_path / "work")

    @pytest.mark.parametrize("words", [["--out=~/c.pt"], ["-o", "~/c.pt"]])
    def test_in_a_word_of_the_command_line(self, words, tmp_path, features):
        save(features, tmp_path / "made.h5")
        shown = run("cache", "export", "~/made.h5", *words)
        assert shown.exit_code == 0, shown.stderr
        assert (tmp_path / "c.pt").is_file()
        assert not list((tmp_path / "work").iterdir())

    def test_in_a_cache_with_a_name(self, tmp_path):
        assert named_caches(["a=~/c.h5", "~/d.h5"], "--on") == {
            "a": tmp_path / "c.h5", "d": tmp_path / "d.h5",
        }  # fmt: skip

    def test_a_name_that_begins_so_is_kept(self, tmp_path):
        (tmp_path / "work" / "~").mkdir()
        assert home(Path("~/x")) == Path("~/x")
        assert home(Path("~nobody_of_this_name/x")) == Path("~nobody_of_this_name/x")
