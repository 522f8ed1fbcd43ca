"""Devices by name: the right ones are resolved, the others refused with a sentence."""

import pytest
import torch

from backbones import BackboneError, BackboneValueError
from backbones.devices import resolve_device, resolve_devices


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused(tiny) -> None:
    with pytest.raises(BackboneError, match="'cuda' was asked for, but torch sees no CUDA GPU"):
        tiny(device="cuda")


def test_a_gpu_of_a_number_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(BackboneError, match="'cuda:2' was asked for, but torch sees 2 here"):
        resolve_device("cuda:2")


def test_several_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_devices("cpu,cpu") == ["cpu", "cpu"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert resolve_devices("cuda:all") == ["cuda:0", "cuda:1", "cuda:2"]
    assert resolve_devices("cuda:1,cuda:0") == ["cuda:1", "cuda:0"]
    with pytest.raises(BackboneValueError, match=r"devices of one kind, not of cpu and cuda$"):
        resolve_devices("cpu,cuda:0")
    with pytest.raises(BackboneValueError, match="no device ''"):
        resolve_devices("cpu,")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackboneError, match="'cuda:all' was asked for, but torch sees no CUDA GPU"):
        resolve_devices("cuda:all")
