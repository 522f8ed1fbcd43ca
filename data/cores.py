"""How many processor cores there are to work with."""

import os


def available_cores() -> int:
    """Return the number of cores that this process may use, at least 1.

    Where the system knows an affinity (`taskset`, a container's CPU set) it counts.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
