"""The command as a user types it: words, streams and exit codes."""

import errno
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

import pipeline.cli
from data.cache import save
from pipeline.cli import main
from tests.helpers.command import run, run_process
from tests.helpers.features import make_features


def test_help_is_quick_because_it_loads_neither_models_nor_settings():
    code = (
        "import sys; from click.testing import CliRunner; from pipeline.cli import main; "
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0; "
        "print({'torch', 'av', 'h5py', 'pydantic', 'backbones', 'rich'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.stdout.strip() == "set()", shown.stderr


def test_every_command_explains_itself():
    context = click.Context(main)
    names = main.list_commands(context)
    assert names == [
        "demo", "simulate", "index", "extract", "cache", "train", "evaluate", "onboard", "runs",
        "compare", "message", "report", "hub", "experiment", "phase87", "probe", "backbones",
        "doctor", "import-checkpoint",
    ]  # fmt: skip
    for name in names:
        shown = run(name, "--help")
        assert shown.exit_code == 0
        assert main.get_command(context, name).help.split("\n")[0][:40] in shown.output


def complete(shell: str, *words: str, **environment: str) -> str:
    """Return what the shell is told when it asks for the end of the last word."""
    asked = {"_HELIOGRAPH_COMPLETE": f"{shell}_complete", "COMP_WORDS": shlex.join(words)}
    asked |= {"COMP_CWORD": words[-1] if shell == "fish" else str(len(words) - 1), **environment}
    return CliRunner().invoke(main, prog_name="heliograph", env=asked).stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_options_choices_and_paths(shell):
    assert "extract" in complete(shell, "heliograph", "ext")
    assert "merge" in complete(shell, "heliograph", "cache", "me")
    assert "--accept-damaged" in complete(shell, "heliograph", "extract", "--acc")
    assert "float32" in complete(shell, "heliograph", "extract", "--dtype", "fl")
    assert "collision" in complete(shell, "heliograph", "simulate", "co")
    assert "dinov2_vits14" in complete(shell, "heliograph", "extract", "--backbone", "di")
    assert "ridge" in complete(shell, "heliograph", "train", "--preset", "ri")
    assert "file" in complete(shell, "heliograph", "extract", "a")
    assert complete(shell, "heliograph", "sing").strip() == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_of_a_shell_is_a_script_that_it_accepts(shell):
    asked = {"_HELIOGRAPH_COMPLETE": f"{shell}_source"}
    script = CliRunner().invoke(main, prog_name="heliograph", env=asked).stdout
    assert f"_HELIOGRAPH_COMPLETE={shell}_complete" in script
    if program := shutil.which(shell):
        checked = subprocess.run([program, "-n"], input=script, capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_asks_the_command(tmp_path):
    program = tmp_path / "heliograph"
    code = "import sys; sys.argv[0] = 'heliograph'; from pipeline.cli import main; main()"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}" "$@"\n')
    program.chmod(0o755)
    lines = (
        'eval "$(_HELIOGRAPH_COMPLETE=bash_source heliograph)"\ncomplete -p heliograph\n'
        "COMP_WORDS=(heliograph cache ver) COMP_CWORD=2\n_heliograph_completion heliograph\n"
        'echo "${COMPREPLY[@]}"\n'
    )
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    asked = subprocess.run(["bash", "-c", lines], env=environment, capture_output=True, text=True)
    assert "_heliograph_completion heliograph" in asked.stdout.splitlines()[0], asked
    assert asked.stdout.splitlines()[1] == "verify"


def test_runs_needs_no_folder():
    assert "runs [OPTIONS] [DIR]\n" in run("runs", "--help").output


def test_a_new_file_adds_a_command(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline.cli, "__path__", [*pipeline.cli.__path__, str(tmp_path)])
    (tmp_path / "say_hello.py").write_text(
        "import click\n\nHELP_ORDER = 45\n\n\n@click.command()\ndef say_hello():\n"
        '    """Greet."""\n    click.echo(\'hello\')\n'
    )
    names = main.list_commands(click.Context(main))
    assert names[names.index("extract") + 1] == "say-hello"
    assert "Others:\n  say-hello" in run("--help").output
    assert run("say-hello").stdout == "hello\n"
    assert run("options").exit_code == 2  # a file without a command


def test_the_lists_of_commands_cut_no_sentence_short():
    for group in ((), ("cache",), ("index",), ("hub",)):
        listed = run(*group, "--help").output.partition("--help")[2]
        assert listed
        assert "..." not in listed
    names = [line.split()[0] for line in run("cache", "--help").output.splitlines()[-7:]]
    assert names == ["info", "verify", "label", "merge", "consolidate", "import", "export"]


def test_commands_are_listed_under_headings():
    shown = run("--help").output
    assert [line for line in shown.splitlines() if line[:1] not in ("", " ")] == [
        "Usage: main [OPTIONS] COMMAND [ARGS]...", "Options:", "Begin here:",
        "Videos and their features:", "Agents and their messages:", "The paper's results:",
    ]  # fmt: skip


def commands(group: click.Group = main, *words: str) -> Iterator[tuple[str, ...]]:
    """The words of every command that does something: `cache info` is one, `cache` none."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, *words, name)
        else:
            yield (*words, name)


def test_a_bound_that_is_none_is_not_shown():
    for words in commands():
        assert not re.search(r"x[<>]=?None|None[<>]=?x", run(*words, "--help").output), words


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_has_two_examples_that_it_understands(words, monkeypatch):
    shown = run(*words, "-h").output
    lines = [line.strip() for line in shown.partition("Examples:")[2].strip().splitlines()]
    assert len(lines) == 2
    assert max(map(len, lines)) <= 76
    called = []
    monkeypatch.setattr(
        "pipeline.cli.index.write_index", lambda _, **options: called.append(options)
    )
    for line in lines:
        command = main
        program, *rest = shlex.split(line.partition(" > ")[0])
        assert program == "heliograph"
        assert tuple(rest[: len(words)]) == words
        for name in words:
            command = command.get_command(click.Context(command), name)
        monkeypatch.setattr(command, "callback", lambda **options: called.append(options))
        assert run(*rest).exit_code == 0, line
    assert len(called) == 2


def test_help_and_version_have_short_names():
    assert run("-h").output == run("--help").output
    assert run("cache", "info", "-h").output == run("cache", "info", "--help").output
    assert run("-V").output == run("--version").output


@pytest.fixture
def imported_cache(tmp_path):
    """A command that succeeds with a note, and the cache that it takes."""
    path = tmp_path / "a.h5"
    save(make_features(), path)
    return path


@pytest.mark.parametrize(
    ("words", "way"),
    [(["runs"], "again"), (["train", "made.h5", "-o", "run"], "with --resume")],
)
def test_ctrl_c_says_how_to_go_on(tmp_path, monkeypatch, words, way):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.report.list_runs", interrupted)
    monkeypatch.setattr(sys.modules["pipeline.training"], "train", interrupted)
    shown = run(*words)
    assert shown.exit_code == 130
    assert shown.stderr.endswith(f"Error: interrupted: run the same command {way}\n")


def test_quiet_leaves_results_and_errors(imported_cache):
    assert run("cache", "verify", imported_cache).stderr == f"{imported_cache} is sound\n"
    assert run("cache", "verify", imported_cache, "--quiet").stderr == ""
    told = run("cache", "info", imported_cache, "--json")
    assert run("cache", "info", imported_cache, "--json", "-q").stdout == told.stdout
    shown = run("cache", "info", "gone.h5", "-q")
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert shown.stderr.startswith("Error: gone.h5")
    shown = run("probe", "gone.mp4", "-q")
    assert shown.stderr.startswith("failed: gone.mp4")
    # and the next command of the process is as loud as ever
    assert run("cache", "verify", imported_cache).stderr != ""


def test_verbose_tells_times_and_where_an_error_is_from(imported_cache):
    (line,) = run("cache", "verify", imported_cache, "-v").stderr.splitlines()
    assert re.fullmatch(rf"\[ +\d+\.\d s\] {re.escape(str(imported_cache))} is sound", line)
    *trace, last = run("cache", "info", "gone.h5", "--verbose").stderr.splitlines()
    assert "Traceback (most recent call last):" in trace[0]
    assert any("hdf5_reader.py" in line or "io.py" in line for line in trace)
    assert last.startswith("Error: gone.h5")
    shown = run("cache", "verify", imported_cache, "-q", "-v")
    assert (shown.exit_code, "exclude each other" in shown.stderr) == (2, True)


def test_a_package_called_data_in_the_working_directory_is_not_ours(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "__init__.py").write_text("raise RuntimeError('shadowed')")
    command = Path(sys.executable).with_name("heliograph")
    shown = subprocess.run([command, "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    shown = subprocess.run([command, "backbones"], cwd=tmp_path, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["extract"], 2, "Missing argument"),
        (["extract", "a.mp4"], 2, "Missing option"),
        (["extract", "a.mp4", "-o", "x.h5", "--sampler", "odd"], 2, "no sampling 'odd'"),
        (
            ["extract", "a.mp4", "-o", "x.h5", "--frames", "0"],
            2,
            "0 is not a whole number",
        ),
        (["extract", "gone/", "-o", "x.h5"], 1, "gone"),
        (["train", "gone.h5", "-o", "run"], 1, "gone.h5"),
        (["message", "gone", "a.mp4"], 1, "gone is no run"),
        (["evaluate", "gone"], 1, "gone is no run"),
        (["cache", "info", "gone.h5"], 1, "gone.h5"),
        (["cache", "import", "gone.pt", "-o", "x.h5"], 1, "gone.pt"),
        (["simulate", "odd", "-o", "out"], 2, "no scene 'odd'"),
        (["probe", "gone.mp4"], 1, "gone.mp4"),
        (["sing"], 2, "there is no command 'sing'"),
    ],
)
def test_wrong_input_gets_a_sentence(words, code, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = run(*words)
    assert shown.exit_code == code, shown.output
    assert sentence in shown.stderr
    assert "Traceback" not in shown.stderr
    assert shown.stdout == ""
    assert not list(tmp_path.iterdir())


def test_the_stages_in_a_row_on_the_papers_features(shared, tmp_path):
    cache, out = tmp_path / "spring.h5", tmp_path / "run"
    source = shared / "data" / "phase87_phys101_spring_features.pt"
    assert run("cache", "import", source, "-o", cache).exit_code == 0
    told = json.loads(run("cache", "info", cache, "--json").stdout)
    assert (told["clips"], told["steps"], told["dimensions"], told["dtype"]) == (
        206, 8, 1024, "float16",
    )  # fmt: skip
    assert told["objects"] == 26
    assert run("cache", "verify", cache).exit_code == 0

    words = ["train", cache, "-o", out, "--property", "mass", "--vocab", 5, "--seeds", 1]
    shown = run(*words, "--preset", "published", "--epochs", 2, "--json")
    assert shown.exit_code == 0
    metrics = json.loads(shown.stdout)
    assert metrics["accuracy_test"] is None
    assert 0.3 < metrics["accuracy_last_epoch"]["mean"] <= 1
    assert run(*words, "--epochs", 1).exit_code == 1  # it holds a run already

    shown = run("evaluate", out, "--permutations", 20)
    assert shown.exit_code == 0
    assert "baseline: ridge" in shown.stdout
    assert "needs two properties" in " ".join(shown.stdout.split())

    said = run("message", out, cache, "--json").stdout.splitlines()
    kept = [json.loads(line) for line in (out / "messages.jsonl").read_text().splitlines()]
    assert [json.loads(line)["tokens"] for line in said] == [line["tokens"] for line in kept]
    refused = run("message", out, shared / "videos" / "throw.mp4")
    assert refused.exit_code == 1
    assert "--backbone and --frames" in refused.stderr


HOSTILE = "a\x1b[2J\u202e\r\n.mp4"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["probe", HOSTILE], 1),
        (["message", HOSTILE, "a.mp4"], 1),
        (["extract", HOSTILE, "-o", "x.h5"], 1),
        (["extract", "a.mp4", "-o", "x.h5", "--decoder", HOSTILE], 2),
        (["extract", "a.mp4", "-o", "x.h5", "--batch", HOSTILE], 2),
        (["cache", "info", HOSTILE], 1),
        (["backbones", f"--{HOSTILE}"], 2),
        ([HOSTILE], 2),
    ],
)
def test_errors_show_what_would_act_on_a_terminal(words, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = run(*words)
    assert shown.exit_code == code
    assert r"a\x1b[2J\u202e\r\n" in shown.stderr
    assert not {"\x1b", "\u202e", "\r"} & set(shown.output)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["index", "--help"], ["backbones"]])
def test_a_full_disk_behind_stdout_is_a_sentence(words):
    with open("/dev/full", "w") as full:
        ended = run_process(*words, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert ended.returncode == 1
    assert ended.stderr == "Error: standard output cannot be written: No space left on device\n"


def test_a_reader_that_has_gone_is_a_sentence():
    read, write = os.pipe()
    os.close(read)
    ended = run_process("backbones", capture_output=False, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert ended.returncode == 1
    assert ended.stderr == "Error: standard output was closed before everything was written\n"


def test_a_command_without_a_stderr_ends_as_it_would():
    with open("/dev/full", "w") as full:
        kept = run_process("backbones", capture_output=False, stdout=subprocess.PIPE, stderr=full)
        refused = run_process("sing", capture_output=False, stdout=subprocess.PIPE, stderr=full)
    assert kept.returncode == 0
    assert "vjepa2_vitl" in kept.stdout
    assert refused.returncode != 0


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EIO, "Input/output error", "x.h5"), "x.h5: Input/output error"),
        (OSError("Unable to open file"), "Unable to open file"),
    ],
)
def test_a_fault_of_the_machine_is_a_sentence(error, sentence, monkeypatch):
    def fail(**options):
        raise error

    monkeypatch.setattr(main.get_command(None, "backbones"), "callback", fail)
    shown = run("backbones")
    assert (shown.exit_code, shown.stderr) == (1, f"Error: {sentence}\n")


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (
            ["extract", "a", "-o", "b"],
            {
                "GPU": "a smaller --batch or another --device",
                "machine": "a smaller --batch or fewer --workers",
            },
        ),
        (
            ["phase87", "a", "-o", "b"],
            {
                "GPU": "a smaller --batch or another --device",
                "machine": "a smaller --batch or fewer --workers",
            },
        ),
        (["message", "a", "b"], {"GPU": "another --device", "machine": "a machine with more"}),
        (
            ["train", "a", "-o", "b"],
            {"GPU": "a smaller --batch or another --device", "machine": "a smaller --batch"},
        ),
    ],
)
@pytest.mark.parametrize(
    ("error", "where"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmore"), "GPU"),
        (RuntimeError("CUDA error: out of memory\nCompile with"), "GPU"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "GPU"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "machine"),
        (MemoryError(), "machine"),
    ],
)
def test_a_lack_of_memory_is_a_sentence_with_an_option(words, advice, error, where, monkeypatch):
    def fail(**options):
        raise error

    monkeypatch.setattr(main.get_command(None, words[0]), "callback", fail)
    shown = run(*words)
    assert shown.exit_code == 1
    assert shown.stderr == f"Error: the {where} is out of memory: try {advice[where]}\n"


def test_a_broken_gpu_is_a_sentence(monkeypatch):
    def fail(**options):
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with")

    monkeypatch.setattr(main.get_command(None, "backbones"), "callback", fail)
    shown = run("backbones")
    assert shown.exit_code == 1
    assert shown.stderr == (
        "Error: the GPU failed: CUDA error: an illegal memory access was encountered\n"
    )


def test_a_fault_of_the_program_is_shown_whole(monkeypatch):
    def fail(**options):
        raise KeyError("x")

    monkeypatch.setattr(main.get_command(None, "backbones"), "callback", fail)
    with pytest.raises(KeyError):
        run("backbones")
