"""The errors of this package."""

from data.errors import HeliographError, InvalidValueError, OutOfMemoryError


class BackboneError(HeliographError):
    """A failure that the user can act on; its message is one sentence with the reason."""


class BackboneValueError(BackboneError, InvalidValueError):
    """A name or value that is wrong in itself: a model, device or precision that does not exist."""


class GpuError(BackboneError):
    """A GPU failed: what it computes from now on cannot be trusted."""


_OUT_OF_MEMORY = (
    "out of memory",  # CUDA
    "ALLOC_FAILED",  # cuBLAS, cuDNN
    "can't allocate memory",  # torch on a CPU
    "not enough memory",
    "could not create a memory",  # oneDNN
)
_GPU = ("CUDA", "CUBLAS", "CUDNN", "cuBLAS", "cuDNN", "NVML", "MPS")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of Python, torch or CUDA is a lack of memory."""
    if isinstance(error, (MemoryError, OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


def machine_error(error: BaseException) -> HeliographError | None:
    """Return a sentence for what a machine, not its input, did to a computation; otherwise None."""
    if isinstance(error, (OutOfMemoryError, GpuError)):
        return error
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    gpu = isinstance(error, RuntimeError) and any(name in text for name in _GPU)
    if is_out_of_memory(error):
        return OutOfMemoryError(f"the {'GPU' if gpu else 'machine'} is out of memory")
    return GpuError(f"the GPU failed: {text}") if gpu else None
