"""3×3 convolutions of float32 images on a CPU with 16 multiplications for 4 outputs and not 36 (winograd.c).

Twice as fast as torch's at ESDNet's sizes, forward and both gradients, and as exact; whole where native.py can compile,
else torch's own convolution serves. Images are in torch's channels-last order. The operators are registered:
`torch.ops.esdnet.conv3x3`, its gradients, and `conv3x3_affine`, with a norm's fixed map behind it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from esdnet import native

_SOURCE = "winograd.c"
# rows: what each of the four points of a transformed row takes of a kernel's row
_POINTS = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))
_FEWEST = 32
"""Channels below which torch's convolution is as fast."""


def library() -> ctypes.CDLL | None:
    """The compiled functions; None where torch's operations serve."""
    return native.fast(_SOURCE)


def fits(conv: nn.Conv2d) -> bool:
    """Whether that convolution is of the kind that is computed here, on this machine."""
    fit = native.lanes(_SOURCE)
    return (
        fit > 0
        and type(conv) is nn.Conv2d
        and conv.kernel_size == (3, 3)
        and conv.stride == conv.padding == conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.padding_mode == "zeros"
        and min(conv.in_channels, conv.out_channels) >= _FEWEST
        and conv.in_channels % fit == conv.out_channels % fit == 0
    )


def layout(images: Tensor) -> torch.memory_format:
    """The order of memory for a network of convolutions: channels last for these, and for a GPU's tensor cores."""
    suits = images.is_cuda or (images.device.type == "cpu" and native.lanes(_SOURCE) > 0)
    return torch.channels_last if suits else torch.contiguous_format


def usable(conv: nn.Conv2d, images: Tensor) -> bool:
    """Whether `convolve` may stand for `conv(images)`: it is the same within rounding."""
    return (
        images.device.type == "cpu"
        and images.dtype == conv.weight.dtype == torch.float32
        and images.numel() > 0
        and not torch.is_autocast_enabled("cpu")
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
    out = _room(images, K) if onto is None else onto
    scale, shift = (None if number is None else number.contiguous() for number in (scale, shift))
    lib: Any = library()
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


def _room(images: Tensor, channels: int) -> Tensor:
    """Uninitialised, channels last, of the images' size."""
    N, _, H, W = images.shape
    return images.new_empty((N, H, W, channels)).permute(0, 3, 1, 2)


def _serves(images: Tensor, weight: Tensor) -> bool:
    """Whether the compiled functions are there for an operator's call, which may have been recorded elsewhere."""
    fit = native.lanes(_SOURCE)
    return (
        fit > 0
        and images.device.type == "cpu"
        and images.dtype == weight.dtype == torch.float32
        and images.numel() > 0
        and all(channels % fit == 0 for channels in weight.shape[:2])
    )


@torch.library.custom_op("esdnet::conv3x3", mutates_args=())
def _conv3x3(images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if _serves(images, weight):
        return _run(images, _transformed(weight), shift=bias)
    return _room(images, len(weight)).copy_(F.conv2d(images, weight, bias, padding=1))


@_conv3x3.register_fake
def _(images: Tensor, weight: Tensor, *others: Tensor | None) -> Tensor:
    return _room(images, len(weight))


@torch.library.custom_op("esdnet::conv3x3_backward", mutates_args=())
def _conv3x3_backward(
    gradient: Tensor, images: Tensor, weight: Tensor, wants_images: bool, wants_weight: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of images and weight where they are wanted, else nothing in their place."""
    if not _serves(images, weight):
        to_images, to_weight, _ = torch.ops.aten.convolution_backward(
            gradient,
            images,
            weight,
            None,
            *([1, 1], [1, 1], [1, 1], False, [0, 0], 1),
            [wants_images, wants_weight, False],
        )
        if wants_images:
            to_images = _room(images, images.shape[1]).copy_(to_images)
        return tuple(gradient.new_empty(0) if made is None else made for made in (to_images, to_weight))  # type: ignore[return-value]
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    to_images = _run(gradient, _transformed(weight, turned=True)) if wants_images else gradient.new_empty(0)
    return to_images, _gradient_of_weight(gradient, images, weight) if wants_weight else gradient.new_empty(0)


def _gradient_of_weight(gradient: Tensor, images: Tensor, weight: Tensor) -> Tensor:
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
    return back.view(3, 3, C, K).permute(3, 2, 0, 1).contiguous()


@_conv3x3_backward.register_fake
def _(
    gradient: Tensor, images: Tensor, weight: Tensor, wants_images: bool, wants_weight: bool
) -> tuple[Tensor, Tensor]:
    return (
        _room(images, images.shape[1]) if wants_images else gradient.new_empty(0),
        weight.new_empty(weight.shape) if wants_weight else gradient.new_empty(0),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _conv3x3_differentiated(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    wants_images, wants_weight, wants_bias = ctx.needs_input_grad
    to_images, to_weight = _conv3x3_backward(gradient, *ctx.saved_tensors, wants_images, wants_weight)
    return (
        to_images if wants_images else None,
        to_weight if wants_weight else None,
        gradient.sum((0, 2, 3)) if wants_bias else None,
    )


_conv3x3.register_autograd(_conv3x3_differentiated, setup_context=_keep)


@torch.library.custom_op("esdnet::conv3x3_affine", mutates_args=())
def _conv3x3_affine(images: Tensor, weight: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    if _serves(images, weight):
        return _run(images, _transformed(weight), scale, shift)
    return affine(_room(images, len(weight)).copy_(F.conv2d(images, weight, padding=1)), scale, shift)


@_conv3x3_affine.register_fake
def _(images: Tensor, weight: Tensor, *others: Tensor) -> Tensor:
    return _room(images, len(weight))


@torch.library.custom_op("esdnet::conv3x3_affine_onto", mutates_args=("onto",))
def _conv3x3_affine_onto(onto: Tensor, images: Tensor, weight: Tensor, scale: Tensor, shift: Tensor) -> None:
    if _serves(images, weight) and onto.is_contiguous(memory_format=torch.channels_last):
        _run(images, _transformed(weight), scale, shift, onto)
    else:
        onto.add_(_conv3x3_affine(images, weight, scale, shift))


@register_flop_formula([torch.ops.esdnet.conv3x3, torch.ops.esdnet.conv3x3_affine])
def _operations(images: Any, weight: Any, *others: Any, out_shape: Any = None, **named: Any) -> int:
    N, _, H, W = images
    K, C = weight[:2]
    return 2 * 9 * int(N * H * W * C * K)


@register_flop_formula(torch.ops.esdnet.conv3x3_affine_onto)
def _operations_onto(onto: Any, images: Any, weight: Any, *others: Any, **named: Any) -> int:
    return _operations(images, weight)


@register_flop_formula(torch.ops.esdnet.conv3x3_backward)
def _operations_backward(
    gradient: Any, images: Any, weight: Any, wants_images: bool, wants_weight: bool, **named: Any
) -> int:
    return (wants_images + wants_weight) * _operations(images, weight)


def affine(images: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """`scale` times the images plus `shift`, a number a channel; each operation rounds, as in `convolve_and_scale`."""
    return images.mul(scale[:, None, None]).add_(shift[:, None, None])


def fixed_map(norm: Any) -> tuple[Tensor, Tensor]:
    """`scale` and `shift` of a batch norm at test time, made at each call: weights may have changed."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


def convolve(images: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(N, C, H, W) by (K, C, 3, 3) to (N, K, H, W), padded with one zero on every side; differentiable."""
    return _conv3x3(images, weight, bias)


def convolved(conv: nn.Conv2d, images: Tensor, through: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """`conv(images)`, computed here where that serves; or `through(images)`, of which `conv` is a part.

    Whoever waits for a module to be called is called, and sees what is computed without him.
    """
    if not usable(conv, images):
        return (through or conv)(images)
    if through is None and not native.hooked(conv):
        return convolve(images, conv.weight, conv.bias)
    with native.Instead(_convolution_of(conv)):
        return (through or conv)(images)


def normed(conv: nn.Conv2d, norm: nn.Module, images: Tensor) -> Tensor:
    """`norm(conv(images))` at test time with both called, and the arithmetic of `convolve_and_scale`."""
    fixed: _Told = (F.batch_norm, norm, lambda made, *others, **named: affine(made, *fixed_map(norm)))
    with native.Instead(_convolution_of(conv), fixed):
        return norm(conv(images))


_Told = tuple[Callable[..., Tensor], nn.Module, Callable[..., Tensor]]


def _convolution_of(conv: nn.Conv2d) -> _Told:
    return F.conv2d, conv, lambda images, weight, bias, *others: convolve(images, weight, bias)


def convolve_and_scale(
    images: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, onto: Tensor | None = None
) -> Tensor:
    """That times `scale` plus `shift`, a number a channel; added to `onto` in place, if given. Without gradients."""
    with torch.no_grad():
        if onto is None:
            return _conv3x3_affine(images, weight, scale, shift)
        onto = onto.contiguous(memory_format=torch.channels_last)
        _conv3x3_affine_onto(onto, images, weight, scale, shift)
        return onto
