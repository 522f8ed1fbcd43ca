"""Passes on a CPU: one thread each, so that features do not depend on the number of cores."""

import threading

import pytest
import torch

import backbones
from backbones import passes
from backbones.passes import passes_at_once, run_passes
from tests.helpers.frames import noise


def test_features_do_not_depend_on_the_number_of_cores() -> None:
    model = backbones.load("efficientnet_lite0", device="cpu")
    batch = model.preprocess(noise(5, 240, 320, 3))[None]
    found = []
    for threads in (1, 2, 3, 8):
        torch.set_num_threads(threads)
        found += [model.forward(batch), model.forward(batch, reproducible=False)]
        assert torch.get_num_threads() == threads
    assert all(torch.equal(features, found[0]) for features in found)
    assert model.pass_rule == "4 frames"


def test_a_pass_has_one_thread_and_there_are_as_many_as_cores(tiny) -> None:
    unknown, known = tiny(), tiny()
    known.shares = "clips"
    batch = known.preprocess(noise(4, 40, 50, 3))[None].expand(3, -1, -1, -1, -1)
    seen: list[tuple[int, int]] = []
    together = threading.Barrier(3)
    encode = known._encode

    def noted(pixels: torch.Tensor) -> torch.Tensor:
        seen.append((torch.get_num_threads(), threading.get_ident()))
        return encode(pixels)

    def waiting(pixels: torch.Tensor) -> torch.Tensor:
        together.wait(300)
        return noted(pixels)

    torch.set_num_threads(3)
    unknown._encode, known._encode = noted, waiting
    expected = unknown.forward(batch)
    assert [threads for threads, _ in seen] == [1, 1, 1]
    assert len({ident for _, ident in seen}) == 1  # nothing is known of this model: in turn
    assert torch.equal(known.forward(batch), expected)
    assert [threads for threads, _ in seen[3:]] == [1, 1, 1]
    assert len({ident for _, ident in seen[3:]}) == 3
    assert torch.get_num_threads() == 3


def test_a_lone_clip_that_cannot_be_shared_out_may_have_all_threads(tiny) -> None:
    model = tiny()
    batch = model.preprocess(noise(4, 40, 50, 3))[None]
    seen: list[int] = []
    encode = model._encode
    model._encode = lambda pixels: (seen.append(torch.get_num_threads()), encode(pixels))[1]
    torch.set_num_threads(3)
    lone = model.forward(batch, reproducible=False)
    assert seen == [3]
    torch.testing.assert_close(lone, model.forward(batch))
    assert seen == [3, 1]


def test_what_a_pass_raises_is_raised_and_what_has_not_begun_is_left_out() -> None:
    begun: list[float] = []
    raised = threading.Event()

    def fail(part: torch.Tensor) -> torch.Tensor:
        begun.append(float(part))
        if part:  # the pass that begins while the error is on its way
            raised.wait(300)
        raise KeyError("odd")

    with pytest.raises(KeyError, match="odd"):
        list(run_passes(fail, list(torch.arange(1000.0)), 1))
    raised.set()
    list(
        run_passes(lambda part: part, [torch.zeros(1)], 1)
    )  # in the same thread, after all of them
    assert begun in ([0], [0, 1])


def test_passes_that_do_not_fit_together_are_tried_in_turn() -> None:
    running = threading.Semaphore(1)

    def greedy(part: torch.Tensor) -> torch.Tensor:
        if threading.current_thread() in passes._pool(2)._threads:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        with running:
            return part + 1

    found = list(run_passes(greedy, list(torch.arange(4.0)), 2))
    assert torch.equal(torch.stack(found), torch.arange(4.0) + 1)


@pytest.mark.parametrize(("gigabytes", "at_once"), [(0, 1), (1, 1), (8, 3), (1000, 16), (None, 16)])
def test_memory_bounds_the_passes(monkeypatch, gigabytes, at_once) -> None:
    torch.set_num_threads(16)
    bytes_ = None if gigabytes is None else gigabytes << 30
    monkeypatch.setattr(passes, "available_bytes", lambda: bytes_)
    clip = torch.zeros(1, 24, 3, 256, 256, dtype=torch.uint8)  # 1.1 GiB a pass, as it is estimated
    assert passes_at_once(clip) == at_once
