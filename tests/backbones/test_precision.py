"""Precision: named by the user, set for a forward pass alone, and restored afterwards."""

import threading
from dataclasses import replace

import pytest
import torch

import backbones
from backbones import registry
from backbones.precision import (
    cpu_matmul_setting,
    fast_float32,
    forward_precision,
    resolve_precision,
)
from tests.helpers.frames import noise
from tests.helpers.tiny_backbone import MAPPED_ENTRY, build_mapped


def test_features_do_not_depend_on_what_the_process_has_set(tiny) -> None:
    model = tiny()
    batch = model.preprocess(noise(4, 40, 50, 3))[None]
    expected = model.forward(batch)
    mkldnn = torch.backends.mkldnn
    before = mkldnn.matmul.fp32_precision, torch.get_default_dtype(), torch.get_num_threads()
    try:
        mkldnn.matmul.fp32_precision = "ieee"
        torch.set_default_dtype(torch.float64)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(model.forward(batch), expected)
        assert mkldnn.matmul.fp32_precision == "ieee"
    finally:
        mkldnn.matmul.fp32_precision = before[0]
        torch.set_default_dtype(before[1])
    assert torch.get_num_threads() == before[2]


def test_settings_come_back_after_an_error() -> None:
    before = torch.backends.mkldnn.matmul.fp32_precision

    def fail() -> None:
        with forward_precision(torch.device("cpu"), "fp32"):
            assert torch.backends.mkldnn.matmul.fp32_precision == cpu_matmul_setting()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_foreign_code_may_set_cudnn_within_a_pass_on_a_gpu() -> None:
    """torch raises where its settings for TF32 contradict one another."""
    on = torch.backends.cudnn
    before = on.allow_tf32, on.conv.fp32_precision, on.rnn.fp32_precision
    with forward_precision(torch.device("cuda", 0), "fp32"):
        with on.flags(enabled=True, allow_tf32=False):
            pass
        assert not on.allow_tf32
        assert on.conv.fp32_precision != "tf32"  # torch leaves "none": as the process, and not TF32
    assert (on.allow_tf32, on.conv.fp32_precision, on.rnn.fp32_precision) == before


def test_threads_do_not_disturb_each_other(tiny) -> None:
    model, half = tiny(), tiny(precision="bf16")
    batch = model.preprocess(noise(4, 40, 50, 3))[None]
    expected = {m.precision: m.forward(batch) for m in (model, half)}
    wrong: list[str] = []

    def work(m: backbones.Backbone) -> None:
        if not all(torch.equal(m.forward(batch), expected[m.precision]) for _ in range(20)):
            wrong.append(m.precision)

    threads = [threading.Thread(target=work, args=(m,)) for m in (model, half, model, half)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(("precision", "cosine"), [("bf16", 0.999), ("fp16", 0.9999)])
def test_lower_precision_gives_nearly_the_same_features(tiny, precision, cosine) -> None:
    exact, rough = tiny(), tiny(precision=precision)
    batch = exact.preprocess(noise(4, 40, 50, 3))[None]
    a, b = exact.forward(batch), rough.forward(batch)
    assert b.dtype == torch.float32
    assert not torch.equal(a, b)
    assert float(torch.cosine_similarity(a.flatten(), b.flatten(), dim=0)) > cosine


def test_the_float32_of_this_cpu_is_float32(tiny) -> None:
    x = torch.randn(64, 512, generator=torch.Generator().manual_seed(1))
    with forward_precision(torch.device("cpu"), "fp32"):
        product = torch.nn.functional.linear(x, x)
    exact = x.double() @ x.double().T
    assert float((product - exact).norm() / exact.norm()) < 1e-6


def test_auto_precision_on_a_cpu_is_float32(tiny) -> None:
    assert tiny().precision == "fp32"
    assert repr(tiny()) == "Backbone(tiny, dim=5, frames_per_step=2, fp32 on cpu)"


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "fp32"), ((8, 0), "bf16")])
def test_auto_takes_bfloat16_only_where_the_gpu_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: str
) -> None:
    """Torch says of a T4 (7.5), too, that it supports bfloat16: it emulates it."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolve_precision("auto", torch.device("cuda", 0)) == precision
    assert resolve_precision("auto", torch.device("cuda", 0), motion=True) == "fp32"
    assert resolve_precision("bf16", torch.device("cuda", 0), motion=True) == "bf16"


@pytest.mark.parametrize(
    ("output", "asked", "precision"),
    [
        (None, "auto", "bf16"),
        ("grid2", "auto", "bf16"),
        ("motion", "auto", "fp32"),
        ("grid2+motion3", "auto", "fp32"),
        ("motion3", "bf16", "bf16"),
        ("motion3", "fp16", "fp16"),
    ],
)
def test_motion_on_a_gpu_is_float32_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch, output: str | None, asked: str, precision: str
) -> None:
    monkeypatch.setattr(registry, "resolve_device", lambda name: torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    built: list[str] = []

    def build(options: backbones.LoadOptions) -> backbones.Backbone:
        built.append(options.precision)
        return build_mapped(replace(options, device=torch.device("cpu")))

    monkeypatch.setitem(backbones.BACKBONES, "mapped", replace(MAPPED_ENTRY, build=build))
    model = backbones.load("mapped", precision=asked, output=output)
    assert built == [precision]
    assert model.fingerprint["precision"] == precision


def test_a_backbone_may_be_made_of_others(tiny) -> None:
    inner, outer = tiny(), tiny()
    batch = inner.preprocess(noise(4, 40, 50, 3))[None]
    expected = inner.forward(batch)
    outer._encode = lambda pixels: inner.forward(batch)
    found: list[torch.Tensor] = []
    thread = threading.Thread(target=lambda: found.append(outer.forward(batch)), daemon=True)
    thread.start()
    thread.join(300)
    assert found, "it waits for itself"
    assert torch.equal(found[0], expected)


def test_fast_float32_is_float32_and_leaves_no_trace() -> None:
    before = torch.get_float32_matmul_precision()
    a, b = torch.randn(64, 512), torch.randn(512, 64)
    with fast_float32(torch.device("cpu")):
        error = (a @ b - (a.double() @ b.double())).abs().max()
    assert error < 1e-4
    assert torch.get_float32_matmul_precision() == before
