"""Death of a process at a chosen change of the disk."""

import os
import sys
from collections.abc import Callable
from typing import Any

CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir")
KILLED = 9


def dies_after(changes: int, work: Callable[[], Any]) -> bool:
    """Do some work in a forked process that ends at once before a change of the disk.

    Nothing is cleaned up, as after SIGKILL.

    Args:
        changes: How many it makes before.
        work: What it does; it must not need threads of the parent.

    Returns:
        Whether it was killed; else it has done its work.
    """
    child = os.fork()
    if not child:
        try:
            left = changes

            def count(event: str, details: tuple[Any, ...]) -> None:
                nonlocal left
                creates = event == "open" and bool((details[2] or 0) & os.O_CREAT)
                if creates or event in CHANGES:
                    if not left:
                        os._exit(KILLED)
                    left -= 1

            sys.addaudithook(count)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED), f"the work failed: exit code {code}"
    return code == KILLED
