"""Mixed attention on a CPU in few passes over the frames (attention.c); nothing of the frames' size is kept but them.

What is small, the gates and the convolution of the maps, stays torch's, forward and backward.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import _get_current_function_mode

from esdnet import layout, native


def library() -> ctypes.CDLL | None:
    """The compiled functions; None where torch's operations serve."""
    return native.compiled("attention.c", "-ffp-contract=fast")


def usable(frames: Tensor) -> bool:
    """Whether `attend` takes these frames: float32, channels last, a fit number of them, and nobody looking on."""
    if not native.plain(frames) or frames.dtype != torch.float32 or frames.numel() == 0:
        return False
    if torch.is_autocast_enabled("cpu") or native.watched() or _get_current_function_mode() is not None:
        return False
    lib = library()
    return lib is not None and layout.is_channels_last(frames) and frames.shape[2] % lib.lanes() == 0


def _call(name: str, *arguments: Tensor | None, shape: torch.Size, parts: int) -> None:
    T, N, C, H, W = shape
    function = getattr(library(), name)
    function(*map(native.address, arguments), *map(ctypes.c_long, (T, N, H * W, C)), parts)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        frames: Tensor,
        base: Tensor | None,
        weigh: Callable[[Tensor, Tensor], Tensor],
        mark: Callable[[Tensor], Tensor],
        learned: tuple[int, int],
        *parameters: Tensor,
    ) -> Tensor:
        T, N, C, H, W = shape = frames.shape
        frames = layout.dense(frames, True)
        base = None if base is None else layout.dense(base, True)
        parts = min(native.threads(frames), H * W)
        sums, maxima = frames.new_empty((2, parts, T, N, C))
        _call("pool", frames, sums, maxima, shape=shape, parts=parts)
        means, maxima = sums.sum(0) / (H * W), maxima.amax(0)
        wanted = any(ctx.needs_input_grad)
        with torch.set_grad_enabled(wanted):
            means.requires_grad_(wanted)
            maxima.requires_grad_(wanted)
            weights = weigh(means, maxima).contiguous()
        maps = frames.new_empty((2, N, H, W))
        _call("map", frames, weights, maps[0], maps[1], shape=shape, parts=parts)
        with torch.set_grad_enabled(wanted):
            seen = maps.transpose(0, 1).contiguous().requires_grad_(wanted)
            marks = mark(seen).contiguous()
        out = layout.empty(frames, True)
        _call("gate", frames, weights, marks, base, out, shape=shape, parts=parts)
        if wanted:
            ctx.save_for_backward(frames)
            ctx.small = means, maxima, weights, maps[1], seen, marks
            ctx.learned, ctx.parameters = learned, parameters
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (frames,) = ctx.saved_tensors
        means, maxima, weights, map_maxima, seen, marks = ctx.small
        T, N, C, H, W = shape = frames.shape
        gradient = layout.dense(grads[0], True)
        parts = min(native.threads(frames), H * W)
        for_weighing, for_marking = ctx.parameters[: ctx.learned[0]], ctx.parameters[ctx.learned[0] :]
        to_marks = torch.empty_like(marks)
        by_gate, ties, by_maps = frames.new_empty((3, parts, T, N, C))
        passing = (frames, weights, marks, gradient)
        _call("gate_back", *passing, maxima, to_marks, by_gate, ties, shape=shape, parts=parts)
        to_seen, *marking = torch.autograd.grad(marks, [seen, *for_marking], to_marks, retain_graph=True)
        to_means, to_maxima = to_seen.transpose(0, 1).contiguous()
        _call("map_back", frames, weights, map_maxima, to_means, to_maxima, by_maps, shape=shape, parts=parts)
        to_weights = by_gate.sum(0) + by_maps.sum(0)
        every, top, *weighing = torch.autograd.grad(
            weights, [means, maxima, *for_weighing], to_weights, retain_graph=True
        )
        every, top = (every / (H * W)).contiguous(), (top / ties.sum(0)).contiguous()
        out = layout.empty(frames, True)
        shared = (map_maxima, to_means, to_maxima, maxima, every, top)
        _call("finish", *passing, *shared, out, shape=shape, parts=parts)
        base = grads[0] if ctx.needs_input_grad[1] else None
        return out, base, None, None, None, *weighing, *marking


def attend(
    frames: Tensor,
    base: Tensor | None,
    weigh: Callable[[Tensor, Tensor], Tensor],
    mark: Callable[[Tensor], Tensor],
    for_weighing: list[Tensor],
    for_marking: list[Tensor],
) -> Tensor:
    """max(frames · weights · marks, 0), added to `base` if given; (T, N, C, H, W) to the same shape.

    Args:
        frames: see `usable`.
        base: of their shape.
        weigh: means and maxima over H and W, both (T, N, C), to weights of that shape.
        mark: mean and maximum of the weighted frames over T and C, (N, 2, H, W), to marks (N, 1, H, W).
        for_weighing, for_marking: the parameters that these two use.
    """
    parameters = (*for_weighing, *for_marking)
    return _Attention.apply(frames, base, weigh, mark, (len(for_weighing), len(for_marking)), *parameters)
