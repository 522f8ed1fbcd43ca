"""The way of pixels to a GPU: one batch travels while another is computed.

Several threads may be on it: each copies its batch into pinned memory, which is used again, sends
it on a stream of its own, and computes when it is its turn, so that activations of one batch are in
memory at a time. On a device without streams the same happens in the same order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from queue import LifoQueue
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")

LANES = 2  # batches on the way: one that is computed, one that follows


class Transfer:
    """The way to one device; any number of threads may call `run`, of which `LANES` are on it."""

    def __init__(self, device: torch.device) -> None:
        """Allocate nothing yet."""
        self.device = device
        self._turn = threading.Lock()
        self._lanes: LifoQueue[_Lane] = LifoQueue()
        for _ in range(LANES):
            self._lanes.put(_Lane(device))

    def run(self, compute: Callable[[torch.Tensor], Result], batch: torch.Tensor) -> Result:
        """Return `compute` of a batch on the device, one call at a time.

        Args:
            compute: returns when the device has done with what it was given: its result is on the
                host, or was waited for.
            batch: on the host.

        Raises:
            Exception: what `compute` raises.
        """
        lane = self._lanes.get()
        try:
            with lane.sent(batch) as pixels, self._turn:
                return compute(lane.arrived(pixels))
        finally:
            self._lanes.put(lane)


class _Lane:
    """Pinned memory, and the stream on which it is sent."""

    def __init__(self, device: torch.device) -> None:
        import torch

        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._memory: torch.Tensor | None = None

    @contextmanager
    def sent(self, batch: torch.Tensor) -> Iterator[torch.Tensor]:
        """Send a batch, whose memory is free again after the block."""
        import torch

        memory = self._memory
        if memory is None or memory.dtype != batch.dtype or memory.numel() < batch.numel():
            memory = self._memory = torch.empty(
                batch.numel(), dtype=batch.dtype, pin_memory=self._stream is not None
            )
        staged = memory[: batch.numel()].view(batch.shape).copy_(batch)
        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            pixels = staged.to(self._device, non_blocking=self._stream is not None)
        try:
            yield pixels
        except BaseException:
            if self._stream is not None:  # perhaps nothing has waited for it
                self._stream.synchronize()
            raise

    def arrived(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return pixels that are sent; the stream that computes waits for them, not the host."""
        import torch

        if self._stream is not None:
            computing = torch.cuda.current_stream(self._device)
            computing.wait_stream(self._stream)
            pixels.record_stream(computing)
        return pixels
