"""Where a run comes from, and the command that repeats it."""

from pipeline.report.provenance import command_to_repeat
from pipeline.runs import Run
from pipeline.training import train
from tests.helpers.command import run as run_command


def test_the_command_repeats_the_run(run, tmp_path):
    words = command_to_repeat(run).split()[1:]
    words[words.index("-o") + 1] = str(tmp_path / "again")
    done = run_command(*words)
    assert done.exit_code == 0, done.output
    again = Run.open(tmp_path / "again")
    assert again.config == run.config
    assert again.messages() == run.messages()


def test_the_command_repeats_a_control_and_a_number_of_many_digits(run, tmp_path):
    odd = {"sender_lr": 0.000123456789, "tie_margin": {"mass": 0.123456789}}
    out = tmp_path / "run"
    again = train(
        run.source.path, out, properties=["mass"], seeds=1, epochs=1, vocab=2, control=True, **odd
    )
    words = command_to_repeat(again)
    assert "--control" in words
    assert "--sender-lr 0.000123456789" in words
    assert "--tie-margin mass=0.123456789" in words
    assert "--control" not in command_to_repeat(Run.open(out / "control"))
