"""Devices by name: the right ones are resolved, the others refused with a sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from backbones import BackboneError, BackboneValueError
from backbones.devices import resolve_device, resolve_devices
from backbones.precision import forward_precision, resolve_precision


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


ROOT = Path(__file__).resolve().parents[2]


def test_an_apple_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    mps = torch.device("mps")
    assert resolve_device("auto") == resolve_device("mps") == mps
    assert resolve_device("auto", auto=["cuda"]) == torch.device("cpu")
    assert resolve_precision("auto", mps) == resolve_precision("fp32", mps) == "fp32"
    for half in ("bf16", "fp16"):
        with pytest.raises(BackboneValueError, match=rf"the precision is fp32, not {half}"):
            resolve_precision(half, mps)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")


def test_an_apple_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(BackboneError, match="'mps' was asked for, but torch sees no Apple GPU"):
        resolve_device("mps")


def test_a_pass_on_an_apple_gpu_leaves_the_settings_of_others() -> None:
    on = torch.backends
    before = on.cuda.matmul.fp32_precision, on.mkldnn.matmul.fp32_precision
    with forward_precision(torch.device("mps"), "fp32"):
        assert (on.cuda.matmul.fp32_precision, on.mkldnn.matmul.fp32_precision) == before
        assert torch.is_inference_mode_enabled()
        assert not torch.is_autocast_enabled("mps")


@pytest.mark.parametrize("package", ["backbones", "pipeline.training"])
def test_what_an_apple_gpu_lacks_is_left_to_the_cpu(package: str) -> None:
    """torch looks at the variable when it is imported, so ours must come first."""
    code = (
        "import os, sys\n"
        "class Look:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'torch': sys.exit(os.environ.get('PYTORCH_ENABLE_MPS_FALLBACK'))\n"
        f"sys.meta_path.insert(0, Look())\nimport {package}, torch"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTORCH_ENABLE_MPS_FALLBACK"}
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert shown.stderr == "1\n"
