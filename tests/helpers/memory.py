"""How much memory of numpy a piece of code takes at its peak."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager


class Peak:
    """The largest number of bytes that were held at once, once it is known."""

    bytes = 0


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measure what arrays and objects take, files that are mapped left out."""
    peak = Peak()
    tracemalloc.start()
    try:
        yield peak
    finally:
        peak.bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
