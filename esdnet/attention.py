"""Mixed attention on a CPU in few passes over the frames (attention.c); nothing of the frames' size is kept but them.

What is small, the gates and the convolution of the maps, stays torch's, forward and backward. Each pass is a registered
operator (`torch.ops.esdnet.attention_*`). They share one gradient of the frames, which the first writes when the others
have said what they have to add: each by itself would write its own, and they would have to be added up.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from esdnet import layout, native

_SOURCE = "attention.c"


def library() -> ctypes.CDLL | None:
    """The compiled functions; None where torch's operations serve."""
    return native.fast(_SOURCE)


def usable(frames: Tensor) -> bool:
    """Whether `attend` takes these frames: float32, channels last, a fit number of them."""
    if frames.device.type != "cpu" or frames.dtype != torch.float32 or frames.numel() == 0:
        return False
    if torch.is_autocast_enabled("cpu"):
        return False
    fit = native.lanes(_SOURCE)
    return fit > 0 and layout.is_channels_last(frames) and frames.shape[2] % fit == 0


def _call(name: str, *arguments: Tensor | None, shape: torch.Size, parts: int) -> None:
    T, N, C, H, W = shape
    lib = library()
    if lib is None:
        raise RuntimeError("mixed attention was recorded with a C compiler at hand, and there is none here")
    function = getattr(lib, name)
    function(*map(native.address, arguments), *map(ctypes.c_long, (T, N, H * W, C)), parts)


def _parts(frames: Tensor) -> int:
    return min(native.threads(frames), frames.shape[3] * frames.shape[4])


@torch.library.custom_op("esdnet::attention_pool", mutates_args=())
def _pool(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Means and maxima over H and W, (T, N, C)."""
    T, N, C, H, W = frames.shape
    parts = _parts(frames)
    sums, maxima = frames.new_empty((2, parts, T, N, C))
    _call("pool", frames, sums, maxima, shape=frames.shape, parts=parts)
    return sums.sum(0) / (H * W), maxima.amax(0)


@_pool.register_fake
def _(frames: Tensor) -> tuple[Tensor, Tensor]:
    return frames.new_empty(frames.shape[:3]), frames.new_empty(frames.shape[:3])


@torch.library.custom_op("esdnet::attention_map", mutates_args=())
def _map(frames: Tensor, weights: Tensor) -> Tensor:
    """Mean and maximum of the weighted frames over T and C, (N, 2, H, W)."""
    N, (H, W) = frames.shape[1], frames.shape[3:]
    maps = frames.new_empty((2, N, H, W))
    _call("map", frames, weights, maps[0], maps[1], shape=frames.shape, parts=_parts(frames))
    return maps.transpose(0, 1).clone(memory_format=torch.contiguous_format)


@_map.register_fake
def _(frames: Tensor, weights: Tensor) -> Tensor:
    N, (H, W) = frames.shape[1], frames.shape[3:]
    return frames.new_empty((N, 2, H, W))


@torch.library.custom_op("esdnet::attention_gate", mutates_args=())
def _gate(frames: Tensor, weights: Tensor, marks: Tensor, base: Tensor | None) -> Tensor:
    """max(frames · weights · marks, 0), on top of `base`."""
    out = layout.empty(frames, True)
    _call("gate", frames, weights, marks, base, out, shape=frames.shape, parts=_parts(frames))
    return out


@_gate.register_fake
def _(frames: Tensor, *others: Tensor | None) -> Tensor:
    return layout.empty(frames, True)


@torch.library.custom_op("esdnet::attention_gate_backward", mutates_args=())
def _gate_backward(
    frames: Tensor, weights: Tensor, marks: Tensor, gradient: Tensor, maxima: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of marks and weights, and how many pixels are as large as the largest, (T, N, C)."""
    T, N, C = frames.shape[:3]
    parts = _parts(frames)
    to_marks = torch.empty_like(marks)
    to_weights, ties = frames.new_empty((2, parts, T, N, C))
    passing = (frames, weights, marks, gradient, maxima)
    _call("gate_back", *passing, to_marks, to_weights, ties, shape=frames.shape, parts=parts)
    return to_marks, to_weights.sum(0), ties.sum(0)


@_gate_backward.register_fake
def _(frames: Tensor, weights: Tensor, marks: Tensor, *others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(marks), torch.empty_like(weights), torch.empty_like(weights)


@torch.library.custom_op("esdnet::attention_map_backward", mutates_args=())
def _map_backward(
    frames: Tensor, weights: Tensor, map_maxima: Tensor, to_means: Tensor, to_maxima: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradient of the weights, and what each of the equally large has of the gradient of the largest."""
    T, N, C = frames.shape[:3]
    parts = _parts(frames)
    shares = to_maxima.clone()
    to_weights = frames.new_empty((parts, T, N, C))
    _call(
        "map_back", frames, weights, map_maxima, to_means, shares, to_weights, shape=frames.shape, parts=parts
    )
    return to_weights.sum(0), shares


@_map_backward.register_fake
def _(
    frames: Tensor, weights: Tensor, map_maxima: Tensor, to_means: Tensor, to_maxima: Tensor
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(weights), torch.empty_like(to_maxima)


@torch.library.custom_op("esdnet::attention_finish", mutates_args=())
def _finish(
    frames: Tensor,
    weights: Tensor,
    marks: Tensor,
    gradient: Tensor,
    map_maxima: Tensor,
    to_means: Tensor,
    shares: Tensor,
    maxima: Tensor,
    every: Tensor,
    top: Tensor,
) -> Tensor:
    """Gradient of the frames, from what all others have."""
    out = layout.empty(frames, True)
    passing = (frames, weights, marks, gradient, map_maxima, to_means, shares, maxima, every, top)
    _call("finish", *passing, out, shape=frames.shape, parts=_parts(frames))
    return out


@_finish.register_fake
def _(frames: Tensor, *others: Tensor) -> Tensor:
    return layout.empty(frames, True)


Weigh = Callable[[Tensor, Tensor], Tensor]
Mark = Callable[[Tensor], Tensor]


@dataclass
class _Shared:
    """What one call's backward passes leave for that of the pools, the last; weights and marks are the forward's."""

    wanted: bool
    weights: Tensor | None = None
    marks: Tensor | None = None
    gate: tuple[Tensor, ...] = ()  # gradient, ties
    map: tuple[Tensor, ...] = ()  # maxima, gradient of the means, share of the largest


class _Pooled(torch.autograd.Function):
    """Means and maxima, and a token: who takes it has its backward pass before this one's."""

    @staticmethod
    def forward(ctx: Any, frames: Tensor, shared: _Shared) -> tuple[Tensor, Tensor, Tensor]:
        means, maxima = _pool(frames)
        ctx.save_for_backward(frames, maxima)
        ctx.shared = shared
        return means, maxima, frames.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        frames, maxima = ctx.saved_tensors
        shared: _Shared = ctx.shared
        N, (H, W) = frames.shape[1], frames.shape[3:]
        weights, marks = shared.weights, shared.marks
        assert weights is not None and marks is not None
        if not shared.gate:  # somebody asked for gradients of the weights alone
            nothing = torch.zeros_like(frames)
            shared.gate = nothing, _gate_backward(frames, weights, marks, nothing, maxima)[2]
        gradient, ties = shared.gate
        map_maxima, to_means, shares = shared.map or [frames.new_zeros((N, H, W))] * 3
        shared.gate = shared.map = ()
        every, top = (grads[0] / (H * W)).contiguous(), (grads[1] / ties).contiguous()
        passing = (frames, weights, marks, gradient, map_maxima, to_means, shares, maxima, every, top)
        return _finish(*passing), None


class _Mapped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, frames: Tensor, weights: Tensor, token: Tensor, shared: _Shared) -> Tensor:
        maps = _map(frames, weights)
        ctx.save_for_backward(frames, weights, maps)
        ctx.shared = shared
        return maps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        frames, weights, maps = ctx.saved_tensors
        maxima = maps[:, 1].contiguous()
        to_means, to_maxima = grads[0].transpose(0, 1).contiguous()
        to_weights, shares = _map_backward(frames, weights, maxima, to_means, to_maxima)
        if ctx.shared.wanted:
            ctx.shared.map = maxima, to_means, shares
        return None, to_weights, frames.new_zeros(()), None


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        frames: Tensor,
        weights: Tensor,
        marks: Tensor,
        base: Tensor | None,
        maxima: Tensor,
        token: Tensor,
        shared: _Shared,
    ) -> Tensor:
        ctx.save_for_backward(frames, weights, marks, maxima)
        ctx.shared = shared
        return _gate(frames, weights, marks, base)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        frames, weights, marks, maxima = ctx.saved_tensors
        gradient = layout.dense(grads[0], True)
        to_marks, to_weights, ties = _gate_backward(frames, weights, marks, gradient, maxima)
        if ctx.shared.wanted:
            ctx.shared.gate = gradient, ties
        base = grads[0] if ctx.needs_input_grad[3] else None
        return None, to_weights, to_marks, base, None, frames.new_zeros(()), None


@torch.compiler.disable(reason="its passes leave something for each other")
def _differentiable(frames: Tensor, base: Tensor | None, weigh: Weigh, mark: Mark) -> Tensor:
    if torch.compiler.is_exporting():
        return _attend(frames, base, weigh, mark)
    shared = _Shared(frames.requires_grad)
    means, maxima, token = _Pooled.apply(frames, shared)
    weights = weigh(means, maxima).contiguous()
    fixed = frames.detach()  # its gradient comes by way of the pools
    marks = mark(_Mapped.apply(fixed, weights, token, shared)).contiguous()
    shared.weights, shared.marks = weights.detach(), marks.detach()
    return _Gated.apply(fixed, weights, marks, base, maxima.detach(), token, shared)


def attend(frames: Tensor, base: Tensor | None, weigh: Weigh, mark: Mark) -> Tensor:
    """max(frames · weights · marks, 0), added to `base` if given; (T, N, C, H, W) to the same shape.

    Args:
        frames: see `usable`.
        base: of their shape.
        weigh: means and maxima over H and W, both (T, N, C), to weights of that shape.
        mark: mean and maximum of the weighted frames over T and C, (N, 2, H, W), to marks (N, 1, H, W).
    """
    frames = layout.dense(frames, True)
    base = None if base is None else layout.dense(base, True)
    return (_differentiable if torch.is_grad_enabled() else _attend)(frames, base, weigh, mark)


def _attend(frames: Tensor, base: Tensor | None, weigh: Weigh, mark: Mark) -> Tensor:
    weights = weigh(*_pool(frames)).contiguous()
    return _gate(frames, weights, mark(_map(frames, weights)).contiguous(), base)


@torch.library.custom_op("esdnet::conv_of_voxels", mutates_args=())
def conv_of_voxels(voxels: Tensor, weight: Tensor) -> Tensor:
    """A 1×1×1 convolution of single voxels, (N, K, 1, 1, 1), as the product that it is."""
    return F.linear(voxels.flatten(1), weight.flatten(1))[:, :, None, None, None]


@conv_of_voxels.register_fake
def _(voxels: Tensor, weight: Tensor) -> Tensor:
    return voxels.new_empty((len(voxels), len(weight), 1, 1, 1))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _conv_of_voxels_differentiated(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
    voxels, weight = ctx.saved_tensors
    gradient = gradient.flatten(1)
    to_voxels, to_weight = gradient @ weight.flatten(1), gradient.T @ voxels.flatten(1)
    return to_voxels.view(voxels.shape), to_weight.view(weight.shape)


conv_of_voxels.register_autograd(_conv_of_voxels_differentiated, setup_context=_keep)
