"""Passes of a model on the cores of a CPU: one thread each, and as many at once as memory holds.

How torch divides a pass among threads changes the last bits of its result. A pass in one thread
gives the same bits on any number of cores; the others are filled with more passes.

Their memory is kept from one pass to the next (`data.memory.keep_freed_memory`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from backbones.errors import is_out_of_memory
from data.memory import available_bytes, keep_freed_memory

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")

PASS_BYTES_PER_INPUT = 64  # what a pass takes at most, in multiples of its float32 pixels

_inside = threading.local()
_pools = threading.Lock()


def pass_bytes(pixels: int) -> int:
    """Return how much memory a pass over so many numbers of pixels takes, at most."""
    return pixels * 4 * PASS_BYTES_PER_INPUT


def passes_at_once(part: torch.Tensor) -> int:
    """Return how many passes on such pixels (uint8) may run at once: a core each, if memory lasts.

    Half of the memory that is available now is for them.
    """
    import torch

    threads = torch.get_num_threads()
    available = available_bytes()
    if available is None:
        return threads
    return max(1, min(threads, available // 2 // pass_bytes(part.numel())))


def run_passes(
    encode: Callable[[torch.Tensor], Result], parts: Sequence[torch.Tensor], at_once: int
) -> Generator[Result, None, None]:
    """Yield `encode` of each part in turn, each computed in one thread.

    Calls from several threads share the cores. Inside a pass (a backbone may be made of others) the
    parts are computed in its thread. Few results are there at a time: a pass begins when there are
    less than twice as many as run at once.

    Args:
        encode: called by several threads, one at a time if `at_once` is 1.
        parts: one for each pass.
        at_once: how many passes may run at the same time.

    Raises:
        Exception: what `encode` raised; the passes that have not begun are left out.
    """
    if getattr(_inside, "a_pass", False):
        yield from map(encode, parts)
        return
    waiting = iter(parts)
    begun: deque[tuple[torch.Tensor, Future[Result]]] = deque()

    def begin(count: int) -> None:
        for part in islice(waiting, count):
            begun.append((part, _pool(at_once).submit(encode, part)))

    try:
        begin(2 * at_once)
        while begun:
            part, future = begun.popleft()
            try:
                result = future.result()
            except (RuntimeError, MemoryError) as error:
                if at_once == 1 or not is_out_of_memory(error):
                    raise
                # Several at once did not fit after all.
                result = _pool(1).submit(encode, part).result()
            del future
            begin(1)
            yield result
            del result
    finally:
        for _, future in begun:
            future.cancel()


def _pool(size: int) -> ThreadPoolExecutor:
    """Return the threads that run so many passes at once."""
    with _pools:
        return _new_pool(size)


@cache
def _new_pool(size: int) -> ThreadPoolExecutor:
    """Return threads each of which gives torch one thread."""
    import torch

    keep_freed_memory()
    before = torch.get_num_threads()
    ready = threading.Barrier(size + 1)

    def begin() -> None:
        _inside.a_pass = True
        torch.get_num_threads()  # without a first call, torch would undo the next line later on
        torch.set_num_threads(1)  # of this thread, and of threads to come until it is set back
        ready.wait()

    pool = ThreadPoolExecutor(size, "pass", initializer=begin)
    for _ in range(size):
        pool.submit(int)
    ready.wait()
    torch.set_num_threads(before)
    return pool
