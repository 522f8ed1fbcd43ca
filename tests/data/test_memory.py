"""How much memory there is, and the sentence where there is too little."""

import subprocess
import sys

import pytest

from data import memory
from data.errors import OutOfMemoryError
from data.memory import available_bytes, require_memory


def test_the_memory_of_this_machine_is_known() -> None:
    available = available_bytes()
    assert available is not None
    assert 0 <= available < 1 << 50


def test_too_little_memory_is_a_sentence_with_both_sizes(monkeypatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 3 << 30)
    require_memory(3 << 30, "training", "give --axes 64")
    with pytest.raises(OutOfMemoryError) as caught:
        require_memory(25 << 30, "training", "give --axes 64")
    assert str(caught.value) == (
        "training takes 25 GiB of memory, and 3.0 GiB are free: give --axes 64"
    )


def test_a_system_that_does_not_tell_is_believed(monkeypatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    require_memory(1 << 60, "training", "give --axes 64")


KEPT = """
import ctypes, resource, threading
from data.memory import keep_freed_memory
size = 40 << 20

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        b"x" * size  # 10,240 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def both():
    found.append(faults())

found = [faults()]
keep_freed_memory()
for _ in range(2):
    thread = threading.Thread(target=both)
    thread.start()
    thread.join()
print(hasattr(ctypes.CDLL(None), "mallopt"), *found)
"""


def test_memory_that_was_given_back_is_kept() -> None:
    command = [sys.executable, "-c", KEPT]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    if out[0] == "False":
        pytest.skip("needs glibc")
    before, first, second = map(int, out[1:])
    assert before > 10 * first
    assert second < first
