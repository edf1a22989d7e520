"""3×3 convolutions of float32 images on a CPU with 16 multiplications for 4 outputs and not 36 (winograd.c).

Twice as fast as torch's at ESDNet's sizes, forward and both gradients, and as exact; whole where native.py can compile,
else torch's own convolution serves. Images are in torch's channels-last order.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from esdnet import native

# rows: what each of the four points of a transformed row takes of a kernel's row
_POINTS = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))
_FEWEST = 32
"""Channels below which torch's convolution is as fast."""


def library() -> ctypes.CDLL | None:
    """The compiled functions; None where torch's operations serve."""
    return native.compiled("winograd.c", "-ffp-contract=fast")


def fits(conv: nn.Conv2d) -> bool:
    """Whether that convolution is of the kind that is computed here, on this machine."""
    lib = library()
    return (
        lib is not None
        and conv.kernel_size == (3, 3)
        and conv.stride == conv.padding == conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.padding_mode == "zeros"
        and min(conv.in_channels, conv.out_channels) >= _FEWEST
        and conv.in_channels % lib.lanes() == conv.out_channels % lib.lanes() == 0
    )


def layout(images: Tensor) -> torch.memory_format:
    """The order of memory for a network of convolutions: channels last for these, and for a GPU's tensor cores."""
    suits = images.is_cuda or (native.plain(images) and library() is not None)
    return torch.channels_last if suits else torch.contiguous_format


def usable(conv: nn.Conv2d, images: Tensor) -> bool:
    """Whether `convolve`, and its bias, may stand for `conv(images)`: the same within rounding, and nobody looks on."""
    return (
        native.plain(images)
        and images.dtype == conv.weight.dtype == torch.float32
        and images.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and not native.hooked(conv)
        and not native.watched()
        and fits(conv)
    )


def _transformed(weight: Tensor, turned: bool = False) -> Tensor:
    """(16, in, out) from (out, in, 3, 3); for the gradient of the images (16, out, in), of the kernels turned."""
    K, C = weight.shape[:2]
    made = weight.new_empty((16, K, C) if turned else (16, C, K))
    lib: Any = library()
    source = weight.contiguous()
    lib.transform_weights(
        native.address(source),
        native.address(made),
        ctypes.c_long(K),
        ctypes.c_long(C),
        int(turned),
        torch.get_num_threads(),
    )
    return made


def _run(
    images: Tensor,
    transformed: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    onto: Tensor | None = None,
) -> Tensor:
    images = images.contiguous(memory_format=torch.channels_last)
    N, C, H, W = images.shape
    K = transformed.shape[2]
    out = images.new_empty((N, H, W, K)).permute(0, 3, 1, 2) if onto is None else onto
    lib: Any = library()
    with torch.profiler.record_function("esdnet::winograd"):  # profilers see torch's operations alone
        failed = lib.convolve(
            native.address(images),
            native.address(transformed),
            native.address(out),
            *map(ctypes.c_long, (N, H, W, C, K)),
            native.address(scale),
            native.address(shift),
            int(onto is not None),
            torch.get_num_threads(),
        )
    if failed:
        raise MemoryError("no memory for a block of a convolution")
    return out


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(images, weight)
        return _run(images, _transformed(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        images, weight = ctx.saved_tensors
        gradient = grads[0].contiguous(memory_format=torch.channels_last)
        by_images = by_weight = None
        if ctx.needs_input_grad[0]:
            by_images = _run(gradient, _transformed(weight, turned=True))
        if ctx.needs_input_grad[1]:
            images = images.contiguous(memory_format=torch.channels_last)
            threads = torch.get_num_threads()
            N, C, H, W = images.shape
            K = weight.shape[0]
            parts = weight.new_zeros((threads, 16, C, K))
            lib: Any = library()
            failed = lib.differentiate_weights(
                native.address(images),
                native.address(gradient),
                native.address(parts),
                *map(ctypes.c_long, (N, H, W, C, K)),
                threads,
            )
            if failed:
                raise MemoryError("no memory for a block of a convolution")
            points = weight.new_tensor(_POINTS)
            back = torch.kron(points, points).T @ parts.sum(0).view(16, C * K)
            by_weight = back.view(3, 3, C, K).permute(3, 2, 0, 1).contiguous()
        return by_images, by_weight


def convolve(images: Tensor, weight: Tensor) -> Tensor:
    """(N, C, H, W) by (K, C, 3, 3) to (N, K, H, W), padded with one zero on every side; differentiable."""
    return _Convolution.apply(images, weight)


def convolved(conv: nn.Conv2d, images: Tensor) -> Tensor:
    """`conv(images)`, computed here where that serves."""
    if not usable(conv, images):
        return conv(images)
    made = convolve(images, conv.weight)
    return made if conv.bias is None else made + conv.bias[:, None, None]


def convolve_and_scale(
    images: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, onto: Tensor | None = None
) -> Tensor:
    """That times `scale` plus `shift`, a number a channel; added to `onto` in place, if given. Without gradients."""
    with torch.no_grad():
        if onto is not None and not onto.is_contiguous(memory_format=torch.channels_last):
            onto = onto.contiguous(memory_format=torch.channels_last)
        return _run(images, _transformed(weight), scale.contiguous(), shift.contiguous(), onto)
