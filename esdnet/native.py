"""The neuron on a CPU in C (native.c): compiled when first used, kept in the cache folder, never required.

Where there is no C compiler, or it fails, or `DERAIN_NATIVE=0`, `library` answers None and kernels.py computes the
same spikes with torch's operations. torch.compile's own code for these takes 24 to 44 s to start in every process
(measured; 2 to 3 s here, once a machine) and leaves out roundings between bfloat16 operations.

Who watches or traces torch's operations sees the registered operators of kernels.py, winograd.py and attention.py
(`torch.ops.esdnet`): what is computed does not depend on it. Only `portable` leaves them out.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from esdnet import layout, owned

_FOLDER = Path(__file__).parent
_COMMON = ("-std=c11", "-D_POSIX_C_SOURCE=200809L", "-shared", "-fPIC", "-fno-math-errno")
_TRIED = (
    ("-O3", "-march=native", "-mprefer-vector-width=512", "-fopenmp"),
    ("-O3", "-march=native", "-fopenmp"),
    ("-O3", "-march=native"),
    ("-O3",),
)
# spikes are equal to the last bit only if no two operations share one rounding
_EXACT = ("-ffp-contract=off", "-fno-trapping-math")
_TYPES = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}
RESETS = ("zero", "subtract", "none")
SURROGATES = ("sigmoid", "atan", "fast_sigmoid")
_PATIENCE = 120.0
"""Seconds for the compiler: 2 to 3 are usual, more on a machine that is busy."""
_BUILDS = "build-"
_SMALL = 1 << 15
"""Elements that are not worth a second thread."""


def _processor() -> str:
    """What code made for this machine depends on: a home folder may be shared by machines of several kinds."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return platform.processor()


class _Hanging(OSError):  # noqa: N818
    """The compiler did not end: it will not be tried again in this process."""


_hanging: set[str] = set()


def _call(command: Sequence[str], until: float) -> tuple[int, str]:
    """Exit status and complaints of a compiler, which is ended with all that it started when its time is over."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said = process.communicate(timeout=max(1.0, until - time.monotonic()))[1]
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            _hanging.add(command[0])
            raise _Hanging(f"it did not end within {_PATIENCE:g} s") from None
        raise
    return process.returncode, said


def _build(compiler: str, source: Path, options: Sequence[str], folder: Path | None) -> bytes:
    """Compile `source` beside `folder`'s files, or in the system's folder for temporary ones.

    Raises:
        OSError: that failed; with what the compiler said.
    """
    if compiler in _hanging:
        raise _Hanging("it did not end the last time")
    until = time.monotonic() + _PATIENCE
    for left in folder.glob(f"{_BUILDS}*") if folder else ():  # by a process that was killed
        if time.time() - left.stat().st_mtime > 3600:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=_BUILDS) as place:
        made = Path(place) / f"{source.stem}.so"
        said = ""
        for flags in _TRIED:
            command = [compiler, *_COMMON, *flags, *options, str(source), "-o", str(made), "-lm"]
            status, complaint = _call(command, until)
            if status == 0:
                return made.read_bytes()
            said = said or complaint
    raise OSError(said.strip().splitlines()[0] if said.strip() else "no reason given")


def compiler() -> str | None:
    """The C compiler: $CC, else what is on the path."""
    return os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


asked: dict[str, bool] = {}
"""The C files that this process asked for, and whether their compiled functions serve."""


@functools.cache
def compiled(file: str, *options: str) -> ctypes.CDLL | None:
    """The functions of one C file beside this, or None. `DERAIN_NATIVE=0` keeps them from being used.

    What was compiled is kept in a folder of this user's own (`esdnet.owned`), with a digest; what is not whole, or
    might be somebody else's, is compiled anew. Where there is no such folder it is compiled for this process alone.
    """
    found = _compiled(file, options)
    asked[Path(file).name] = asked.get(Path(file).name, False) or found is not None
    return found


def _compiled(file: str, options: tuple[str, ...]) -> ctypes.CDLL | None:
    with_what = compiler()
    if os.environ.get("DERAIN_NATIVE") == "0" or not with_what:
        return None
    source = _FOLDER / file
    identity = "\n".join(
        (source.read_text(encoding="utf-8"), with_what, _processor(), repr((_COMMON, _TRIED, options)))
    )
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    folder = owned.own_folder("native")
    kept = None if folder is None else folder / f"{source.stem}-{key}.so"
    if folder is None:
        warnings.warn(
            f"{owned.cache() or 'no home'}: no folder there that this user alone can write to: kernels are compiled "
            "anew in every process (DERAIN_CACHE names another)",
            stacklevel=3,
        )
    try:
        code = None if kept is None else owned.unsealed(key, kept)
        if code is None:
            code = _build(with_what, source, options, folder)
            if kept is not None:
                _keep(kept, owned.seal(key, code))
        return owned.load(code, folder)
    except (OSError, subprocess.SubprocessError) as error:
        warnings.warn(f"{file} is not compiled, torch's operations serve: {with_what}: {error}", stacklevel=3)
        return None


def _keep(path: Path, content: bytes) -> None:
    """Write a file in one piece; a full disk is no reason not to use what was compiled."""
    with (
        contextlib.suppress(OSError),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=_BUILDS) as place,
    ):
        written = Path(place) / path.name
        written.write_bytes(content)
        written.chmod(0o600)
        written.replace(path)


def library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The compiled neuron for one type, or None."""
    name = _TYPES.get(dtype)
    return None if name is None else compiled("native.c", *_EXACT, f"-D{name.upper()}")


_portable = False


@contextlib.contextmanager
def portable() -> Iterator[None]:
    """Inside, in this whole process, networks are torch's own operations alone: for a file that must run elsewhere.

    Neurons pass no gradients there.
    """
    global _portable
    before, _portable = _portable, True
    try:
        yield
    finally:
        _portable = before


def is_portable() -> bool:
    """Whether torch's own operations alone are wanted, see `portable`."""
    return _portable


def fast(file: str) -> ctypes.CDLL | None:
    """The functions of a C file whose sums may round as the processor likes; None where torch's operations serve."""
    return None if _portable else compiled(file, "-ffp-contract=fast")


@torch.compiler.assume_constant_result
def lanes(file: str) -> int:
    """What the numbers of channels must be multiples of for that file's functions; 0 where torch's operations serve."""
    functions = fast(file)
    return 0 if functions is None else int(functions.lanes())


class Instead(TorchFunctionMode):
    """Inside, modules that are called compute functions of their weights otherwise: hooks see what is computed.

    Args:
        told: for each a function of torch, the module that calls it with its weight, and what is called in its place.
    """

    def __init__(self, *told: tuple[Callable[..., Tensor], torch.nn.Module, Callable[..., Tensor]]) -> None:
        super().__init__()
        self.told = told

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """As torch calls it: `func`, with what it is given."""
        named = kwargs or {}
        for function, module, instead in self.told:
            # asked for now: a hook before the call may have set it
            if func is function and any(given is module.weight for given in (*args, *named.values())):
                return instead(*args, **named)
        return func(*args, **named)


def plain(tensor: Tensor) -> bool:
    """Whether that is a tensor with values at an address of this process."""
    return tensor.device.type == "cpu" and type(tensor) in (Tensor, torch.nn.Parameter)


def hooked(module: torch.nn.Module) -> bool:
    """Whether somebody waits for that module to be called."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or torch.nn.modules.module._has_any_global_hook()
    )


def usable(frames: Tensor) -> bool:
    """Whether there is a compiled neuron for this tensor."""
    return plain(frames) and frames.numel() > 0 and library(frames.dtype) is not None


def threads(frames: Tensor) -> int:
    """How many are worth starting for a tensor of that size."""
    return torch.get_num_threads() if frames.numel() > _SMALL else 1


def address(tensor: Tensor | None) -> ctypes.c_void_p:
    """Where its values lie, as C wants it."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def forward(current: Tensor, beta: Tensor, threshold: Tensor, reset: str) -> Tensor:
    """Spikes of (T, N, ...), in its type and order of memory; `beta` and `threshold` are of its type.

    Raises:
        MemoryError: none left for the membranes of a few blocks.
    """
    current, stride, beta, threshold, each, channels_last = layout.blocks(current, beta, threshold)
    spikes = layout.empty(current, channels_last)
    function = getattr(library(current.dtype), f"{_TYPES[current.dtype]}_forward")
    failed = function(
        address(current),
        address(spikes),
        ctypes.c_long(current.numel() // len(current)),
        ctypes.c_long(stride),
        ctypes.c_long(len(current)),
        address(beta),
        address(threshold),
        each,
        RESETS.index(reset),
        threads(current),
    )
    _check(failed)
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
        MemoryError: as `forward`.
    """
    current, stride, beta, threshold, each, channels_last = layout.blocks(current, beta, threshold)
    gradient = layout.dense(gradient, channels_last)
    out = layout.empty(current, channels_last)
    by_beta, by_threshold = layout.sums(out, wants_beta, wants_threshold)
    function = getattr(library(current.dtype), f"{_TYPES[current.dtype]}_backward")
    failed = function(
        address(current),
        address(gradient),
        address(out),
        address(by_beta),
        address(by_threshold),
        ctypes.c_long(current.numel() // len(current)),
        ctypes.c_long(stride),
        ctypes.c_long(len(current)),
        address(beta),
        address(threshold),
        each,
        ctypes.c_double(alpha),
        RESETS.index(reset),
        SURROGATES.index(surrogate),
        int(detach_reset),
        threads(current),
    )
    _check(failed)
    return out, by_beta, by_threshold


def _check(failed: int) -> None:
    if failed:
        raise MemoryError("no memory for the membranes of a few blocks of neurons")
