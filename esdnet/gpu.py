"""The neuron on a GPU in Triton: the whole sequence in one kernel forward and one backward.

Written for any T, reset, surrogate and floating type. Checked on a CPU by Triton's interpreter; no GPU was at hand to
measure it. `DERAIN_NATIVE=0` leaves it out, as it does the compiled neuron of a CPU.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from typing import Any

import torch
from torch import Tensor

from esdnet import layout
from esdnet.native import RESETS, SURROGATES
from esdnet.owned import guard_triton

_BLOCK = 1024
_TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec("triton") is not None  # wheels for CPUs come without


def _start(kernel: str, current: Tensor, *arguments: Any, **constants: Any) -> None:
    guard_triton()
    import triton.language as tl

    from esdnet import triton_lif

    n = current[0].numel()
    getattr(triton_lif, kernel)[(-(-n // _BLOCK),)](
        current,
        *arguments,
        T=len(current),
        R=tl.float64 if current.dtype == torch.float64 else tl.float32,
        BLOCK=_BLOCK,
        enable_fp_fusion=False,
        **constants,
    )


def usable(frames: Tensor) -> bool:
    """Whether the kernels take this tensor: on a GPU, and Triton is there."""
    return (
        frames.is_cuda
        and _installed()
        and os.environ.get("DERAIN_NATIVE") != "0"
        and frames.numel() > 0
        and frames.dtype in _TYPES
    )


def forward(current: Tensor, beta: Tensor, threshold: Tensor, reset: str) -> Tensor:
    """Spikes of (T, N, ...), in its type and order of memory; `beta` and `threshold` are of its type."""
    current, stride, beta, threshold, each, channels_last = layout.blocks(current, beta, threshold)
    spikes = layout.empty(current, channels_last)
    _start(
        "forward",
        current,
        spikes,
        beta,
        threshold,
        current[0].numel(),
        stride,
        EACH=each,
        RESET=RESETS.index(reset),
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
    """Gradients of `current`, and of `beta` and `threshold` for each neuron of a step where they are wanted."""
    current, stride, beta, threshold, each, channels_last = layout.blocks(current, beta, threshold)
    gradient = layout.dense(gradient.to(current.dtype), channels_last)
    out = layout.empty(current, channels_last)
    by_beta, by_threshold = layout.sums(out, wants_beta, wants_threshold)
    _start(
        "backward",
        current,
        gradient,
        out,
        beta,
        threshold,
        out if by_beta is None else by_beta,
        out if by_threshold is None else by_threshold,
        current[0].numel(),
        stride,
        float(alpha),
        EACH=each,
        RESET=RESETS.index(reset),
        SURROGATE=SURROGATES.index(surrogate),
        DETACH=detach_reset,
        BETA=wants_beta,
        THETA=wants_threshold,
    )
    return out, by_beta, by_threshold
