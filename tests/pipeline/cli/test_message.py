"""The `message` command, and where its lines go."""

import subprocess

from data import cache
from pipeline.training import train
from tests.helpers.command import run_process


def test_messages_that_cannot_be_printed_are_a_sentence(features, tmp_path):
    cache.save(features, tmp_path / "made.h5")
    train(tmp_path / "made.h5", tmp_path / "run", properties=["mass"], epochs=1, seeds=1)
    words = ("message", tmp_path / "run", tmp_path / "made.h5", "--device", "cpu")
    with open("/dev/full", "w") as full:
        ended = run_process(*words, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert ended.returncode == 1
    assert ended.stderr == "Error: standard output cannot be written: No space left on device\n"
