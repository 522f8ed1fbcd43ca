"""A step that is replayed: when it is captured, what it is given, and where it cannot be."""

import logging
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from pipeline.training.graphs import WARM_UP, StepGraph


class Recorded:
    """What a graph of a GPU is: what was captured runs again, on the same tensors."""

    def __init__(self) -> None:
        self.work = lambda: None

    def replay(self) -> None:
        self.work()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> StepGraph:
    """A graph that is captured on the CPU, as if it were a GPU."""

    @contextmanager
    def nothing(*_):
        yield

    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name in ("stream", "device", "graph"):
        monkeypatch.setattr(torch.cuda, name, nothing)
    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: stream)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recorded)
    return StepGraph(torch.device("cuda"))


def test_other_devices_call_the_step_each_time() -> None:
    graph, given = StepGraph(torch.device("cpu")), torch.ones(2)
    assert graph(lambda x: (x,), [given], key=0)[0] is given
    assert graph.captures == graph.replays == 0


def test_a_step_is_captured_after_a_few_and_again_for_another_key(gpu: StepGraph) -> None:
    seen = []

    def step(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen.append(x)
        return (2 * x,)

    for number in range(WARM_UP + 4):
        key = number >= WARM_UP + 2
        (double,) = gpu(step, [torch.full((2,), float(number))], key=key)
        if number < WARM_UP:
            assert double.tolist() == [2.0 * number] * 2
    assert (len(seen), gpu.captures, gpu.replays) == (WARM_UP + 2, 2, 4)
    assert len({x.data_ptr() for x in seen}) == 1  # tensors of the graph's own
    assert seen[0].tolist() == [WARM_UP + 3.0] * 2


def test_a_step_that_cannot_be_captured_is_called_with_one_warning(gpu, monkeypatch, caplog):
    class Refusing:
        def __init__(self) -> None:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Refusing)
    with caplog.at_level(logging.WARNING):
        for number in range(WARM_UP + 3):
            (double,) = gpu(lambda x: (2 * x,), [torch.full((2,), float(number))], key=number)
            assert double.tolist() == [2.0 * number] * 2
    assert len(caplog.records) == 1
    assert caplog.messages[0].endswith("operation not permitted when stream is capturing")
    assert gpu.replays == 0
