"""A GPU that is not there: tensors that claim to be on `cuda`, as torch's fake tensors do.

The host's tensors are real, the device's are fake: they have a shape, a type and a device, and no
numbers. What comes back to the host is zeros. So whole commands run, and all that they ask of the
device is counted.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

CUDA, META = torch.device("cuda", 0), torch.device("meta")
ATEN = torch.ops.aten
PINNING = (ATEN._pin_memory, ATEN.pin_memory)

WITHOUT_KERNEL = {  # they make a view that is no view to torch, or memory without numbers
    ATEN.empty, ATEN.empty_like, ATEN.empty_strided, ATEN.new_empty, ATEN.new_empty_strided,
    ATEN._unsafe_view, ATEN._reshape_alias, ATEN.detach, ATEN.lift, ATEN.lift_fresh, ATEN.set_,
    ATEN.resize_, ATEN.is_pinned,
}  # fmt: skip


@dataclass
class Work:
    """What a fake GPU was asked to do.

    Attributes:
        kernels: Operations that would launch a kernel, by name: one each, though some (a sort, a
            `_foreach` over many tensors) launch several.
        to_device: Copies from the host.
        pageable: Those of them from memory that is not pinned, before which the host waits.
        to_host: Copies to the host, for which it waits.
        scalars: Numbers that the host waits for (`_local_scalar_dense`).
        doubles: Results in float64, which an Apple GPU does not have.
        live_bytes: Of the memory that is in use.
        peak_bytes: The most that ever was.
    """

    kernels: Counter[str] = field(default_factory=Counter)
    to_device: int = 0
    pageable: int = 0
    to_host: int = 0
    scalars: int = 0
    doubles: int = 0
    live_bytes: int = 0
    peak_bytes: int = 0

    @property
    def launches(self) -> int:
        """How many kernels there were, of any name."""
        return self.kernels.total()

    @property
    def waits(self) -> int:
        """How often the host waits for the device."""
        return self.pageable + self.to_host + self.scalars


class FakeGpu(TorchDispatchMode):
    """A mode in which `cuda` is fake, and the host is real; `work` is what was asked of it so far.

    Args:
        differentiable: Whether C++ is told that fake tensors are on `meta`, without which torch's
            autograd looks for the streams of a GPU. Autocast then casts nothing.
    """

    def __init__(self, *, differentiable: bool = False) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=False)
        self.work = Work()
        self._differentiable = differentiable
        self._counted: dict[int, int] = {}  # storage -> bytes
        self._pinned: set[int] = set()  # storages of the host
        self._stack = ExitStack()

    def __enter__(self) -> FakeGpu:
        """Begin."""
        # as FakeTensorMode does it by itself where torch says that it has no GPU
        self._stack.callback(torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True)
        torch._C._ensureCUDADeviceGuardSet()
        self._stack.enter_context(self.fake)
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        """End; what is fake stays so."""
        super().__exit__(*exception)
        self._stack.close()

    @contextmanager
    def counting(self) -> Iterator[Work]:
        """Count what a block asks for, from nothing but the memory that is in use."""
        self.work = self._fresh()
        try:
            yield self.work
        finally:
            self.work = self._fresh()

    def _fresh(self) -> Work:
        live = self.work.live_bytes
        return Work(live_bytes=live, peak_bytes=live)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation on the host or on the fake device."""
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:
            return META if self._differentiable else args[0].fake_device
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        fakes = [tensor for tensor in tensors if isinstance(tensor, FakeTensor)]
        target = kwargs.get("device")
        to = None if target is None else torch.device(target).type
        if self._differentiable and to == "meta":  # what C++ takes from a fake tensor
            kwargs, to = {**kwargs, "device": CUDA}, "cuda"
        if not fakes and to != "cuda":
            return self._on_host(func, args, kwargs)
        if func._can_decompose():  # which inference mode leaves as it is
            super().__enter__()
            try:
                return func.decompose(*args, **kwargs)
            finally:
                super().__exit__(None, None, None)
        packet = func.overloadpacket
        if packet is ATEN._local_scalar_dense:
            self.work.scalars += 1
            return {torch.bool: False}.get(args[0].dtype, 0.0 if args[0].is_floating_point() else 0)
        if packet is ATEN._to_copy and (to == "cpu" or not fakes):
            return self._copy_back(args[0], kwargs) if fakes else self._send(func, args, kwargs)
        if packet is ATEN.copy_ and len(fakes) == 1 and tensors[1].ndim:
            if fakes[0] is args[1]:
                self.work.to_host += 1
                with unset_fake_temporarily():
                    return args[0].zero_()
            self._note_sending(args[1])
            return args[0]
        return self._on_device(func, args, kwargs)

    def _on_host(self, func: Any, args: Any, kwargs: Any) -> Any:
        packet = func.overloadpacket
        with unset_fake_temporarily():
            if packet is ATEN.is_pinned:
                return args[0].untyped_storage()._cdata in self._pinned
            pinned = packet in PINNING or kwargs.get("pin_memory")
            if packet in PINNING:
                result = args[0].clone()
            else:
                result = func(*args, **{**kwargs, "pin_memory": False} if pinned else kwargs)
            if pinned:
                key = result.untyped_storage()._cdata
                self._pinned.add(key)
                weakref.finalize(result.untyped_storage(), self._pinned.discard, key)
            return result

    def _on_device(self, func: Any, args: Any, kwargs: Any) -> Any:
        def numbers(tensor: Tensor) -> Tensor:
            if isinstance(tensor, FakeTensor):
                return tensor
            if tensor.ndim:
                raise AssertionError(f"{func} takes {tuple(tensor.shape)} of the host beside cuda")
            return self.fake.from_tensor(tensor)

        args, kwargs = tree_map_only(Tensor, numbers, (args, kwargs))
        result = func(*args, **kwargs)
        if not func.is_view and func.overloadpacket not in WITHOUT_KERNEL:
            self.work.kernels[str(func.overloadpacket)] += 1
        self._note_memory(result)
        return result

    def _send(self, func: Any, args: Any, kwargs: Any) -> Any:
        self._note_sending(args[0])
        result = func(self.fake.from_tensor(args[0]), *args[1:], **kwargs)
        self._note_memory(result)
        return result

    def _note_sending(self, source: Tensor) -> None:
        self.work.to_device += 1
        if source.untyped_storage()._cdata not in self._pinned:
            self.work.pageable += 1

    def _copy_back(self, source: Tensor, kwargs: Any) -> Tensor:
        self.work.to_host += 1
        with unset_fake_temporarily():
            return torch.zeros(source.shape, dtype=kwargs.get("dtype") or source.dtype)

    def _note_memory(self, result: Any) -> None:
        for tensor in tree_leaves(result):
            if isinstance(tensor, FakeTensor) and tensor.fake_device.type == "cuda":
                storage = tensor.untyped_storage()
                self.work.doubles += tensor.dtype == torch.float64
                if storage._cdata not in self._counted:
                    self._counted[storage._cdata] = size = storage.nbytes()
                    self.work.live_bytes += size
                    self.work.peak_bytes = max(self.work.peak_bytes, self.work.live_bytes)
                    weakref.finalize(storage, self._forget, storage._cdata)

    def _forget(self, key: int) -> None:
        self.work.live_bytes -= self._counted.pop(key)


def claim_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch say that there is an H100."""
    answers = {
        "is_available": True,
        "device_count": 1,
        "get_device_capability": (9, 0),
        "get_device_name": "NVIDIA H100 (not there)",
        "is_bf16_supported": True,
        "current_device": 0,
        "synchronize": None,
        "Stream": SimpleNamespace(synchronize=lambda: None, wait_stream=lambda other: None),
        "mem_get_info": (70 << 30, 80 << 30),
        "empty_cache": None,
    }
    answers["current_stream"] = answers["Stream"]
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(torch.cuda, "graph", nullcontext)  # what is captured is counted
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: None))
    monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: None)
    monkeypatch.setattr(torch.nn.Module, "_apply", _apply)


def _apply(module: torch.nn.Module, change: Callable[[Tensor], Tensor]) -> torch.nn.Module:
    """Change a module's tensors as torch does, which cannot put fake ones in their place."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                part._parameters[name] = torch.nn.Parameter(change(weight), requires_grad=False)
        for name, tensor in part._buffers.items():
            if tensor is not None:
                part._buffers[name] = change(tensor)
    return module
