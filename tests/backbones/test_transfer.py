"""The way of pixels to a device, on one without streams: same order, real numbers."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from backbones.transfer import LANES, Transfer

CPU = torch.device("cpu")


def test_every_caller_gets_the_result_of_its_own_batch():
    transfer = Transfer(CPU)
    batches = [torch.full((3, 2 + number % 4), number, dtype=torch.uint8) for number in range(40)]
    with ThreadPoolExecutor(8) as threads:
        sums = threads.map(lambda batch: transfer.run(torch.sum, batch).item(), batches)
        assert list(sums) == [batch.sum().item() for batch in batches]


def test_a_batch_travels_while_another_is_computed_and_computes_when_that_is_done():
    transfer, computing, sent = Transfer(CPU), [], threading.Event()
    copy = torch.Tensor.copy_

    def first(pixels: torch.Tensor) -> int:
        computing.append("first")
        assert sent.wait(30), "the second batch was not sent"
        computing.append("first ends")
        return int(pixels[0])

    def second(pixels: torch.Tensor) -> int:
        computing.append("second")
        return int(pixels[0])

    def noted(*args: torch.Tensor) -> torch.Tensor:
        copied = copy(*args)
        if computing:
            sent.set()
        return copied

    with ThreadPoolExecutor(LANES) as threads, pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "copy_", noted)
        one = threads.submit(transfer.run, first, torch.tensor([1]))
        while not computing:
            pass
        two = threads.submit(transfer.run, second, torch.tensor([2]))
        assert (one.result(), two.result()) == (1, 2)
    assert computing == ["first", "first ends", "second"]


def test_memory_is_used_again_and_grows_where_a_batch_is_larger():
    transfer, places = Transfer(CPU), []

    def place(pixels: torch.Tensor) -> None:
        places.append(pixels.data_ptr())

    for shape in [(4, 8), (4, 8), (2, 8), (8, 8), (4, 8)]:
        transfer.run(place, torch.zeros(shape, dtype=torch.uint8))
    assert places[0] == places[1] == places[2]
    assert places[3] == places[4]


def test_what_a_pass_raises_leaves_the_way_free():
    transfer = Transfer(CPU)
    batch = torch.zeros(2)

    def fail(pixels: torch.Tensor) -> None:
        raise RuntimeError("odd")

    for _ in range(2 * LANES):
        with pytest.raises(RuntimeError, match="odd"):
            transfer.run(fail, batch)
    assert transfer.run(torch.numel, batch) == 2
