"""Frames as blocks of memory, one a step, for kernels that take a neuron by its place in memory and nothing else."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Blocks(NamedTuple):
    """What a kernel takes: steps as blocks of memory, their distance, the constants, and their order."""

    current: Tensor
    stride: int  # elements between steps; 0: the same one T times
    beta: Tensor
    threshold: Tensor
    each: int  # 0: the constants are one number; 1: one for each neuron
    channels_last: bool


def blocks(current: Tensor, beta: Tensor, threshold: Tensor) -> Blocks:
    """(T, N, ...) and its constants as a kernel takes them."""
    channels_last = is_channels_last(current)
    current = dense(current, channels_last, repeated=True)
    stride = current.stride(0) if len(current) > 1 else 0
    return Blocks(current, stride, *constants(beta, threshold, current, channels_last), channels_last)


def sums(like: Tensor, *wanted: bool) -> list[Tensor | None]:
    """For each that is wanted room for one number a neuron, at least float32, laid out as a step of `like`."""
    wide = torch.promote_types(like.dtype, torch.float32)
    return [torch.empty_like(like[0], dtype=wide) if want else None for want in wanted]


def is_channels_last(frames: Tensor) -> bool:
    """Whether every step of (T, N, C, H, W) has its channels side by side."""
    if frames.ndim != 5 or frames.is_contiguous():
        return False
    step = frames[0]
    return not step.is_contiguous() and step.is_contiguous(memory_format=torch.channels_last)


def empty(like: Tensor, channels_last: bool) -> Tensor:
    """Dense and uninitialised, of the shape, type and device of `like`."""
    if not channels_last:
        return torch.empty_like(like, memory_format=torch.contiguous_format)
    T, N, C, H, W = like.shape
    return torch.empty((T, N, H, W, C), dtype=like.dtype, device=like.device).permute(0, 1, 4, 2, 3)


def dense(frames: Tensor, channels_last: bool, repeated: bool = False) -> Tensor:
    """The same values with every step a block of memory in that order.

    With `repeated` the steps may be one and the same block.
    """
    if not channels_last and frames.is_contiguous():
        return frames
    order = torch.channels_last if channels_last else torch.contiguous_format
    step, stride = frames[0], frames.stride(0)
    apart = stride == step.numel() or len(frames) == 1 or (repeated and stride == 0)
    if apart and step.is_contiguous(memory_format=order):
        return frames
    return empty(frames, channels_last).copy_(frames)


def constants(
    beta: Tensor, threshold: Tensor, frames: Tensor, channels_last: bool
) -> tuple[Tensor, Tensor, int]:
    """Both as one number (and 0), or both as one for each neuron of a step, in its order of memory (and 1)."""
    if beta.numel() == threshold.numel() == 1:
        return beta, threshold, 0
    order = torch.channels_last if channels_last else torch.contiguous_format
    beta, threshold = (x.expand(frames.shape[1:]).contiguous(memory_format=order) for x in (beta, threshold))
    return beta, threshold, 1
