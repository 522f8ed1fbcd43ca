"""Checkers for tests of screening, which call them by name in a process of its own."""

import os
import signal
import time
from pathlib import Path

from data.errors import HeliographError
from data.files import sha256_file


def check(path: Path) -> str:
    """Return the identity of a file, or do what its text says."""
    text = path.read_text()
    if text == "refused":
        raise HeliographError(f"{path} is not what it should be")
    if text == "raises":
        raise KeyError("features\nand a second line")
    if text == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if text == "hangs":
        time.sleep(600)
    if text == "works":
        while True:
            pass
    if text == "takes memory":
        bytearray(1 << 40)
    if text == "writes":
        path.with_name("written").write_bytes(b"1")
    if text == "ends":
        os._exit(7)
    if text == "asks":
        input()
    if text == "is another":
        return "sha256:of another file"
    return f"sha256:{sha256_file(path)}"
