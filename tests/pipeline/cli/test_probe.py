"""The `probe` command: what is known of video files."""

import json

from click.testing import CliRunner

from pipeline.cli.main import main
from tests.helpers.clips import encode


def test_only_full_decodes_every_frame(tmp_path):
    film = encode(tmp_path / "film.mp4", codec="mpeg4", frames=30)
    short, full = (
        json.loads(CliRunner().invoke(main, ["probe", str(film), "--json", *words]).stdout)
        for words in ([], ["--full"])
    )
    assert (short["decodable_frames"], short["agreement"]) == (None, {})
    assert any(note.startswith("not decoded: ") for note in short["notes"])
    assert (short["bit_depth"], short["shown_frames"]) == (8, 30)
    assert full["decodable_frames"] == 30
    assert full["agreement"]
    assert not any(note.startswith("not decoded") for note in full["notes"])


def test_where_no_file_can_be_read_the_command_has_failed(tmp_path):
    film = encode(tmp_path / "film.mp4", codec="mpeg4", frames=3)
    others = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for other in others:
        other.write_text("no video")
    assert CliRunner().invoke(main, ["probe", *map(str, others)]).exit_code == 1
    assert CliRunner().invoke(main, ["probe", *map(str, others), str(film)]).exit_code == 3
