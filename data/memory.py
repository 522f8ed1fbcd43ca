"""How much memory there is, and a sentence in place of a process that is killed for want of it."""

import ctypes
from contextlib import suppress
from pathlib import Path

from data.errors import OutOfMemoryError

_GIB = 1 << 30
_MALLOC_OPTIONS = {  # of mallopt(3): M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX
    -1: _GIB,
    -2: 64 << 20,
    -4: 0,
    -8: 1,
}


def available_bytes() -> int | None:
    """Return how much memory this process may still take; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        fields = {line.split(":")[0]: line.split()[1] for line in lines}
        available = int(fields["MemAvailable"]) * 1024
    except (OSError, KeyError, IndexError, ValueError):
        return None
    group = Path("/sys/fs/cgroup")  # of a container
    try:
        left = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
        cached = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return max(0, min(available, left + int(cached.get("inactive_file", 0))))
    except (OSError, ValueError):  # no limit ("max"), or no container
        return available


def require_memory(needed: float, what: str, way_out: str) -> None:
    """Check that there is enough memory for something, before it is begun.

    Args:
        needed: bytes.
        what: takes them: the beginning of the sentence.
        way_out: what to do where they are not there: its end.

    Raises:
        OutOfMemoryError: Less is available.
    """
    available = available_bytes()
    if available is not None and needed > available:
        raise OutOfMemoryError(
            f"{what} takes {_in_gib(needed)} of memory, and {_in_gib(available)} are free: "
            f"{way_out}"
        )


def _in_gib(size: float) -> str:
    return f"{size / _GIB:,.0f} GiB" if size >= 10 * _GIB else f"{size / _GIB:.1f} GiB"


def keep_freed_memory() -> None:
    """Have this process keep up to 1 GiB that it gives back, for what it takes next.

    Without it glibc gives large pieces back to the system each time, which fills them with zeros
    when they are taken again: up to a third of the time of a network that runs again and again on a
    CPU. Threads that begin later share one heap. Other C libraries are left as they are.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in _MALLOC_OPTIONS.items():
            mallopt(option, value)
