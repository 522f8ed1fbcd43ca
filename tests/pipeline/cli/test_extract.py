"""Options of `heliograph extract`."""

from dataclasses import replace

import pytest

from data.video import DECODERS
from tests.helpers.command import run


def test_an_unknown_decoder_is_wrong_usage(tmp_path):
    shown = run("extract", tmp_path, "-o", tmp_path / "c.h5", "--decoder", "ffmpeg")
    assert shown.exit_code == 2
    assert "no decoder 'ffmpeg': choose one of pyav, torchcodec, decord" in shown.stderr


def test_the_help_lists_every_decoder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(DECODERS, "other", replace(DECODERS["pyav"], name="other"))
    assert "[pyav|torchcodec|decord|other]" in run("extract", "--help").stdout
