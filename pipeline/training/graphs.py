"""A step of a training as one graph of a GPU, captured once and replayed; elsewhere a plain call.

What a graph computes with stays where it was when it was captured: weights, moments and features of
a training do, and what differs from step to step is copied into tensors of the graph's own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

WARM_UP = 3
"""Steps before the first capture, in which libraries take the memory that they keep."""

logger = logging.getLogger(__name__)
Step = Callable[..., tuple[Tensor, ...]]


class StepGraph:
    """Calls a step on tensors; on a CUDA GPU it replays a graph of it after a few calls.

    Attributes:
        captures: Graphs that were captured so far.
        replays: Steps that a graph took.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._is_used = device.type == "cuda"
        self._calls = 0
        self._key: Hashable = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor] = []
        self._outputs: tuple[Tensor, ...] = ()
        self.captures = self.replays = 0

    def __call__(self, step: Step, inputs: Sequence[Tensor], key: Hashable) -> tuple[Tensor, ...]:
        """Return what a step returns.

        Args:
            step: Takes `inputs` and nothing else that changes but in place; never waits for the
                device, and leaves no gradient behind.
            inputs: On the device, of the same shapes in each call.
            key: What else the step depends on: another one is captured anew.
        """
        if not self._is_used:
            return step(*inputs)
        if not self._inputs:
            self._inputs = [torch.empty_like(given) for given in inputs]
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._calls += 1
        if self._calls <= WARM_UP:
            return self._warmed_up(step)
        if self._graph is None or self._key != key:
            self._capture(step, key)
        if self._graph is None:
            return step(*self._inputs)
        self._graph.replay()
        self.replays += 1
        return tuple(output.clone() for output in self._outputs)

    def _warmed_up(self, step: Step) -> tuple[Tensor, ...]:
        """Return what a step returns, on a stream beside the main one, as a capture needs it."""
        main, beside = torch.cuda.current_stream(self._device), torch.cuda.Stream(self._device)
        beside.wait_stream(main)
        with torch.cuda.stream(beside):
            outputs = step(*self._inputs)
        main.wait_stream(beside)
        for output in outputs:
            output.record_stream(main)
        return outputs

    def _capture(self, step: Step, key: Hashable) -> None:
        """Capture a graph, of which nothing is computed yet; where that fails, never again."""
        self._graph, self._outputs = None, ()  # and their memory
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.device(self._device), torch.cuda.graph(graph):
                self._outputs = step(*self._inputs)
        except RuntimeError as error:
            self._is_used = False
            logger.warning(
                "the steps of this training are not captured as a graph, and take longer: %s",
                str(error).splitlines()[0],
            )
            return
        self._graph, self._key = graph, key
        self.captures += 1
