"""The neuron on a CPU in C (native.c): compiled when first used, kept in the cache folder, never required.

Where there is no C compiler, or it fails, or `ESDNET_NATIVE=0`, `library` answers None and kernels.py computes the
same spikes with torch's operations. torch.compile does this too, but takes 24 to 44 s to start in every process
(measured; 2 to 3 s here, once a machine) and rounds bfloat16 where it likes.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor

_SOURCE = Path(__file__).with_name("native.c")
# spikes are equal to the last bit only if no two operations share one rounding
_EXACT = ("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
_TRIED = (
    ("-O3", "-march=native", "-mprefer-vector-width=512", "-fopenmp"),
    ("-O3", "-march=native", "-fopenmp"),
    ("-O3", "-march=native"),
    ("-O3",),
)
_TYPES = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}
_RESETS = ("zero", "subtract", "none")
_SURROGATES = ("sigmoid", "atan", "fast_sigmoid")
_SMALL = 1 << 15
"""Elements that are not worth a second thread."""


def _processor() -> str:
    """What code made for this machine depends on: a home folder may be shared by machines of several kinds."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return platform.processor()


def _build(compiler: str, name: str, target: Path) -> str | None:
    """Compile what is for one type to `target`; None, or what the compiler said."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        said = ""
        for flags in _TRIED:
            options = ["-std=c11", "-shared", "-fPIC", *flags, *_EXACT, f"-D{name.upper()}"]
            command = [compiler, *options, str(_SOURCE), "-o", str(made), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            if done.returncode == 0:
                made.replace(target)
                return None
            said = said or done.stderr
    return said.strip().splitlines()[0] if said.strip() else "no reason given"


@functools.cache
def library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The compiled functions for one type, or None. `ESDNET_NATIVE=0` keeps them from being used."""
    name = _TYPES.get(dtype)
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if os.environ.get("ESDNET_NATIVE") == "0" or not compiler or name is None:
        return None
    named = os.environ.get("ESDNET_CACHE") or Path(
        os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "esdnet-benchmark"
    )
    identity = "\n".join((_SOURCE.read_text(), compiler, _processor(), torch.__version__, repr(_TRIED)))
    target = Path(named) / "native" / f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    try:
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            failure = _build(compiler, name, target)
            if failure:
                raise OSError(failure)
        return ctypes.CDLL(str(target))
    except (OSError, subprocess.SubprocessError) as error:
        warnings.warn(f"no compiled neurons, torch's operations serve: {compiler}: {error}", stacklevel=2)
        return None


def usable(frames: Tensor) -> bool:
    """Whether the compiled functions take this tensor: dense, on the CPU, not being traced, and they exist."""
    if frames.device.type != "cpu" or type(frames) not in (Tensor, torch.nn.Parameter) or not frames.numel():
        return False
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return library(frames.dtype) is not None


def _channels_last(frames: Tensor) -> bool:
    return (
        frames.ndim == 5
        and not frames[0].is_contiguous()
        and frames[0].is_contiguous(memory_format=torch.channels_last)
    )


def _empty(like: Tensor, channels_last: bool) -> Tensor:
    if not channels_last:
        return torch.empty(like.shape, dtype=like.dtype)
    T, N, C, H, W = like.shape
    return torch.empty((T, N, H, W, C), dtype=like.dtype).permute(0, 1, 4, 2, 3)


def _dense(frames: Tensor, channels_last: bool) -> Tensor:
    """The same values with every step a block of memory in that order; the steps may be one and the same."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    if frames[0].is_contiguous(memory_format=layout) and (
        len(frames) == 1 or frames.stride(0) in (0, frames[0].numel())
    ):
        return frames
    return _empty(frames, channels_last).copy_(frames)


def _constants(
    beta: Tensor, threshold: Tensor, step: Tensor, channels_last: bool
) -> tuple[Tensor, Tensor, int]:
    """Both as one number, or both as one for each neuron of a step in its order of memory."""
    if beta.numel() == threshold.numel() == 1:
        return beta, threshold, 0
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return (
        beta.expand(step.shape).contiguous(memory_format=layout),
        threshold.expand(step.shape).contiguous(memory_format=layout),
        1,
    )


def _threads(frames: Tensor) -> int:
    return torch.get_num_threads() if frames.numel() > _SMALL else 1


def _address(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def forward(current: Tensor, beta: Tensor, threshold: Tensor, reset: str) -> Tensor:
    """Spikes of (T, N, ...), in its type and order of memory; `beta` and `threshold` are of its type."""
    channels_last = _channels_last(current)
    current = _dense(current, channels_last)
    beta, threshold, each = _constants(beta, threshold, current[0], channels_last)
    spikes = _empty(current, channels_last)
    function = getattr(library(current.dtype), f"{_TYPES[current.dtype]}_forward")
    function(
        _address(current),
        _address(spikes),
        ctypes.c_long(current[0].numel()),
        ctypes.c_long(current.stride(0) if len(current) > 1 else 0),
        ctypes.c_long(len(current)),
        _address(beta),
        _address(threshold),
        each,
        _RESETS.index(reset),
        _threads(current),
    )
    return spikes


def backward(
    current: Tensor,
    gradient: Tensor,
    beta: Tensor,
    threshold: Tensor,
    reset: str,
    surrogate: str,
    alpha: float,
    detach_reset: bool,
    wants_beta: bool,
    wants_threshold: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of `current`, and of `beta` and `threshold` for each neuron of a step where they are wanted.

    Raises:
        MemoryError: none left for the membranes of one block.
    """
    channels_last = _channels_last(current)
    current, gradient = _dense(current, channels_last), _dense(gradient, channels_last)
    if len(gradient) > 1 and gradient.stride(0) == 0:
        gradient = _empty(gradient, channels_last).copy_(gradient)
    each_beta, each_threshold, each = _constants(beta, threshold, current[0], channels_last)
    out = _empty(current, channels_last)
    wide = torch.promote_types(current.dtype, torch.float32)
    by_beta = torch.empty_like(out[0], dtype=wide) if wants_beta else None
    by_threshold = torch.empty_like(out[0], dtype=wide) if wants_threshold else None
    function = getattr(library(current.dtype), f"{_TYPES[current.dtype]}_backward")
    failed = function(
        _address(current),
        _address(gradient),
        _address(out),
        _address(by_beta),
        _address(by_threshold),
        ctypes.c_long(current[0].numel()),
        ctypes.c_long(current.stride(0) if len(current) > 1 else 0),
        ctypes.c_long(len(current)),
        _address(each_beta),
        _address(each_threshold),
        each,
        ctypes.c_double(alpha),
        _RESETS.index(reset),
        _SURROGATES.index(surrogate),
        int(detach_reset),
        _threads(current),
    )
    if failed:
        raise MemoryError("no memory for the membranes of one block of neurons")
    return out, by_beta, by_threshold
