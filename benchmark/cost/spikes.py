"""What flows into a layer: spikes, a few levels, or real values, decided by looking at the tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from benchmark.cost.operators import Geometry, reach

Flow = Literal["binary", "graded", "real", "zero", "unseen"]

_CHUNK = 2**18  # small enough to stay in a core's cache, and for float32 sums of ones to be exact
_SAMPLE = 4096
_LEVELS = 17  # a neuron of up to 16 levels and zero is called graded
_EVIDENCE = 16  # elements of each level before a tensor of unknown origin is called graded


@dataclass(frozen=True)
class Observation:
    """What was seen in one tensor.

    binary: zeros and ones with at least one 1. zero: nothing but zeros, which is evidence of neither. graded:
    at most 16 non-zero levels, among them zero (several-level neurons, spikes times a factor, sums of
    spikes). Anything else is real.
    """

    flow: Flow
    elements: int
    spikes: int = 0  # non-zero elements; for real values not looked for
    levels: tuple[float, ...] = ()
    reached: int | None = None  # outputs reached by the spikes through a convolution, borders respected


def _pieces(tensor: Tensor) -> Iterator[Tensor]:
    """The tensor's elements in flat pieces of bounded size, in memory order where that avoids a copy."""
    dense = tensor.is_contiguous() or torch.ops.aten.is_non_overlapping_and_dense(tensor)
    if dense:
        yield from tensor.as_strided((tensor.numel(),), (1,), tensor.storage_offset()).split(_CHUNK)
    elif tensor.ndim > 1:
        for part in tensor.unbind(0):
            yield from _pieces(part)
    else:
        yield from tensor.reshape(-1).split(_CHUNK)


def observe(
    tensor: Tensor, geometry: Geometry | None = None, from_neuron: bool = False, compared: bool = False
) -> Observation:
    """Look at every element, stopping at the first sign of real values.

    Args:
        tensor: The input of a layer, any shape.
        geometry: Of the convolution it enters, where the outputs that its spikes reach are wanted.
        compared: Whether a comparison made it, so that there is nothing but 0 and 1 to be found.
        from_neuron: Whether it is known to come from neurons; then two elements can be two levels, while a
            handful of real values is not taken for levels otherwise.
    """
    elements = tensor.numel()
    if elements == 0:
        return Observation("zero", 0)
    if tensor.is_complex() or tensor.is_quantized:
        return Observation("real", elements)
    tensor = tensor.detach()
    if not tensor.is_floating_point():
        tensor = tensor.float()
    if compared:
        return _spikes(tensor, geometry)
    levels = _sample(tensor)
    if len(levels) > _LEVELS:
        return Observation("real", elements)
    if levels <= {0.0, 1.0}:
        binary = all(bool(torch.equal(p * p, p)) for p in _pieces(tensor))
        if binary:
            return _spikes(tensor, geometry)
    return _graded(tensor, levels, 1 if from_neuron else _EVIDENCE)


def _sample(tensor: Tensor) -> set[float]:
    flat = next(_pieces(tensor))
    step = max(1, flat.numel() // (_SAMPLE // 2))
    ends = [flat[::step]]
    if tensor.ndim:
        # the first piece may be all border: look across the whole tensor too
        stride = max(1, math.ceil(tensor.numel() / (_SAMPLE // 2)))
        index = torch.arange(0, tensor.numel(), stride, device=tensor.device)
        # torch.unravel_index would do, but it imports a second's worth of symbolic algebra
        places = []
        for size in reversed(tensor.shape):
            places.append(index % size)
            index = index // size
        ends.append(tensor[tuple(reversed(places))])
    return set(torch.cat(ends).unique().tolist())


def _spikes(tensor: Tensor, geometry: Geometry | None) -> Observation:
    elements = tensor.numel()
    if geometry is None:
        spikes = sum(int(p.sum(dtype=torch.float32)) for p in _pieces(tensor))
        return Observation("binary" if spikes else "zero", elements, spikes)
    # ones are summed over batch and channels only: below 2**24 a float32 sum of ones is exact
    where = tensor.sum((0, 1), dtype=torch.float32).double()
    spikes = int(where.sum())
    for axis, size in enumerate(where.shape):
        touched = _touched(geometry, axis, size)
        shape = [1] * where.ndim
        shape[axis] = size
        where = where * touched.to(where).view(shape)
    return Observation(
        "binary" if spikes else "zero", elements, spikes, reached=int(where.sum()) * geometry.channels
    )


def _graded(tensor: Tensor, levels: set[float], evidence: int) -> Observation:
    """Graded if zero and at most 16 other values, each seen often enough, explain every element."""
    elements = tensor.numel()
    seen = dict.fromkeys(levels, 0)
    for piece in _pieces(tensor):
        left = piece.numel()
        for level in seen:
            count = int((piece == level).sum())
            seen[level] += count
            left -= count
        if left:
            values, counts = piece.unique(return_counts=True)
            fresh = {v: n for v, n in zip(values.tolist(), counts.tolist(), strict=True) if v not in seen}
            if len(seen) + len(fresh) > _LEVELS or any(math.isnan(v) for v in fresh):
                return Observation("real", elements)
            seen.update(fresh)
    graded = 0.0 in seen and all(n >= evidence for level, n in seen.items() if level)
    spikes = elements - seen.get(0.0, 0)
    return Observation("graded" if graded and spikes else "real", elements, spikes, tuple(sorted(seen)))


def emitted(tensor: Tensor, compared: bool) -> tuple[int, tuple[float, ...]]:
    """Non-zero elements of what neurons sent out, and its levels as far as a sample shows them."""
    tensor = tensor.detach()
    if compared:
        return sum(int(p.sum(dtype=torch.float32)) for p in _pieces(tensor)), (0.0, 1.0)
    levels = tuple(sorted(_sample(tensor.float())))
    return sum(int(torch.count_nonzero(p)) for p in _pieces(tensor)), levels[:_LEVELS]


def _touched(geometry: Geometry, axis: int, size: int) -> Tensor:
    return reach(
        size,
        geometry.stride[axis],
        geometry.padding[axis],
        geometry.dilation[axis],
        geometry.kernel[axis],
        geometry.output[axis],
        geometry.transposed,
    )


def inside(geometry: Geometry, shape: Sequence[int]) -> int:
    """Products of a convolution of such an input without those with the zeros of its padding."""
    places = [int(_touched(geometry, axis, size).sum()) for axis, size in enumerate(shape[2:])]
    return math.prod([*shape[:2], *places]) * geometry.channels


def effective(tensor: Tensor, geometry: Geometry | None, macs: int) -> int:
    """Products with an element of the input that is not zero, and inside the border."""
    if tensor.is_quantized:
        return macs
    present = (tensor.detach() != 0).to(torch.float32)
    if geometry is None:
        return round(macs * int(sum(int(p.sum()) for p in _pieces(present))) / max(1, tensor.numel()))
    return _spikes(present, geometry).reached or 0
