"""Lines on stdout and stderr: nothing in them acts on a terminal, and a full disk is a sentence."""

import ast
import io
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline
from pipeline.console import (
    Loudness,
    OutputError,
    ProgressBar,
    echo,
    echo_json,
    log,
    print_table,
    printable,
    set_loudness,
    show_log_of,
    warn,
)

HOSTILE = "\x1b[2J\x1b]0;title\x07\x9b31m\r\n\t\x00\x7f\u202etxt.\u2066\u2069\u200e\u200f\u061c"
SHOWN = r"\x1b[2J\x1b]0;title\x07\x9b31m\r\n\t\x00\x7f\u202etxt.\u2066\u2069\u200e\u200f\u061c"


def test_what_acts_on_a_terminal_becomes_visible():
    assert printable(HOSTILE) == SHOWN
    assert printable("a\udcff") == r"a\udcff"  # a byte of a file name


def test_other_text_stays_as_it_is():
    for text in ("50 % ± 3 µs, 天文, שלום, 👩\u200d🔬", r"C:\clips\new", "p\xa0<\xa00.001"):
        assert printable(text) == text


def test_every_way_to_print_is_printable(capsys):
    log(HOSTILE)
    echo(HOSTILE, HOSTILE)
    print_table([HOSTILE], [["x"]])
    print_table(["x"], [[HOSTILE]])
    with ProgressBar(HOSTILE) as bar:
        bar.update(1, 1, HOSTILE)
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == f"{SHOWN}\t{SHOWN}"
    assert printed.err.splitlines() == [SHOWN, f"{SHOWN}: 1/1, {SHOWN}"]
    text = printed.out.replace("\t", "").replace("\n", "") + printed.err.replace("\n", "")
    assert printable(text) == text


def test_a_bar_on_a_terminal_is_printable(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with ProgressBar("[red]clips\u202e") as bar:
        bar.update(1, 2, "a\x9b2Jb\rc")
    assert r"[red]clips\u202e" in shown.getvalue()
    assert r"a\x9b2Jb\rc" in shown.getvalue()


def test_json_is_ascii_and_still_json(capsys):
    echo_json({"clip": HOSTILE})
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isascii()
    assert printable(line) == line
    assert json.loads(line) == {"clip": HOSTILE}


def test_an_encoding_that_lacks_a_character_gets_an_escape(monkeypatch):
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    echo("±")
    assert ascii_only.buffer.getvalue() == b"\\xb1\n"


def test_what_a_package_logs_is_printed_once_and_printable(capsys):
    show_log_of("a_package")
    show_log_of("a_package")
    logging.getLogger("a_package.downloads").warning("downloading %s", "a\x1b[2J.pth")
    assert capsys.readouterr() == ("", "downloading a\\x1b[2J.pth\n")


def test_nothing_in_the_pipeline_prints_another_way():
    package = Path(pipeline.__file__).parent
    generators = {package / "metrics" / "__main__.py", package / "runs" / "metrics_docs.py"}
    for file in set(package.rglob("*.py")) - generators:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in ("print", "click.echo", "click.secho"), file


def in_a_process(code: str, **streams: object) -> subprocess.CompletedProcess[str]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.run([sys.executable, "-c", code], text=True, **options)


ECHO = """
import sys
from pipeline.console import OutputError, echo, print_table
try:
    {call}
except OutputError as error:
    print(error, file=sys.stderr)
"""


@pytest.mark.parametrize("call", ["echo('x')", "print_table(['x'], [['y']])"])
def test_a_full_disk_is_a_sentence_and_nothing_follows_at_exit(call):
    with open("/dev/full", "w") as full:
        ended = in_a_process(ECHO.format(call=call), stdout=full)
    assert ended.returncode == 0
    assert ended.stderr == "standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize("call", ["echo('x')", "print_table(['x'], [['y']])"])
def test_a_reader_that_has_gone_is_a_sentence(call):
    code = f"import os; read, write = os.pipe(); os.dup2(write, 1); os.close(read)\n{ECHO}"
    ended = in_a_process(code.format(call=call))
    assert ended.returncode == 0
    assert ended.stderr == "standard output was closed before everything was written\n"


def test_a_closed_stdout_is_a_sentence(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OutputError, match="closed"):
        echo("x")


def test_work_goes_on_where_nobody_reads_stderr():
    code = (
        "from pipeline.console import ProgressBar, echo, log\n"
        "log('lost')\n"
        "with ProgressBar('clips') as bar:\n    bar.update(1, 1)\n"
        "echo('done')\n"
    )
    with open("/dev/full", "w") as full:
        ended = in_a_process(code, stderr=full)
    assert (ended.returncode, ended.stdout) == (0, "done\n")


@pytest.mark.parametrize(
    ("terminal", "environment", "coloured"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),  # as https://no-color.org has it
        (True, {"TERM": "dumb"}, False),
        (False, {"FORCE_COLOR": "1"}, False),
    ],
)
def test_colours_are_for_terminals_whose_users_want_them(
    monkeypatch, terminal, environment, coloured
):
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stdout", shown)
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    echo("ok  a sentence", colour="green")
    print_table(["name"], [["a"]])
    assert ("\x1b[32m" in shown.getvalue()) is coloured
    assert ("\x1b[" in shown.getvalue()) is (coloured or (terminal and "NO_COLOR" in environment))


def test_quiet_tells_only_what_went_wrong(capsys):
    try:
        set_loudness(Loudness.QUIET)
        log("a note")
        warn("a warning")
        with ProgressBar("clips") as bar:
            bar.update(1, 1)
    finally:
        set_loudness(Loudness.NORMAL)
    log("a later note")
    assert capsys.readouterr() == ("", "a warning\na later note\n")
