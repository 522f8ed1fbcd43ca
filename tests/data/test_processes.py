"""Children end with their parent, whatever they do."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

CHILD = """
import os, re, sys
from data.processes import end_with_parent
end_with_parent(int(sys.argv[1]))
os.write(1, b"ready")
re.match("(a+)+$", "a" * 80 + "b")  # C that holds the interpreter's lock for ever
"""


def start(lifeline: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(lifeline)],
        pass_fds=[lifeline],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )


def test_a_child_in_native_code_ends_when_the_lifeline_is_cut():
    end, lifeline = os.pipe()
    child = start(end)
    assert child.stdout is not None
    assert child.stdout.read(5) == b"ready"
    os.close(end)
    os.close(lifeline)
    assert child.wait(300) == -signal.SIGIO


def test_a_child_that_starts_after_its_parent_has_ended_does_not_stay():
    end, lifeline = os.pipe()
    os.close(lifeline)
    child = start(end)
    os.close(end)
    assert child.wait(300) == 1


def test_a_crash_leaves_no_core_file():
    code = (
        "import os, resource, sys; from data.processes import end_with_parent;"
        "end_with_parent(int(sys.argv[1])); print(resource.getrlimit(resource.RLIMIT_CORE)[0])"
    )
    end, lifeline = os.pipe()
    ended = subprocess.run(
        [sys.executable, "-c", code, str(end)], pass_fds=[end], stdout=subprocess.PIPE, cwd=ROOT
    )
    for descriptor in (end, lifeline):
        os.close(descriptor)
    assert ended.stdout == b"0\n"
